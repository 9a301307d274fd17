import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import functional as oracle

from baro.functional.preference import bradley_terry_loss, centering_penalty, dpo_loss, ranking_pairs

FEW = settings(max_examples=40, deadline=None, derandomize=True)
scores = st.floats(-50, 50)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("gap", "loss"), [(0.0, 0.693147), (1.0, 0.313262), (-1.0, 1.313262), (2.0, 0.126928), (1.6, 0.183901)]
)
def test_bradley_terry_by_hand(gap, loss):
    assert bradley_terry_loss(tensor(gap + 3), tensor(3.0)).item() == pytest.approx(loss, abs=1e-6)


@pytest.mark.parametrize(
    ("chosen", "rejected", "margin", "loss"),
    [
        (1.5, 0.5, 1 / 3, 0.414370),
        (1.5, 0.5, 2 / 3, 0.540306),
        (1.5, 0.5, 1.0, 0.693147),
        (1.5, 0.5, 3.0, 2.126928),
        (1.5, 0.2, 0.0, 0.241008),
        (1.5, 0.2, 0.5, 0.371101),
    ],
)
def test_margin_by_hand(chosen, rejected, margin, loss):
    expected = pytest.approx(loss, abs=1e-6)
    assert bradley_terry_loss(tensor(chosen), tensor(rejected), margin=margin).item() == expected
    assert bradley_terry_loss(tensor(chosen), tensor(rejected), margin=tensor(margin)).item() == expected


def test_centering_by_hand():
    assert centering_penalty(tensor(1.5), tensor(0.5)).item() == 4.0
    for rejected, total in [(0.5, 0.353262), (0.2, 0.269908)]:
        pair = tensor(1.5), tensor(rejected)
        assert (bradley_terry_loss(*pair) + 0.01 * centering_penalty(*pair)).item() == pytest.approx(total, abs=1e-6)


def test_soft_labels_by_hand():
    # gap 1.5 − 0.5 = 1: 0.75 · 0.313262 + 0.25 · 1.313262
    loss = bradley_terry_loss(tensor(1.5, 1.5), tensor(0.5, 0.5), p_chosen=tensor(0.75, 0.5))
    assert loss.tolist() == pytest.approx([0.563262, 0.813262], abs=1e-6)
    assert bradley_terry_loss(tensor(1.5), tensor(0.5), p_chosen=0.75).item() == pytest.approx(0.563262, abs=1e-6)


def test_soft_label_is_least_where_the_model_agrees_with_it():
    gap = torch.tensor([math.log(0.7 / 0.3)], dtype=torch.float64, requires_grad=True)
    bradley_terry_loss(gap, tensor(0.0), p_chosen=0.7).sum().backward()
    assert gap.grad.item() == pytest.approx(0.0, abs=1e-12)


def test_one_value_per_pair_and_no_average():
    loss = bradley_terry_loss(tensor(0.0, 1.0, 2.0), tensor(0.0, 0.0, 0.0))
    assert loss.tolist() == pytest.approx([0.693147, 0.313262, 0.126928], abs=1e-6)


@FEW
@given(st.lists(st.tuples(scores, scores), min_size=1, max_size=6), st.floats(-1e3, 1e3))
def test_bradley_terry_does_not_see_a_shift(pairs, shift):
    chosen, rejected = torch.tensor(pairs, dtype=torch.float64).T
    torch.testing.assert_close(
        bradley_terry_loss(chosen, rejected), bradley_terry_loss(chosen + shift, rejected + shift), atol=1e-9, rtol=1e-9
    )


@FEW
@given(scores, scores, st.floats(0, 1))
def test_swapping_a_pair_and_its_label_changes_nothing(chosen, rejected, p):
    there = bradley_terry_loss(tensor(chosen), tensor(rejected), p_chosen=p)
    back = bradley_terry_loss(tensor(rejected), tensor(chosen), p_chosen=1 - p)
    torch.testing.assert_close(there, back, atol=1e-9, rtol=1e-9)


@FEW
@given(st.floats(-15, 15), st.floats(-15, 15))
def test_finite_differences_say_raise_the_chosen_and_lower_the_rejected(chosen, rejected):
    def loss(w, r):
        return bradley_terry_loss(tensor(w), tensor(r)).item()

    h = 1e-4
    slope_w = (loss(chosen + h, rejected) - loss(chosen - h, rejected)) / (2 * h)
    slope_l = (loss(chosen, rejected + h) - loss(chosen, rejected - h)) / (2 * h)
    assert slope_w < 0 < slope_l
    pair = tensor(chosen).requires_grad_(), tensor(rejected).requires_grad_()
    grads = torch.autograd.grad(bradley_terry_loss(*pair).sum(), pair)
    assert [g.item() for g in grads] == pytest.approx([slope_w, slope_l], abs=1e-6)


@pytest.mark.parametrize("loss", [bradley_terry_loss, lambda w, r, **k: dpo_loss(w, r, beta=1.0, **k)])
@pytest.mark.parametrize("p_chosen", [0.0, 0.5, 1.0])
def test_huge_gaps_give_no_nan(loss, p_chosen):
    chosen = torch.tensor([1e4, -1e4, 0.0], requires_grad=True)
    values = loss(chosen, torch.zeros(3), p_chosen=p_chosen)
    expected = [1e4 * (1 - p_chosen), 1e4 * p_chosen, 0.693147]
    assert values.tolist() == pytest.approx(expected, abs=1e-6)
    assert torch.autograd.grad(values.sum(), chosen)[0].isfinite().all()


def weighted_loss(score, rank, group_of):
    better, worse, weight = ranking_pairs(torch.tensor(rank), torch.tensor(group_of))
    return (weight * bradley_terry_loss(score[better], score[worse])).sum()


@pytest.mark.parametrize(
    ("score", "rank", "loss"),
    [
        ((2.0, 1.0, 0.0, -1.0), (1, 2, 3, 4), 0.207038),
        ((0.4, 0.5, 0.6), (1, 2, 3), 0.762311),  # people say A > B > C, the model has C > B > A
        ((0.8, 0.5, 0.1), (1, 2, 3), 0.490186),  # after training it agrees
        ((0.5, 0.5, 0.5), (1, 2, 3), 0.693147),
        ((1.0, 0.5, 0.0), (1, 2, 3), 0.420472),  # scores squashed into 0..1 cannot do better
    ],
)
def test_mean_over_the_pairs_of_a_ranking_by_hand(score, rank, loss):
    score = torch.tensor(score, requires_grad=True)
    value = weighted_loss(score, rank, [0] * len(rank))
    assert value.item() == pytest.approx(loss, abs=1e-6)
    grad = torch.autograd.grad(value, score)[0]
    assert grad[0] < 0 < grad[-1]


def test_ranking_pairs_by_hand():
    #  completion   0  1  2  3  4  5  6
    #  prompt       a  a  b  a  b  c  c
    rank = torch.tensor([2, 1, 1, 2, 2, 1, 1])
    group_of = torch.tensor([0, 0, 1, 0, 1, 2, 2])
    better, worse, weight = ranking_pairs(rank, group_of)
    assert better.tolist() == [1, 1, 2]  # 0 and 3 tie, and so do 5 and 6: prompt c has no pair
    assert worse.tolist() == [0, 3, 4]
    assert weight.tolist() == [0.5, 0.5, 1.0]


def test_a_prompt_weighs_one_however_many_completions_it_has():
    single = weighted_loss(torch.tensor([2.0, 1.0, 0.0, -1.0]), (1, 2, 3, 4), (0, 0, 0, 0))
    pair = weighted_loss(torch.tensor([1.0, 0.0]), (1, 2), (0, 0))
    both = weighted_loss(torch.tensor([2.0, 1.0, 1.0, 0.0, 0.0, -1.0]), (1, 1, 2, 2, 3, 4), (0, 1, 0, 1, 0, 0))
    assert both.item() == pytest.approx(single.item() + pair.item(), abs=1e-6)


def test_no_completions_give_no_pairs():
    better, worse, weight = ranking_pairs(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long))
    assert len(better) == len(worse) == len(weight) == 0


@FEW
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), max_size=12))
def test_ranking_pairs_match_the_oracle(completions):
    rank, group_of = [c[0] for c in completions], [c[1] for c in completions]
    better, worse, weight = ranking_pairs(
        torch.tensor(rank, dtype=torch.long), torch.tensor(group_of, dtype=torch.long)
    )
    found = {(b, w): x for b, w, x in zip(better.tolist(), worse.tolist(), weight.tolist(), strict=True)}
    assert found == pytest.approx(oracle.pairs_of_rankings(rank, group_of))


def test_dpo_by_hand():
    # log π: chosen −10, rejected −12; reference −11 and −11.5; h = 1 − (−0.5) = 1.5
    ratios = tensor(-10.0 + 11.0).requires_grad_(), tensor(-12.0 + 11.5).requires_grad_()
    loss = dpo_loss(*ratios, beta=0.1)
    assert loss.item() == pytest.approx(0.620957, abs=1e-6)
    # ∓ β σ(−βh) = ∓ 0.1 · 0.462570
    grads = torch.autograd.grad(loss.sum(), ratios)
    assert [g.item() for g in grads] == pytest.approx([-0.046257, 0.046257], abs=1e-6)


def test_conservative_dpo_by_hand():
    assert dpo_loss(tensor(1.0), tensor(-0.5), beta=0.1, p_chosen=0.9).item() == pytest.approx(0.635957, abs=1e-6)
    rows = dpo_loss(tensor(1.0, 1.0), tensor(-0.5, -0.5), beta=0.1, p_chosen=tensor(1.0, 0.9))
    assert rows.tolist() == pytest.approx([0.620957, 0.635957], abs=1e-6)


@FEW
@given(scores, scores, st.floats(0, 1))
def test_dpo_with_beta_towards_zero_is_ln_2(chosen, rejected, p):
    loss = dpo_loss(tensor(chosen), tensor(rejected), beta=1e-12, p_chosen=p)
    assert loss.item() == pytest.approx(math.log(2), abs=1e-9)


@FEW
@given(scores, st.floats(0.01, 5.0))
def test_dpo_at_the_reference_is_ln_2_for_every_beta(logratio, beta):
    assert dpo_loss(tensor(logratio), tensor(logratio), beta=beta).item() == pytest.approx(math.log(2), abs=1e-12)


def test_dpo_does_not_see_where_an_unseen_answer_goes():
    # Xu et al. 2024, Table 1: with the rejected answer at probability 0, the loss is 0 whether the chosen one keeps
    # all of the mass or loses 0.9 of it to an answer in no pair.
    ref, rejected = math.log(0.5), math.log(1e-300)
    for chosen in (1.0, 0.1):
        loss = dpo_loss(tensor(math.log(chosen) - ref), tensor(rejected - ref), beta=0.5)
        assert loss.item() == pytest.approx(0.0, abs=1e-12)
