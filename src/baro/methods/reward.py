"""Reward model: a scalar score of a completion, learned from comparisons or from recorded scores.

    bradley_terry   L = (1/G) Σ_prompts  mean over its pairs of −p log σ(z) − (1−p) log σ(−z),  z = r_w − r_l − m
    plackett_luce   L = (1/G) Σ_prompts  Σ_k −log [ exp r_k / Σ_{j ≥ k} exp r_j ],   completions in the order of ranks
    regression      L = (1/C) Σ_completions  mean over the criteria of (r_k − y_k)²

K ranked completions of one prompt are one unit and each is computed once (Ouyang et al. 2022, arXiv:2203.02155 eq. 1).
p is the row's p_chosen after label_smoothing ε, (1 − ε) p + ε (1 − p); m its margin (Touvron et al. 2023,
arXiv:2307.09288 eq. 2). center_rewards_coefficient η adds η (r_w + r_l)² to each pair (Eisenstein et al. 2023,
arXiv:2312.09244). Every criterion has a head of its own, and the score is their weighted sum.

With ``sigmoid`` scores lie in 0..1, and Bradley-Terry cannot reach 0: a pair's loss is at least log(1 + e⁻¹) = 0.3133,
and that of three completions at least (2 log(1 + e^−½) + log(1 + e⁻¹)) / 3 = 0.4205, with scores 1, ½ and 0. A loss at
its floor is a model that has learned its data by heart, not one that has failed to. σ(r_w − r_l) is then at most 0.73
and no probability, so no calibration error is given; PPO takes the score as it is.

Without ``sigmoid`` a bias is set after training so that the preferred completions of the training set score mean 0
(there, demonstrations do); recorded scores keep their own zero.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from baro.batch import GroupBatch, Sample
from baro.data.encode import encode_comparisons, encode_ratings
from baro.data.formats import Loaded
from baro.data.layouts import Reading
from baro.data.ledger import Ledger
from baro.data.reward_rows import encode_order, rated
from baro.data.template import Template
from baro.declared import Records
from baro.functional.ensembles import Scale
from baro.functional.preference import (
    bradley_terry_loss,
    centering_penalty,
    plackett_luce_loss,
    ranking_pairs,
    regression_loss,
    smoothed_label,
)
from baro.methods import stage
from baro.methods.members import save_backbone, train_members
from baro.methods.scalar import ScalarConfig, measure_scores, new_model, reading_template, write_figures
from baro.models.forward import ScoredModel, forward_samples
from baro.models.load import save_scalar_model
from baro.protocols import LocalWorld, LossOutput
from baro.records import Preference, Ranking, Rated
from baro.rewards.figures import Figures, Pairs, ensemble_figures, judged, scores_of
from baro.runs import RunDir

log = logging.getLogger("baro")
Encode = Callable[[Loaded, Template, int, Ledger], Iterable[Sample]]


class Config(ScalarConfig):
    """``baro reward``."""

    preferences: Records = Field(description="pairs, rankings, or for regression answers with scores: a run or a file")
    loss: Literal["bradley_terry", "plackett_luce", "regression"] = Field(
        "bradley_terry", description="of comparisons: pair by pair, or the whole order; of recorded scores: regression"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="share of the labels that is thought to be flipped")
    center_rewards_coefficient: float = Field(
        0.0, ge=0, description="weight of a pair's (r_w + r_l)², which pulls to 0"
    )
    margin_scale: float | None = Field(
        None, gt=0, description="a pair's margin is this times score_chosen − score_rejected; no margin unless given"
    )
    criteria: dict[str, float] = Field({}, description="recorded scores to learn, with weights; all alike unless given")
    sigmoid: bool = Field(False, description="squash scores into 0..1")
    members: int = Field(
        1, ge=1, description="reward models to train, each with a seed of its own; several: an ensemble"
    )
    bootstrap: bool = Field(False, description="draw each member's training prompts anew, with replacement")

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        if self.label_smoothing and self.loss != "bradley_terry":
            raise ValueError(f"label_smoothing is for pairs, and loss is {self.loss}; leave it out")
        if self.margin_scale is not None and self.loss != "bradley_terry":
            raise ValueError(f"margin_scale is for pairs, and loss is {self.loss}; leave it out")
        if self.criteria and self.loss != "regression":
            raise ValueError(f"criteria are learned by loss regression, and loss is {self.loss}; leave them out")
        if self.center_rewards_coefficient and (self.loss == "regression" or self.sigmoid):
            other = "sigmoid" if self.sigmoid else "regression"
            raise ValueError(
                f"center_rewards_coefficient and {other} exclude each other: the scores' zero is fixed there"
            )
        if self.bootstrap and self.members == 1:
            raise ValueError("bootstrap makes members differ, and members is 1; raise members, or leave it out")
        return self


class Objective(stage.Trained):
    """The mean over prompts of what a prompt's comparisons cost, or over completions of their squared error."""

    def __init__(self, reward_model: ScoredModel, config: Config) -> None:
        super().__init__(reward_model=reward_model)
        self.reward_model, self.config = reward_model, config

    def losses(self, batch: GroupBatch, totals: Mapping[str, float]) -> Iterator[LossOutput]:
        found, fields = self.reward_model(batch, ["scores"]), batch.completion_fields
        pairs = ranking_pairs(fields["rank"], batch.group_of)
        if self.config.loss == "regression":
            recorded = [fields[f"score/{name}"] for name in self.reward_model.scoring.criteria]
            loss = regression_loss(found.criteria, torch.stack(recorded, -1).to(found.criteria.dtype))
            total = loss.sum() / totals["completions"]
        elif self.config.loss == "plackett_luce":
            total = plackett_luce_loss(found.scores, fields["rank"], batch.group_of).sum() / totals["prompts"]
        else:
            total = self._pairwise(found.scores, fields, pairs).sum() / totals["prompts"]
        total = total + self._centering(found.scores, pairs, totals)
        yield LossOutput(total, _metrics(found.scores.detach(), pairs))

    def _pairwise(self, scores: Tensor, fields: Mapping[str, Tensor], pairs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        better, worse, weight = pairs
        label = smoothed_label(fields["p_chosen"][better], label_smoothing=self.config.label_smoothing)
        return weight * bradley_terry_loss(
            scores[better], scores[worse], margin=fields["margin"][better], p_chosen=label
        )

    def _centering(
        self, scores: Tensor, pairs: tuple[Tensor, Tensor, Tensor], totals: Mapping[str, float]
    ) -> Tensor | float:
        better, worse, weight = pairs
        if not self.config.center_rewards_coefficient:
            return 0.0
        penalty = (weight * centering_penalty(scores[better], scores[worse])).sum()
        return self.config.center_rewards_coefficient * penalty / totals["prompts"]


def _metrics(scores: Tensor, pairs: tuple[Tensor, Tensor, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    better, worse, weight = pairs
    gap = scores[better] - scores[worse]
    return {
        "accuracy": ((weight * (gap > 0)).sum(), weight.sum()),
        "margin": ((weight * gap).sum(), weight.sum()),
    }


def run(config: Config, out: Path | str | None = None) -> RunDir:
    """Train, save ``model/``, and return the run directory; the same call resumes or returns what is finished."""
    job = stage.Offline("reward", config, out)
    if job.finished:
        return job.run
    criteria = dict(config.criteria) if config.loss == "regression" else {"score": 1.0}
    columns = Reading.of(config.data, criteria=config.criteria, margin_scale=config.margin_scale)
    job.read(*_reading(config, criteria), lambda template: reading_template(config, template, job.folder), columns)
    if config.members == 1:
        model = new_model(config, job.folder, sigmoid=config.sigmoid, criteria=criteria)
        job.fit(Objective(model, config))
        _finish(model, job, config)
        write_figures(job.run, _held_out_figures(model, job.held_out, config), "reward")
        job.save(model, save_scalar_model)
    else:
        _train_ensemble(job, config, criteria)
    return job.run


def _train_ensemble(job: stage.Offline, config: Config, criteria: Mapping[str, float]) -> None:
    """Members from seeds of their own, then the figures of all of them together."""
    if config.lora is not None:
        bare = config.model_copy(update={"lora": None})
        save_backbone(job, new_model(bare, job.folder, sigmoid=bare.sigmoid, criteria=criteria))

    def train(run: RunDir, own: Any, samples: Sequence[Sample]) -> ScoredModel:
        model = new_model(own, job.folder, sigmoid=own.sigmoid, criteria=criteria)
        objective, size = Objective(model, own), model.hidden_size
        stage.fit_offline(run, objective, samples, job.held_out, own.trainer, hidden_size=size, world=job.world)
        _finish(model, job, own)
        write_figures(run, _held_out_figures(model, job.held_out, own), "reward")
        return model

    members = train_members(job, config, train)
    scores = [scores_of(member, job.held_out, config.trainer.micro_batch_tokens) for member in members]
    scales = [Scale(member.measured.mean, member.measured.sd) for member in members if member.measured is not None]
    figures = ensemble_figures(job.held_out, scores, scales, log_odds=_log_odds(config))
    write_figures(job.run, figures, "reward")
    job.run.finish("finished")


def _finish(model: ScoredModel, job: stage.Offline, config: Config) -> None:
    """Set where the trained model's scores are 0, and measure where they lie, on all rows of ``preferences``."""
    tokens = config.trainer.micro_batch_tokens
    if _log_odds(config):
        centre(model, job.train, tokens)
    measure_scores(model, job, config)


def _log_odds(config: Config) -> bool:
    """Whether differences of scores are meant to be log-odds, with a zero that is free."""
    return config.loss != "regression" and not config.sigmoid


def _reading(config: Config, criteria: dict[str, float]) -> tuple[Any, Encode]:
    """The records that the loss needs and their encoder, which completes ``criteria`` from the first row."""
    if config.loss != "regression":
        return (Preference, Ranking), encode_order if config.loss == "plackett_luce" else encode_comparisons

    def encode(loaded: Loaded, template: Template, max_length: int, ledger: Ledger) -> Iterator[Sample]:
        for sample in encode_ratings(loaded, template, max_length, ledger):
            if not criteria:
                names = sorted(sample.completions[0].fields)
                criteria.update({name.removeprefix("score/"): 1.0 / len(names) for name in names})
            yield rated(sample, criteria, squashed=config.sigmoid)

    return Rated, encode


def centre(model: ScoredModel, samples: Sequence[Sample], micro_batch_tokens: int) -> None:
    """Set the bias so that the best completion of each training prompt scores 0 on average."""
    best = [s.with_completions([min(s.completions, key=lambda b: b.fields["rank"])]) for s in samples]
    found = forward_samples(model, best, ["scores"], micro_batch_tokens=micro_batch_tokens, world=LocalWorld())
    mean = float(np.mean([float(group[0]) for group in found["scores"]]))
    with torch.no_grad():
        model.score_bias -= mean


def _held_out_figures(model: ScoredModel, held_out: Sequence[Sample], config: Config) -> Figures:
    """What the held-out rows say of one model."""
    scores = scores_of(model, held_out, config.trainer.micro_batch_tokens)
    return judged(Pairs.of(held_out, scores), log_odds=_log_odds(config))
