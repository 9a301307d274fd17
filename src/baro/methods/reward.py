"""Reward model: a scalar score of a completion, learned from comparisons.

    L = −(1/G) Σ_prompts  mean over the prompt's pairs of [ p log σ(r_w − r_l − m) + (1 − p) log σ(r_l − r_w + m) ]

Bradley-Terry on pairs; K ranked completions of one prompt are one unit and each is computed once (Ouyang et al. 2022,
arXiv:2203.02155 eq. 1). p is the row's p_chosen, m its margin (Touvron et al. 2023, arXiv:2307.09288 eq. 2). The score
is read at the last token by a linear head. Afterwards a bias is set so that the preferred completions of the training
set score mean 0 (there, demonstrations do).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from baro import config as blocks
from baro.batch import GroupBatch, Sample
from baro.data.encode import encode_preferences, encode_rankings
from baro.data.formats import Loaded
from baro.data.ledger import Ledger
from baro.data.template import Template
from baro.functional.preference import bradley_terry_loss, ranking_pairs
from baro.functional.statistics import Interval, expected_calibration_error, wilson_interval
from baro.inputs import load_template, open_run, resolve
from baro.methods import stage
from baro.models.forward import ScoredModel, forward_samples
from baro.models.load import new_scalar_model, save_scalar_model
from baro.protocols import LocalWorld, LossOutput
from baro.records import Preference, Ranking
from baro.runs import RunDir


class Config(blocks.Config):
    """``baro reward``."""

    model: str = Field(description="the backbone: a run, a folder, or a hub id; may be smaller than the policy")
    preferences: str = Field(description="pairs or rankings: a run or a file")
    trainer: blocks.TrainerConfig = blocks.TrainerConfig(learning_rate=1e-5, epochs=1, batch_size=64)
    data: blocks.DataConfig = blocks.DataConfig()


class Objective:
    """The mean over prompts of the mean over their pairs."""

    def __init__(self, reward_model: ScoredModel) -> None:
        self.reward_model = reward_model

    def modules(self) -> dict[str, nn.Module]:
        return {"reward_model": self.reward_model}

    def parameter_groups(self) -> list[dict]:
        return [{"params": [p for p in self.reward_model.parameters() if p.requires_grad]}]

    def losses(self, batch: GroupBatch, totals: Mapping[str, float]) -> Iterator[LossOutput]:
        scores = self.reward_model(batch, ["scores"]).scores
        fields = batch.completion_fields
        better, worse, weight = ranking_pairs(fields["rank"], batch.group_of)
        gap = scores[better] - scores[worse]
        loss = weight * bradley_terry_loss(
            scores[better], scores[worse], margin=fields["margin"][better], p_chosen=fields["p_chosen"][better]
        )
        yield LossOutput(loss.sum() / totals["prompts"], _metrics(gap.detach(), weight))


def _metrics(gap: Tensor, weight: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    return {
        "accuracy": ((weight * (gap > 0)).sum(), weight.sum()),
        "margin": ((weight * gap).sum(), weight.sum()),
    }


def run(config: Config, out: Path | str | None = None) -> RunDir:
    """Train, save ``model/``, and return the run directory; the same call resumes or returns what is finished."""
    inputs = {"model": (config.model, "model"), "preferences": (config.preferences, "records")}
    run = open_run("reward", config, inputs, out)
    if run.finished:
        return run
    template = load_template(config.model, config.data.template)
    reader = stage.Reader(run, template, config.data, (Preference, Ranking), encode_comparisons)
    train, held_out = reader.train_and_held_out(config.preferences, config.trainer)
    model = new_scalar_model(resolve(config.model, "model"), seed=config.trainer.seed)
    stage.fit_offline(run, Objective(model), train, held_out, config.trainer, hidden_size=model.hidden_size)
    centre(model, train, config.trainer.micro_batch_tokens)
    if held_out:
        stage.write_figures(run, judge_held_out(model, held_out, config.trainer.micro_batch_tokens))
    stage.save_model(run, template, lambda path: save_scalar_model(model, path))
    run.finish("finished")
    return run


def encode_comparisons(loaded: Loaded, template: Template, max_length: int, ledger: Ledger) -> list[Sample]:
    """Pairs as rankings of two; every completion has rank, p_chosen and margin, every prompt is one unit."""
    if not isinstance(loaded.records[0], Preference):
        samples = encode_rankings(loaded, template, max_length, ledger)
        plain = {"p_chosen": 1.0, "margin": 0.0}
        return [s.with_completions([b.with_(fields=plain) for b in s.completions]) for s in samples]
    pairs = encode_preferences(loaded, template, max_length, ledger)
    return [
        s.with_completions(
            [b.with_(fields={"rank": k + 1.0}, units={"prompts": 1.0 - k}) for k, b in enumerate(s.completions)]
        )
        for s in pairs
    ]


def centre(model: ScoredModel, samples: Sequence[Sample], micro_batch_tokens: int) -> None:
    """Set the bias so that the best completion of each training prompt scores 0 on average."""
    best = [s.with_completions([min(s.completions, key=lambda b: b.fields["rank"])]) for s in samples]
    found = forward_samples(model, best, ["scores"], micro_batch_tokens=micro_batch_tokens, world=LocalWorld())
    mean = float(np.mean([float(group[0]) for group in found["scores"]]))
    with torch.no_grad():
        model.score_bias -= mean


def judge_held_out(
    model: ScoredModel, samples: Sequence[Sample], micro_batch_tokens: int
) -> dict[str, Interval | float]:
    """Accuracy with a Wilson interval and calibration error on held-out pairs, with the two baselines beside it."""
    found = forward_samples(model, samples, ["scores"], micro_batch_tokens=micro_batch_tokens, world=LocalWorld())
    gaps, lengths = [], []
    for sample, scores in zip(samples, found["scores"], strict=True):
        ranks = [b.fields["rank"] for b in sample.completions]
        for i, j in ((i, j) for i in range(len(ranks)) for j in range(len(ranks)) if ranks[i] < ranks[j]):
            gaps.append(float(scores[i] - scores[j]))
            lengths.append(len(sample.completions[i].ids) - len(sample.completions[j].ids))
    gap, length = np.array(gaps), np.array(lengths)
    right = int((gap > 0).sum())
    # p(left wins) against who won, each pair once with a side that does not depend on the label
    side = np.arange(len(gap)) % 2 == 0
    p_left = 1 / (1 + np.exp(-np.where(side, gap, -gap)))
    longer = float((length > 0).sum() + 0.5 * (length == 0).sum())
    return {
        "reward_model/accuracy": wilson_interval(right, len(gap)),
        "reward_model/ece": float(expected_calibration_error(p_left, side.astype(float))),
        "reward_model/length_correlation": float(np.corrcoef(gap, length)[0, 1]) if length.std() > 0 else 0.0,
        "baseline/longer_wins": wilson_interval(longer, len(gap)),
        "baseline/shorter_wins": wilson_interval(len(gap) - longer, len(gap)),
    }
