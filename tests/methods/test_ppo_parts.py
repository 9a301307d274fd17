"""What PPO may have besides its core, each by numbers: normalised scores, a reference that moves, ptx, pretraining."""

import pytest
import tiny
import torch

from baro.batch import Sample, branch
from baro.collate import collate
from baro.config import load_config
from baro.errors import ConfigError
from baro.methods import ppo
from baro.methods.shaping import MovingReference, Scores
from baro.models.forward import ScoredModel
from baro.online_config import KlConfig, RewardShapingConfig
from baro.protocols import LocalWorld
from baro.reward_config import RewardTerm

WORLD = LocalWorld()


def scored(*fields: dict) -> list[Sample]:
    return [Sample(torch.tensor([1]), (branch([2]).with_(fields={"finished": 1.0, **one}),)) for one in fields]


def test_scores_by_the_mean_and_deviation_of_all_so_far():
    """1, 3: mean 2, variance 2. Then 5, 3 beside them: mean 3, variance 8/3."""
    scores = Scores(RewardShapingConfig(normalise="sum"), [])
    first = scores(scored({"score": 1.0}, {"score": 3.0}), WORLD)
    assert first.tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5])
    again = Scores(RewardShapingConfig(normalise="sum"), [])
    again.load_state_dict(scores.state_dict())
    for one in (scores, again):
        second = one(scored({"score": 5.0}, {"score": 3.0}), WORLD)
        assert second.tolist() == pytest.approx([2 / (8 / 3) ** 0.5, 0.0])


def test_each_term_by_its_own_and_one_without_an_opinion_counts_as_its_mean():
    """Two terms that say the same in other units cancel; without normalising the larger would decide."""
    terms = [RewardTerm(by="m:a", weight=1.0), RewardTerm(by="m:b", weight=-1.0)]
    each = Scores(RewardShapingConfig(normalise="each"), terms)
    rows = [{"score": 0.0, "score/a": a, "score/b": 100 * a} for a in (1.0, 3.0)]
    assert each(scored(*rows), WORLD).tolist() == pytest.approx([0.0, 0.0], abs=1e-4)
    nan = float("nan")
    found = Scores(RewardShapingConfig(normalise="each"), terms)(
        scored({"score/a": 1.0, "score/b": nan}, {"score/a": 3.0, "score/b": nan}), WORLD
    )
    assert found.tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5])


@pytest.mark.parametrize(
    ("kl", "expected"),
    [
        ({}, [1.0, 1.0, 1.0, 1.0]),
        ({"reference": "ema", "ema_decay": 0.75}, [1.0, 1.5, 1.875, 2.15625]),
        ({"reference": "refresh", "refresh_every": 2}, [1.0, 1.0, 3.0, 3.0]),
    ],
)
def test_the_reference_moves_before_every_rollout_but_the_first(kl, expected):
    policy, ref_policy = ScoredModel(tiny.llama()), ScoredModel(tiny.llama())
    for model, value in ((policy, 3.0), (ref_policy, 1.0)):
        for parameter in model.parameters():
            parameter.data.fill_(value)
    moving = MovingReference(ref_policy, policy, KlConfig(**kl))
    states = []
    for value in expected:
        moving.move(WORLD)
        assert all(bool((p == value).all()) for p in ref_policy.parameters())
        states.append(moving.state_dict())
    resumed = MovingReference(ScoredModel(tiny.llama()), policy, KlConfig(**kl))
    for state, value in zip(states, expected, strict=True):
        if state["weights"]:  # what was taken before stays what it was
            resumed.load_state_dict(state)
            assert all(bool((p == value).all()) for p in resumed.ref_policy.parameters())
            assert resumed.rollouts == state["rollouts"]


@pytest.mark.parametrize("reference", ["ema", "refresh"])
def test_a_reference_of_another_shape_cannot_follow_the_policy(reference):
    wide = ScoredModel(tiny.llama(intermediate_size=32))
    with pytest.raises(ConfigError, match=f"kl.reference: {reference} mixes .* leave ref_policy out"):
        MovingReference(wide, ScoredModel(tiny.llama()), KlConfig(reference=reference))
    MovingReference(wide, ScoredModel(tiny.llama()), KlConfig())  # a fixed one may have any


def objective(**changes) -> tuple[ppo.Objective, ScoredModel, ScoredModel]:
    policy, value_model = ScoredModel(tiny.llama()), ScoredModel(tiny.llama_scalar())
    config = ppo.Config(policy="-", prompts="-", reward_model="-", **changes)
    return ppo.Objective(policy, value_model, config), policy, value_model


def test_demonstrations_pull_as_sft_does_times_their_weight():
    made, policy, value_model = objective(ptx={"demonstrations": "-", "coef": 2.5})
    samples = [Sample(torch.tensor([1, 2]), (branch([3, 4, 5]),)), Sample(torch.tensor([6]), (branch([7]),))]
    (batch,) = collate(samples, micro_batch_tokens=100, hidden_size=16, term="ptx")
    (output,) = made.losses(batch, {"tokens": 4.0})
    output.loss.backward()
    logprobs = policy(batch, ["logprobs"]).logprobs
    nll = -float(logprobs.detach().mean())
    assert float(output.loss.detach()) == pytest.approx(2.5 * nll)
    assert float(output.metrics["loss/ptx"][0]) / 4 == pytest.approx(nll)
    found = [p.grad.clone() for p in policy.parameters()]
    policy.zero_grad()
    (-logprobs.mean()).backward()
    for grad, p in zip(found, policy.parameters(), strict=True):
        torch.testing.assert_close(grad, 2.5 * p.grad)
    assert all(p.grad is None for p in value_model.parameters())


@pytest.mark.parametrize(("rollout", "moves"), [(0.0, False), (1.0, False), (2.0, True)])
def test_the_policy_waits_while_values_are_pretrained(rollout, moves):
    made, policy, value_model = objective(value={"pretrain_rollouts": 2})
    fields = {"old_logprobs": torch.full((2,), -3.0), "advantages": torch.ones(2), "values": torch.zeros(2)}
    one = branch([3, 4]).with_(
        token_fields={**fields, "returns": torch.ones(2)}, fields={"rollout": rollout, "kl": 0.0}
    )
    (batch,) = collate([Sample(torch.tensor([1]), (one,))], micro_batch_tokens=100, hidden_size=16, term="rollout")
    for output in made.losses(batch, {"tokens": 2.0}):
        output.loss.backward()
    assert any(bool(p.grad.abs().sum() > 0) for p in policy.parameters()) is moves
    assert any(bool(p.grad.abs().sum() > 0) for p in value_model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kl": {"ema_decay": 0.5}}, "ema_decay belongs to reference: ema, and reference is fixed"),
        ({"kl": {"reference": "ema", "refresh_every": 5}}, "refresh_every belongs to reference: refresh"),
        ({"kl": {"reference": "ema"}, "lora": {"r": 2}}, "lora has its reference in the policy"),
        (
            {"kl": {"reference": "refresh"}, "evaluation": {"prompts": "-", "judge": "m:j"}},
            "compares with one that stays",
        ),
        ({"ptx": {"coef": 2.0}}, "ptx.coef is about demonstrations; give ptx.demonstrations"),
        ({"value": {"pretrain_rollouts": 1}, "trainer": {"weight_decay": 0.1}}, "weight_decay would move the policy"),
        ({"value": {"pretrain_rollouts": 1}, "ptx": {"demonstrations": "-"}}, "ptx would move the policy"),
        (
            {"evaluation": {"prompts": "-", "judge": "m:j", "rewards": [{"by": "m:r", "name": "win_rate"}]}},
            "two metrics of evaluation are called 'win_rate'",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        load_config(ppo.Config, None, values={"policy": "-", "prompts": "-", "reward_model": "-", **changes})
