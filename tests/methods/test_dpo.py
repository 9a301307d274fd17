"""The DPO family through its objective: literal losses from given log-probs, layouts, the reference and its cache."""

import json

import pytest
import tiny
import torch

from baro.batch import Sample, branch
from baro.collate import collate
from baro.config import DataConfig, TrainerConfig, load_config
from baro.data.new_tokenizer import train_tokenizer
from baro.data.template import Template
from baro.errors import ConfigError
from baro.methods import dpo, reference
from baro.models.forward import Outputs, ScoredModel
from baro.models.load import Architecture, new_policy, save_policy

OPTIONS = {"robust": {"label_smoothing": 0.1}}


def config_of(**changes) -> dpo.Config:
    return dpo.Config(policy="p", preferences="q", **OPTIONS.get(changes.get("loss"), {}) | changes)


def pair(chosen: list[int], rejected: list[int], prompt: list[int], p_chosen: float = 1.0, ref=None) -> Sample:
    """A pair as ``encode_comparisons`` makes it; ``ref``: the reference's log-probs of both sides."""
    units = {"prompts": 1.0, "chosen_tokens": float(len(chosen))}
    better = branch(chosen).with_(fields={"rank": 1.0, "p_chosen": p_chosen}, units=units)
    worse = branch(rejected).with_(fields={"rank": 2.0, "p_chosen": p_chosen})
    if ref is not None:
        tokens = [{"ref_logprobs": torch.tensor(one, dtype=torch.float64)} for one in ref]
        better, worse = better.with_(token_fields=tokens[0]), worse.with_(token_fields=tokens[1])
    return Sample(torch.tensor(prompt), (better, worse))


class Given:
    """A model whose log-probs are given."""

    def __init__(self, logprobs: list[float]) -> None:
        self.logprobs = torch.tensor(logprobs, dtype=torch.float64, requires_grad=True)

    def __call__(self, batch, outputs):
        return Outputs(logprobs=self.logprobs)


def loss_of(sample: Sample, logprobs: list[float], config: dpo.Config) -> tuple[float, list[float], dict]:
    (batch,) = collate([sample], micro_batch_tokens=100, hidden_size=16)
    model = Given(logprobs)
    (output,) = dpo.Objective(model, config).losses(batch, batch.units)
    output.loss.backward()
    return output.loss.item(), model.logprobs.grad.tolist(), output.metrics


# log-ratios of the chosen completion's 4 tokens sum to 1.0, of the rejected one's 5 to −0.5
LOGPROBS = [-1.0, -2.0, -0.5, -0.5, -1.0, -1.0, -1.0, -1.0, -1.0]
REF = [[-1.5, -2.5, -0.5, -0.5], [-1.0, -1.0, -1.0, -0.5, -1.0]]


@pytest.mark.parametrize(
    ("changes", "loss", "slopes"),
    [
        # a chosen token's gradient, and a rejected one's
        ({"loss": "sigmoid"}, 0.620957, (-0.046257, 0.046257)),
        (
            {"loss": "sigmoid", "label_smoothing": 0.1},
            0.635957,
            (-0.036257, 0.036257),
        ),  # 0.9 · 0.620957 + 0.1 · 0.770957
        ({"loss": "robust"}, 0.602207, (-0.058757, 0.058757)),
        ({"loss": "hinge"}, 0.85, (-0.1, 0.1)),
        ({"loss": "ipo_sum"}, 12.25, (-7.0, 7.0)),
        ({"loss": "ipo"}, 21.6225, (-9.3 / 4, 9.3 / 5)),
        ({"loss": "sigmoid_norm", "beta": 0.1}, 0.675800, (-0.049125 / 4, 0.049125 / 5)),
        # averages −1.0 and −1.0: z = −γ = −1: log(1 + e), ∓ 2 σ(1)
        ({"loss": "simpo"}, 1.313262, (-1.462117 / 4, 1.462117 / 5)),
        ({"loss": "simpo", "gamma": 0.0}, 0.693147, (-1.0 / 4, 1.0 / 5)),
        # equal odds: 0.1 · log 2, ∓ 0.1 · 0.5 / (1 − e^−1); the SFT term adds 4 / 4 and −1/4 a chosen token
        ({"loss": "orpo"}, 0.0693147 + 1.0, (-0.079099 / 4 - 0.25, 0.079099 / 5)),
        ({"loss": "orpo", "sft_coef": 0.5}, 0.0693147 + 0.5, (-0.079099 / 4 - 0.125, 0.079099 / 5)),
        ({"loss": "sigmoid", "sft_coef": 0.1}, 0.620957 + 0.1, (-0.046257 - 0.1 / 4, 0.046257)),
    ],
)
def test_every_loss_by_hand(changes, loss, slopes):
    config = config_of(**changes)
    ref = REF if dpo.FORMS[config.loss].reference else None
    sample = pair([3, 4, 5, 6], [7, 8, 9, 10, 11], [1, 2], ref=ref)
    found, grad, metrics = loss_of(sample, LOGPROBS, config)
    assert found == pytest.approx(loss, abs=1e-6)
    assert grad == pytest.approx([slopes[0]] * 4 + [slopes[1]] * 5, abs=1e-6)
    assert ("nll" in metrics) == (config.sft_coef > 0)


def test_rewards_are_beta_times_what_the_loss_compares():
    sample = pair([3, 4, 5, 6], [7, 8, 9, 10, 11], [1, 2], ref=REF)
    for name, chosen, rejected in (("sigmoid", 0.1, -0.05), ("ipo", 0.025, -0.01)):
        _, _, metrics = loss_of(sample, LOGPROBS, config_of(loss=name))
        assert float(metrics["rewards/chosen"][0]) == pytest.approx(chosen)
        assert float(metrics["rewards/rejected"][0]) == pytest.approx(rejected)
        assert float(metrics["logps/chosen"][0]) == pytest.approx(-4.0)


PAIRS = [
    pair([3, 4, 5], [6, 7], [1, 2], ref=([-3.0, -2.5, -3.0], [-3.1, -3.0])),
    pair([8], [9, 10, 11, 12], [3], ref=([-3.3], [-3.0, -2.0, -3.5, -3.2])),
    pair([5, 5], [6], [4, 2, 1, 7], p_chosen=0.8, ref=([-2.0, -3.0], [-4.0])),
    pair([13, 2, 2, 9, 1], [14, 3, 8], [2, 6], p_chosen=0.5, ref=([-3.0] * 5, [-2.9] * 3)),
]


@pytest.mark.parametrize("name", dpo.FORMS)
def test_no_layout_changes_the_gradient(name):
    def gradient(samples: list[Sample], budget: int, per_row: int) -> list[torch.Tensor]:
        objective = dpo.Objective(ScoredModel(tiny.llama()), config_of(loss=name, sft_coef=0.3))
        batches = collate(samples, micro_batch_tokens=budget, hidden_size=16, per_row=per_row)
        totals = {unit: sum(batch.units[unit] for batch in batches) for unit in ("prompts", "chosen_tokens")}
        for batch in batches:
            for output in objective.losses(batch, totals):
                output.loss.backward()
        return [parameter.grad for parameter in objective.policy.parameters()]

    whole = gradient(PAIRS, 10**6, 1)
    assert any(one.norm() > 0 for one in whole)
    for budget, per_row in ((1, 2), (20, 1), (20, 2), (10**6, 2)):
        for a, b in zip(gradient(PAIRS[::-1], budget, per_row), whole, strict=True):
            assert (a - b).norm() <= 1e-9 * max(float(b.norm()), 1e-6)


@pytest.mark.parametrize("name", dpo.FORMS)
def test_a_ranking_is_the_mean_over_the_pairs_that_it_implies(name):
    """Ranks 1, 2, 2, 3: five pairs, each completion computed once."""
    rng = torch.Generator().manual_seed(5)
    ids, ranks = ([3, 4, 5], [6, 7], [8], [9, 10, 11, 12]), (2, 1, 3, 2)
    refs = [-2 - torch.rand(len(one), generator=rng, dtype=torch.float64) for one in ids]

    def gradient(samples: list[Sample]) -> tuple[float, list[torch.Tensor]]:
        objective = dpo.Objective(ScoredModel(tiny.llama()), config_of(loss=name, sft_coef=0.0))
        batches = collate(samples, micro_batch_tokens=10**6, hidden_size=16)
        totals = {"prompts": sum(batch.units["prompts"] for batch in batches)}
        losses = [output.loss for batch in batches for output in objective.losses(batch, totals)]
        sum(losses).backward()
        return float(sum(losses).detach()), [parameter.grad for parameter in objective.policy.parameters()]

    completions = []
    for position, (tokens, rank, ref) in enumerate(zip(ids, ranks, refs, strict=True)):
        made = branch(tokens).with_(
            fields={"rank": float(rank), "p_chosen": 1.0}, units={"prompts": float(position == 0)}
        )
        completions.append(made.with_(token_fields={"ref_logprobs": ref}))
    ranking = Sample(torch.tensor([1, 2]), tuple(completions))
    pairs = [
        pair(ids[i], ids[j], [1, 2], ref=(refs[i].tolist(), refs[j].tolist()))
        for i, j in ((0, 2), (1, 0), (1, 2), (1, 3), (3, 2))
    ]
    loss, slopes = gradient([ranking])
    expected, expected_slopes = gradient(pairs)
    assert loss == pytest.approx(expected, rel=1e-7)  # the weights are in fp32
    for a, b in zip(slopes, expected_slopes, strict=True):
        assert (a - b).norm() <= 1e-7 * max(float(b.norm()), 1e-6)


def test_the_sft_term_of_a_ranking_is_that_of_its_best_completions():
    found, grad, _ = loss_of(
        Sample(
            torch.tensor([1, 2]),
            (
                branch([3, 4]).with_(fields={"rank": 2.0, "p_chosen": 1.0}, units={"prompts": 1.0}),
                branch([5]).with_(fields={"rank": 1.0, "p_chosen": 1.0}, units={"chosen_tokens": 1.0}),
                branch([6]).with_(fields={"rank": 2.0, "p_chosen": 1.0}),
            ),
        ),
        [-1.0, -1.0, -2.0, -2.0],
        config_of(loss="simpo", gamma=0.0, sft_coef=0.5),
    )
    # averages −1, −2, −2: z = −1 and 0, so the mean of log(1 + e^2) and log 2; then half of the best one's 2 nats
    assert found == pytest.approx((2.126928 + 0.693147) / 2 + 0.5 * 2.0, abs=1e-6)
    assert grad[2] == pytest.approx(-(0.880797 * 2 + 0.5 * 2) / 2 - 0.5, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"loss": "simpo", "ref_policy": "x"}, "loss simpo has no reference; leave ref_policy out"),
        ({"loss": "ipo", "gamma": 1.0}, "gamma is simpo's margin, and loss is ipo; leave gamma out"),
        ({"loss": "robust"}, "loss robust needs label_smoothing above 0; without flipped labels it is sigmoid"),
        ({"loss": "conservative"}, "loss"),
        ({"label_smoothing": 0.5}, "label_smoothing"),
    ],
)
def test_what_does_not_fit_together_is_one_sentence(values, sentence):
    with pytest.raises(ConfigError, match=sentence) as caught:
        load_config(dpo.Config, None, values={"policy": "p", "preferences": "q", **values})
    assert "\n" not in str(caught.value)


def test_each_loss_has_its_own_beta_unless_told():
    betas = {name: config_of(loss=name).beta for name in dpo.FORMS}
    assert betas == dict.fromkeys(dpo.FORMS, 0.1) | {"sigmoid_norm": 5.0, "simpo": 2.0}
    assert config_of(loss="simpo", beta=2.5).beta == 2.5
    assert (config_of(loss="simpo").gamma, config_of().gamma) == (1.0, None)
    assert (config_of(loss="orpo").sft_coef, config_of(loss="orpo", sft_coef=0.0).sft_coef) == (1.0, 0.0)


# ----------------------------------------------------------------------------------------------------------- whole runs


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A tiny untrained policy, and pairs in which the kind answer is chosen."""
    folder = tmp_path_factory.mktemp("dpo")
    rows = [
        {"prompt": f"Say {word} to {name}.", "chosen": f"{word}, dear {name}!", "rejected": f"{word}."}
        for word in ("hi", "bye", "thanks", "welcome")
        for name in ("Mina", "Jun", "Sora", "Alex")
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    template = Template(train_tokenizer([" ".join(row.values()) for row in rows], 300), "plain")
    shape = Architecture(hidden_size=16, layers=1, heads=2, max_positions=96, intermediate_size=24)
    save_policy(new_policy(shape, vocabulary=template.vocabulary, special=template.special, seed=0), folder / "policy")
    template.save(folder / "policy")
    return {"policy": str(folder / "policy"), "preferences": str(folder / "pairs.jsonl")}


@pytest.mark.parametrize("name", dpo.FORMS)
def test_every_loss_learns_and_only_some_need_a_reference(name, inputs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loads = []
    load = dpo.load_policy
    for module in (dpo, reference):
        monkeypatch.setattr(module, "load_policy", lambda *a, **k: loads.append(a) or load(*a, **k))
    trainer = TrainerConfig(learning_rate=0.01, steps=8, batch_size=8, held_out_fraction=0.25)
    config = dpo.Config(**inputs, loss=name, trainer=trainer, data=DataConfig(max_length=96), **OPTIONS.get(name, {}))
    run = dpo.run(config)
    margins = [row["rewards/margins"] for row in run.metrics.read() if "rewards/margins" in row]
    assert margins[-1] > margins[0]
    assert len(loads) == (2 if dpo.FORMS[name].reference else 1)
    assert dpo.run(config).finished
