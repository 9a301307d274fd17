import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import functional as oracle

from baro.functional.preference import (
    apo_zero_unpaired_loss,
    bradley_terry_loss,
    centering_penalty,
    desirable_weight_range,
    dpo_loss,
    hinge_loss,
    ipo_loss,
    kto_kl,
    kto_loss,
    log_odds,
    orpo_loss,
    plackett_luce_loss,
    ranking_pairs,
    regression_loss,
    robust_dpo_loss,
    simpo_loss,
    smoothed_label,
)

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


# ------------------------------------------------------------------------------------------------------ the DPO family

#  the loss, its options                    chosen  rejected  value      d/d chosen  d/d rejected
FAMILY = [
    # h = 1.5, βh = 0.15: σ(0.15) = 0.537430, σ(−0.15) = 0.462570
    (dpo_loss, {"beta": 0.1}, 1.0, -0.5, 0.620957, -0.046257, 0.046257),
    # (0.9 · 0.620957 − 0.1 · 0.770957) / 0.8;  −0.1 · (0.9 · 0.462570 + 0.1 · 0.537430) / 0.8
    (robust_dpo_loss, {"beta": 0.1, "label_smoothing": 0.1}, 1.0, -0.5, 0.602207, -0.058757, 0.058757),
    (hinge_loss, {"beta": 0.1}, 1.0, -0.5, 0.85, -0.1, 0.1),  # 1 − 0.15
    (hinge_loss, {"beta": 1.0}, 1.0, -0.5, 0.0, 0.0, 0.0),  # beyond the margin
    (ipo_loss, {"beta": 0.1}, 1.0, -0.5, 12.25, -7.0, 7.0),  # (1.5 − 5)², 2 · (1.5 − 5)
    (ipo_loss, {"beta": 0.1}, 1.0 / 4, -0.5 / 5, 21.6225, -9.3, 9.3),  # a token: (0.35 − 5)²
    (dpo_loss, {"beta": 0.1}, 1.0 / 4, -0.5 / 5, 0.675800, -0.049125, 0.049125),  # sigmoid_norm: σ(−0.035) = 0.491251
    # z = 2 · (−2 + 1.5) − 1 = −2: log(1 + e²), ∓ 2 σ(2)
    (simpo_loss, {"beta": 2.0, "gamma": 1.0}, -2.0, -1.5, 2.126928, -1.761594, 1.761594),
    # log-odds 0.432752 and −0.541325, z = 0.974077: 0.1 · 0.320300; ∓ 0.1 σ(−z) / (1 − P), P = e^−0.5 and e^−1
    (orpo_loss, {"beta": 0.1}, -0.5, -1.0, 0.0320301, -0.0696547, 0.0433571),
]


@pytest.mark.parametrize(("loss", "options", "chosen", "rejected", "value", "slope_w", "slope_l"), FAMILY)
def test_the_family_by_hand(loss, options, chosen, rejected, value, slope_w, slope_l):
    pair = tensor(chosen).requires_grad_(), tensor(rejected).requires_grad_()
    found = loss(*pair, **options)
    assert found.item() == pytest.approx(value, abs=1e-6)
    slopes = torch.autograd.grad(found.sum(), pair)
    assert [slope.item() for slope in slopes] == pytest.approx([slope_w, slope_l], abs=1e-6)


@pytest.mark.parametrize(("loss", "options"), [case[:2] for case in FAMILY])
@FEW
@given(st.floats(-8, -0.01), st.floats(-8, -0.01), st.floats(0, 1))
def test_a_soft_label_weighs_the_pair_and_its_mirror_image(loss, options, chosen, rejected, p):
    options = {**options, "gamma": 0.0} if "gamma" in options else options  # a margin belongs to the better side
    there, back = loss(tensor(chosen), tensor(rejected), **options), loss(tensor(rejected), tensor(chosen), **options)
    soft = loss(tensor(chosen), tensor(rejected), p_chosen=tensor(p), **options)
    torch.testing.assert_close(soft, p * there + (1 - p) * back, atol=1e-9, rtol=1e-9)


def test_smoothed_labels_by_hand():
    # 0.9 · p + 0.1 · (1 − p)
    assert smoothed_label(tensor(1.0, 0.5, 0.0), label_smoothing=0.1).tolist() == pytest.approx([0.9, 0.5, 0.1])
    for share in (-0.1, 0.5):
        with pytest.raises(ValueError, match=f"label_smoothing is {share}"):
            smoothed_label(tensor(1.0), label_smoothing=share)
        with pytest.raises(ValueError, match=f"label_smoothing is {share}"):
            robust_dpo_loss(tensor(1.0), tensor(0.0), beta=0.1, label_smoothing=share)


@FEW
@given(scores, scores, st.floats(0.01, 0.45))
def test_robust_dpo_is_dpo_in_the_mean_over_flips(chosen, rejected, flipped):
    pair = tensor(chosen), tensor(rejected)
    kept, turned = (robust_dpo_loss(*one, beta=0.1, label_smoothing=flipped) for one in (pair, pair[::-1]))
    torch.testing.assert_close((1 - flipped) * kept + flipped * turned, dpo_loss(*pair, beta=0.1), atol=1e-9, rtol=1e-9)


def test_ipo_with_a_soft_label_has_the_papers_gradient():
    # eq. 17's general form: 2 (h − (2p − 1)/(2β)), here 2 · (1.5 − 0.6 · 5)
    chosen = tensor(1.0).requires_grad_()
    ipo_loss(chosen, tensor(-0.5), beta=0.1, p_chosen=0.8).sum().backward()
    assert chosen.grad.item() == pytest.approx(-3.0)


def test_no_smoothing_at_all_is_allowed():
    assert smoothed_label(tensor(1.0, 0.7), label_smoothing=0.0).tolist() == [1.0, 0.7]
    robust = robust_dpo_loss(tensor(1.0), tensor(-0.5), beta=0.1, label_smoothing=0.0)
    assert robust.item() == pytest.approx(0.620957, abs=1e-6)  # −log σ(0.15)


def test_a_ranking_is_computed_where_its_scores_are():
    scores, rank, group = tensor(0.0, 0.0), torch.tensor([1, 2]), torch.tensor([0, 0])
    with torch.device("meta"):  # where tensors go that are made without a place
        assert plackett_luce_loss(scores, rank, group).tolist() == pytest.approx([0.693147, 0.0], abs=1e-6)


def test_log_odds_keep_their_digits_in_fp32():
    likely = torch.tensor([-1e-6, -1e-5, -0.5])  # where 1 - P in fp32 has lost all digits but one or two
    torch.testing.assert_close(log_odds(likely), torch.tensor([13.8155101, 11.5129205, 0.4327521]), atol=1e-5, rtol=0)


def test_log_odds_near_0_and_1():
    # log P = −50: log(e^−50/(1 − e^−50)) = −50; log P = −1e-5: log(1/1e-5) about 11.512920
    assert log_odds(tensor(-50.0, math.log(0.5), -1e-5)).tolist() == pytest.approx([-50.0, 0.0, 11.512920], abs=1e-6)
    certain = torch.tensor([0.0, -1e-9, -200.0], requires_grad=True)
    values = log_odds(certain)
    assert torch.autograd.grad(values.sum(), certain)[0].isfinite().all()
    assert values.isfinite().all()


# -------------------------------------------------------------------------------------------- the other reward losses


def test_plackett_luce_by_hand():
    # A > B > C with 0.4, 0.5, 0.6: log(e^0.4 + e^0.5 + e^0.6) − 0.4 = 1.201943; log(e^0.5 + e^0.6) − 0.5 = 0.744397
    scores = tensor(0.4, 0.5, 0.6).requires_grad_()
    loss = plackett_luce_loss(scores, torch.tensor([1, 2, 3]), torch.tensor([0, 0, 0]))
    assert loss.tolist() == pytest.approx([1.201943, 0.744397, 0.0], abs=1e-6)
    # softmax over all three is 0.300610 0.332225 0.367165, over the last two 0.475021 0.524979
    (grad,) = torch.autograd.grad(loss.sum(), scores)
    assert grad.tolist() == pytest.approx([-0.699390, -0.192754, 0.892144], abs=1e-5)


def test_plackett_luce_of_two_is_bradley_terry():
    scores = tensor(1.5, 0.2, -0.3, 0.9)
    loss = plackett_luce_loss(scores, torch.tensor([1, 2, 2, 1]), torch.tensor([0, 0, 1, 1]))
    assert loss.tolist() == pytest.approx([0.241008, 0.0, 0.0, 0.263282], abs=1e-6)


def test_equal_ranks_do_not_compete():
    scores = tensor(1.0, 2.0, 0.0)
    loss = plackett_luce_loss(scores, torch.tensor([1, 1, 2]), torch.tensor([0, 0, 0]))
    assert loss.tolist() == pytest.approx([0.313262, 0.126928, 0.0], abs=1e-6)
    nothing = torch.zeros(0, dtype=torch.long)
    assert plackett_luce_loss(torch.zeros(0), nothing, nothing).tolist() == []


def test_regression_by_hand():
    predicted = tensor(0.5, 1.0, -1.0, 2.0).reshape(2, 2).requires_grad_()
    loss = regression_loss(predicted, tensor(1.0, 1.0, 0.0, 0.0).reshape(2, 2))
    assert loss.tolist() == [0.125, 2.5]  # (0.25 + 0)/2, (1 + 4)/2
    (grad,) = torch.autograd.grad(loss.sum(), predicted)
    assert grad.flatten().tolist() == [-0.5, 0.0, -1.0, 2.0]


# --------------------------------------------------------------------------------------------------- single completions

UP, DOWN = tensor(1.0), tensor(0.0)
ratios_of = st.floats(-30, 30)


@pytest.mark.parametrize(
    ("ratio", "label", "z", "loss"),
    [(1.0, 1.0, 0.3, 0.482507), (-0.5, 0.0, 0.3, 0.480011), (1.0, 0.0, 0.3, 0.517493), (0.0, 1.0, 0.0, 0.5)],
)
def test_kto_by_hand(ratio, label, z, loss):
    assert kto_loss(tensor(ratio), tensor(label), z=z, beta=0.1).item() == pytest.approx(loss, abs=1e-6)
    assert kto_loss(tensor(ratio), tensor(label), z=tensor(z), beta=0.1).item() == pytest.approx(loss, abs=1e-6)


def test_kto_weighs_each_kind_and_averages_nothing():
    ratios, labels = tensor(1.0, -0.5, 1.0), tensor(1.0, 0.0, 0.25)
    weights = {"desirable_weight": 3.0, "undesirable_weight": 0.5}
    found = kto_loss(ratios, labels, z=0.3, beta=0.1, **weights)
    # 3 · 0.482507, 0.5 · 0.480011, 0.25 · 3 · 0.482507 + 0.75 · 0.5 · 0.517493
    assert found.tolist() == pytest.approx([1.447521, 0.240005, 0.555940], abs=1e-6)


@pytest.mark.parametrize(
    ("ratio", "up", "down"), [(0.0, 0.5, 0.5), (2.0, 0.450166, 0.549834), (-15.0, 0.817574, 0.182426)]
)
def test_apo_zero_unpaired_by_hand(ratio, up, down):
    # 1 − σ(0.1 r) and σ(0.1 r)
    assert apo_zero_unpaired_loss(tensor(ratio), UP, beta=0.1).item() == pytest.approx(up, abs=1e-6)
    assert apo_zero_unpaired_loss(tensor(ratio), DOWN, beta=0.1).item() == pytest.approx(down, abs=1e-6)
    doubled = apo_zero_unpaired_loss(tensor(ratio), UP, beta=0.1, desirable_weight=2.0, undesirable_weight=9.0)
    assert doubled.item() == pytest.approx(2 * up, abs=2e-6)


@pytest.mark.parametrize(
    ("ratios", "z"),
    [([0.5, 1.5, -0.2], 0.6), ([-1.0], 0.0), ([-3.0, 2.0], 0.0), ([0.3], 0.3), ([1e16, 1.0, -1e16], 1 / 3)],
)
def test_the_reference_point_is_a_mean_that_is_never_below_zero(ratios, z):
    assert kto_kl(ratios) == pytest.approx(z, abs=1e-12)


def test_the_reference_point_of_nothing_is_refused():
    with pytest.raises(ValueError, match="z is a mean over mismatched pairs, and there is none"):
        kto_kl([])


@FEW
@given(st.lists(ratios_of, min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_the_reference_point_is_bit_for_bit_the_same_in_any_order(ratios, random):
    shuffled = random.sample(ratios, len(ratios))
    assert kto_kl(shuffled) == kto_kl(ratios)


@FEW
@given(st.floats(-15, 15), st.floats(0, 5), st.floats(0.05, 1))  # beyond, the slope is below what fp64 can say
def test_finite_differences_say_raise_thumbs_up_and_lower_thumbs_down(ratio, z, beta):
    h = 1e-5
    for label, sign in ((UP, -1), (DOWN, 1)):
        for loss in (
            lambda r: kto_loss(r, label, z=z, beta=beta),  # noqa: B023
            lambda r: apo_zero_unpaired_loss(r, label, beta=beta),  # noqa: B023
        ):
            slope = (loss(tensor(ratio + h)) - loss(tensor(ratio - h))).item() / (2 * h)
            at = tensor(ratio).requires_grad_()
            (gradient,) = torch.autograd.grad(loss(at).sum(), at)
            assert gradient.item() == pytest.approx(slope, abs=1e-6)
            assert sign * gradient.item() > 0


@FEW
@given(ratios_of, st.floats(0, 10), st.floats(0, 1))
def test_a_soft_thumb_is_linear_and_an_even_one_holds_the_policy_where_it_is(ratio, z, label):
    ends = [kto_loss(tensor(ratio), one, z=z, beta=0.2).item() for one in (UP, DOWN)]
    soft = kto_loss(tensor(ratio), tensor(label), z=z, beta=0.2).item()
    assert soft == pytest.approx(label * ends[0] + (1 - label) * ends[1], abs=1e-12)
    at = tensor(ratio).requires_grad_()
    (gradient,) = torch.autograd.grad(kto_loss(at, tensor(0.5), z=z, beta=0.2).sum(), at)
    assert gradient.item() == pytest.approx(0.0, abs=1e-15)


def test_kto_saturates_without_nan():
    at = tensor(1e6, -1e6).requires_grad_()
    for label in (1.0, 0.0):
        loss = kto_loss(at, tensor(label, label), z=0.0, beta=1.0)
        assert sorted(loss.tolist()) == [0.0, 1.0]
        assert torch.autograd.grad(loss.sum(), at)[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("up", "down", "weight", "low", "high"),
    [
        (1.0, 10.0, 1.0, 10.0, 13.333333),
        (10.0, 1.0, 1.0, 0.1, 0.133333),
        (7.0, 7.0, 1.0, 1.0, 1.333333),
        (4.0, 6.0, 2.0, 3.0, 4.0),
    ],
)
def test_the_recommended_weight_by_hand(up, down, weight, low, high):
    found = desirable_weight_range(up, down, undesirable_weight=weight)
    assert found == pytest.approx((low, high), abs=1e-6)
