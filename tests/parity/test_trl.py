"""Losses and gradients equal TRL 1.16's on the same rows and weights; docs/parity.md says what differs by intent."""

import pytest
import torch

with pytest.MonkeyPatch.context() as _patch:  # TRL and its imports warn; ours must not
    _patch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    import peer

from baro.data.encode import encode_comparisons, encode_demonstrations
from baro.data.partners import WithPartners
from baro.methods import dpo, kto, reward, sft
from baro.methods.reference import ReferenceLogprobs
from baro.models.forward import ScoredModel
from baro.protocols import LocalWorld
from baro.records import Demonstration, Preference, Thumb

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def tokens():
    return peer.tokenizer()


def test_the_release_is_the_one_that_was_compared():
    assert peer.trl.__version__ == "1.16.0"


# ------------------------------------------------------------------------------------------------------------- sft


def test_sft(tokens, tmp_path):
    rows = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in peer.ROWS]
    model = peer.policy(0, len(tokens))
    trainer = peer.trl.SFTTrainer(
        model,
        args=peer.trl.SFTConfig(**peer.settings(tmp_path)),
        train_dataset=peer.Dataset.from_list(rows),
        processing_class=tokens,
    )
    batch = trainer.data_collator(list(trainer.train_dataset))
    given = peer.samples(tmp_path, encode_demonstrations, tokens, Demonstration, rows)
    for row, sample in zip(batch["labels"], given, strict=True):
        assert row[row >= 0].tolist() == sample.completions[0].ids.tolist()  # the same tokens carry loss, EOS too
    found = peer.ours(sft.Objective(ScoredModel(peer.policy(0, len(tokens)))), given, micro_batch_tokens=64)
    peer.assert_same(found, peer.theirs(trainer.compute_loss(model, batch), model))


# ---------------------------------------------------------------------------------------------------------- reward


@pytest.mark.parametrize("margins", [False, True], ids=["plain", "margin"])
@pytest.mark.parametrize("centering", [None, 0.01], ids=["free", "centred"])
def test_reward(tokens, tmp_path, margins, centering):
    columns = {"margin": peer.MARGINS} if margins else {}
    model = peer.scorer(0, len(tokens))
    trainer = peer.trl.RewardTrainer(
        model,
        args=peer.trl.RewardConfig(**peer.settings(tmp_path), center_rewards_coefficient=centering),
        train_dataset=peer.rows(**columns),
        processing_class=tokens,
    )
    batch = trainer.data_collator(list(trainer.train_dataset))
    rows = peer.rows(**columns).to_list()
    given = peer.samples(tmp_path, encode_comparisons, tokens, Preference, rows)
    for row, sample in zip(trainer.train_dataset, given, strict=True):
        whole = [sample.prompt_ids.tolist() + one.ids.tolist() for one in sample.completions]
        assert [row["chosen_ids"], row["rejected_ids"]] == whole
    config = reward.Config(model="m", preferences="p", center_rewards_coefficient=centering or 0.0)
    found = peer.ours(reward.Objective(ScoredModel(peer.scorer(0, len(tokens))), config), given)
    peer.assert_same(found, peer.theirs(trainer.compute_loss(model, batch), model))


# ------------------------------------------------------------------------------------------------------ dpo family

#  theirs, ours
FAMILY = {
    "sigmoid": ({"loss_type": ["sigmoid"]}, {"loss": "sigmoid"}),
    "robust": ({"loss_type": ["robust"], "label_smoothing": 0.1}, {"loss": "robust", "label_smoothing": 0.1}),
    "hinge": ({"loss_type": ["hinge"]}, {"loss": "hinge"}),
    "ipo": ({"loss_type": ["ipo"]}, {"loss": "ipo"}),
    "sigmoid_norm": ({"loss_type": ["sigmoid_norm"]}, {"loss": "sigmoid_norm"}),
    "sft-term": ({"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.3]}, {"loss": "sigmoid", "sft_coef": 0.3}),
}


def pairs(tokens, folder):
    return peer.samples(folder, encode_comparisons, tokens, Preference)


def config_of(**changes) -> dpo.Config:
    return dpo.Config(policy="p", preferences="q", **{"beta": 0.1, **changes})


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("beta", [0.1, 0.7])
def test_dpo(name, beta, tokens, tmp_path):
    theirs, ours = FAMILY[name]
    model = peer.policy(0, len(tokens))
    trainer = peer.trl.DPOTrainer(
        model,
        ref_model=peer.policy(7, len(tokens)),
        args=peer.trl.DPOConfig(**peer.settings(tmp_path), beta=beta, **theirs),
        train_dataset=peer.rows(),
        processing_class=tokens,
    )
    given = pairs(tokens, tmp_path)
    for row, sample in zip(trainer.train_dataset, given, strict=True):
        assert row["prompt_ids"] == sample.prompt_ids.tolist()
        assert [row["chosen_ids"], row["rejected_ids"]] == [one.ids.tolist() for one in sample.completions]
    batch = trainer.data_collator(list(trainer.train_dataset))
    prepared = ReferenceLogprobs(ScoredModel(peer.policy(7, len(tokens))), "ref", 200)(given, LocalWorld())
    objective = dpo.Objective(ScoredModel(peer.policy(0, len(tokens))), config_of(beta=beta, **ours))
    found = peer.ours(objective, prepared)
    peer.assert_same(found, peer.theirs(trainer.compute_loss(model, batch), model))
    if name != "ipo" and "norm" not in name:  # TRL logs summed log-ratios for these two as well
        metrics = {k: v[-1] for k, v in trainer._metrics["eval"].items() if k.startswith(("rewards/", "logps/"))}
        assert len(metrics) == 6
        sums: dict[str, list[float]] = {}
        for one in peer.collate(prepared, micro_batch_tokens=200, hidden_size=32):
            for output in objective.losses(one, {"prompts": 4.0, "chosen_tokens": 1.0}):
                for key, (total, _) in output.metrics.items():
                    sums.setdefault(key, []).append(float(total))
        assert {k: sum(sums[k]) / 4 for k in metrics} == pytest.approx(metrics, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"cpo_alpha": 0.0}, {}),
        ({"cpo_alpha": 0.0, "label_smoothing": 0.1}, {"label_smoothing": 0.1}),
        ({"cpo_alpha": 0.5}, {"sft_coef": 0.5}),
    ],
    ids=["plain", "conservative", "sft-term"],
)
def test_simpo(theirs, ours, tokens, tmp_path):
    model = peer.policy(0, len(tokens))
    args = peer.CPOConfig(**peer.settings(tmp_path), loss_type="simpo", beta=2.0, simpo_gamma=0.7, **theirs)
    trainer = peer.CPOTrainer(model, args=args, train_dataset=peer.rows(), processing_class=tokens)
    batch = trainer.data_collator(list(trainer.train_dataset))
    loss, _ = trainer.get_batch_loss_metrics(model, batch)
    config = config_of(loss="simpo", beta=2.0, gamma=0.7, **ours)
    found = peer.ours(dpo.Objective(ScoredModel(peer.policy(0, len(tokens))), config), pairs(tokens, tmp_path))
    peer.assert_same(found, peer.theirs(loss, model))


def test_orpo_without_its_sft_term(tokens, tmp_path):
    model = peer.policy(0, len(tokens))
    args = peer.ORPOConfig(**peer.settings(tmp_path), beta=0.4)
    trainer = peer.ORPOTrainer(model, args=args, train_dataset=peer.rows(), processing_class=tokens)
    batch = trainer.data_collator(list(trainer.train_dataset))
    chosen, rejected, _, _, whole_nll = trainer.concatenated_forward(model, batch)
    losses = trainer.odds_ratio_loss(chosen, rejected)[0]
    objective = dpo.Objective(ScoredModel(peer.policy(0, len(tokens))), config_of(loss="orpo", beta=0.4, sft_coef=0.0))
    given = pairs(tokens, tmp_path)
    peer.assert_same(peer.ours(objective, given), peer.theirs(-losses.mean(), model))
    # by intent: our SFT term is over the chosen completions' tokens, theirs over the prompts' as well
    logps = torch.cat([chosen[i : i + 1] * len(s.completions[0].ids) for i, s in enumerate(given)])
    answers_nll = -float(logps.sum()) / sum(len(s.completions[0].ids) for s in given)
    assert abs(answers_nll - float(whole_nll)) > 1e-3
    full = dpo.Objective(ScoredModel(peer.policy(0, len(tokens))), config_of(loss="orpo", beta=0.4))
    assert peer.ours(full, given)[0] == pytest.approx(answers_nll - float(losses.mean()), rel=1e-5)


# ------------------------------------------------------------------------------------------------------------- kto

THUMBS = [
    {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
    for row, side in zip(
        [*peer.ROWS, peer.ROWS[0]], ["chosen", "rejected", "chosen", "chosen", "rejected"], strict=True
    )
]


@pytest.mark.parametrize("name", ["kto", "apo_zero_unpaired"])
@pytest.mark.parametrize(("weights", "beta"), [((1.0, 1.0), 0.1), ((1.3, 0.6), 0.7)])
@pytest.mark.parametrize(("start", "ref"), [(0, 7), (7, 0)], ids=["clamped", "free"])
def test_kto(name, weights, beta, start, ref, tokens, tmp_path):
    """One batch, in which TRL pairs each prompt with the completion of the row before; one way z is clamped."""
    options = {"beta": beta, "desirable_weight": weights[0], "undesirable_weight": weights[1]}
    model = peer.policy(start, len(tokens))
    settings = peer.settings(tmp_path) | {"per_device_train_batch_size": len(THUMBS)}
    trainer = peer.trl.KTOTrainer(
        model,
        ref_model=peer.policy(ref, len(tokens)),
        args=peer.trl.KTOConfig(**settings, loss_type=name, **options),
        train_dataset=peer.Dataset.from_list(THUMBS),
        processing_class=tokens,
    )
    batch = trainer.data_collator(list(trainer.train_dataset))
    before = [len(THUMBS) - 1, *range(len(THUMBS) - 1)]
    given = WithPartners(peer.samples(tmp_path, kto.encode, tokens, Thumb, THUMBS), before)
    for row, sample in zip(trainer.train_dataset, given, strict=True):
        ids = [sample.prompt_ids.tolist(), *(one.ids.tolist() for one in sample.completions)]
        theirs = [row["prompt_ids"], row["completion_ids"], *([row["KL_completion_ids"]] if name == "kto" else [])]
        assert ids[: len(theirs)] == theirs
    policy = ScoredModel(peer.policy(start, len(tokens)))
    prepared = ReferenceLogprobs(ScoredModel(peer.policy(ref, len(tokens))), "ref", 200)(given, LocalWorld())
    prepared = kto.Prepare(policy, 200)(prepared, LocalWorld())
    objective = kto.Objective(policy, kto.Config(policy="p", thumbs="t", loss=name, **options))
    peer.assert_same(peer.ours(objective, prepared), peer.theirs(trainer.compute_loss(model, batch), model))
    metrics = {
        k: v[-1] for k, v in trainer._metrics["eval"].items() if k == "kl" or k.startswith(("rewards/", "logps/"))
    }
    assert len(metrics) == 6
    totals = {"completions": 5.0, "up": 3.0, "down": 2.0}
    (one,) = peer.collate(prepared, micro_batch_tokens=2000, hidden_size=32)
    (output,) = objective.losses(one, totals)
    found = {key: float(total) / float(weight) for key, (total, weight) in output.metrics.items()}
    assert {key: found[key] for key in metrics} == pytest.approx(metrics, rel=1e-4, abs=1e-4)
    assert (found["kl"] > 2) == (name == "kto" and start == 7)  # the other way it is below 0, and clamped
