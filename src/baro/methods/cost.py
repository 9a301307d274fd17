"""Cost model: a scalar that says which answer is the less safe, and by its sign whether an answer is unsafe.

    L = (1/G) Σ_prompts [ mean over its compared pairs of −p log σ(z) − (1−p) log σ(−z)
                        + Σ over its labelled completions of −q log σ(C) − (1−q) log σ(−C) ]
    z = C(unsafer) − C(safer) − m,   m = margin_scale · max(0, severity(unsafer) − severity(safer))

Dai et al. 2023, arXiv:2310.12773, eq. 6, whose s = ±1 is q = 1 or 0; q is the share of raters who say unsafe, p how
sure the order is. G counts the prompts of a step, whatever is known of them: a pair without labels has the first term
alone, a labelled single answer the second alone, and each prompt weighs what it would weigh by itself. With a
denominator for each term, the one pair of a step would weigh as much as all its labels together.

C is positive for what is harmful, and zero is the boundary: nothing is centred after training. K compared completions
of one prompt are one unit and each is computed once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import Field
from torch import Tensor

from baro.batch import GroupBatch, Sample
from baro.data.encode import encode_safety
from baro.declared import Records
from baro.errors import DataError
from baro.functional.preference import ranking_pairs
from baro.functional.safety import cost_ranking_loss, sign_loss
from baro.methods import stage
from baro.methods.scalar import ScalarConfig, measure_scores, new_model, reading_template, write_figures
from baro.models.forward import ScoredModel
from baro.models.load import save_scalar_model
from baro.protocols import LossOutput
from baro.records import Safety
from baro.rewards.cost_figures import Categories, cost_figures
from baro.rewards.figures import Figures, scores_of
from baro.runs import RunDir

log = logging.getLogger("baro")


class Config(ScalarConfig):
    """``baro cost``."""

    preferences: Records = Field(
        description="what is safe: pairs, lists of answers or single ones with labels: a run or a file"
    )
    margin_scale: float | None = Field(
        None, gt=0, description="a pair's margin is this times the difference of severities; no margin unless given"
    )


class Objective(stage.Trained):
    """The mean over prompts of what their comparisons and their labels cost."""

    def __init__(self, cost_model: ScoredModel, config: Config) -> None:
        super().__init__(cost_model=cost_model)
        self.cost_model, self.config = cost_model, config

    def losses(self, batch: GroupBatch, totals: Mapping[str, float]) -> Iterator[LossOutput]:
        cost, fields = self.cost_model(batch, ["scores"]).scores, batch.completion_fields
        safer, unsafer, weight = ranking_pairs(fields["rank"], batch.group_of)
        margin = self._margin(fields["severity"][unsafer] - fields["severity"][safer])
        ranked = weight * cost_ranking_loss(cost[unsafer], cost[safer], margin=margin, p_safer=fields["p_safer"][safer])
        labelled = fields["unsafe"].isfinite()
        signed = sign_loss(cost[labelled], fields["unsafe"][labelled])
        metrics = _metrics(cost.detach(), fields, (safer, unsafer, weight))
        metrics["loss/ranking"] = (ranked.detach().sum(), weight.sum())
        metrics["loss/sign"] = (signed.detach().sum(), labelled.sum())
        yield LossOutput((ranked.sum() + signed.sum()) / totals["prompts"], metrics)

    def _margin(self, difference: Tensor) -> Tensor | float:
        scale = self.config.margin_scale
        return 0.0 if scale is None else scale * difference.clamp(min=0)


def _metrics(
    cost: Tensor, fields: Mapping[str, Tensor], pairs: tuple[Tensor, Tensor, Tensor]
) -> dict[str, tuple[Tensor, Tensor]]:
    safer, unsafer, weight = pairs
    likelier = (fields["p_safer"][safer] - 0.5).sign()  # 0 where both orders are as likely
    gap = likelier * (cost[unsafer] - cost[safer])
    unsafe, safe = fields["unsafe"] > 0.5, fields["unsafe"] < 0.5
    right = (unsafe & (cost > 0)) | (safe & (cost <= 0))
    decided = weight * likelier.abs()
    return {
        "accuracy": ((decided * (gap > 0)).sum(), decided.sum()),
        "margin": ((decided * gap).sum(), decided.sum()),
        "sign_accuracy": (right.sum(), (unsafe | safe).sum()),
        "cost/unsafe": ((cost * unsafe).sum(), unsafe.sum()),
        "cost/safe": ((cost * safe).sum(), safe.sum()),
    }


def run(config: Config, out: Path | str | None = None) -> RunDir:
    """Train, save ``model/``, and return the run directory; the same call resumes or returns what is finished."""
    job = stage.Offline("cost", config, out)
    if job.finished:
        return job.run
    job.read(Safety, encode_safety, lambda template: reading_template(config, template, job.folder))
    _check_labels(config.preferences, job.train)
    if config.margin_scale is not None:
        _check_severity([*job.train, *job.held_out])
    model = new_model(config, job.folder, cost=True)
    job.fit(Objective(model, config))
    measure_scores(model, job, config)
    write_figures(job.run, _held_out_figures(model, job, config), "cost")
    job.save(model, save_scalar_model)
    return job.run


def _check_labels(name: str, samples: Sequence[Sample]) -> None:
    """DataError where no row says safe or unsafe, so that the costs would have no zero; a warning where all say one."""
    sides: set[bool] = set()
    for one in (one for sample in samples for one in sample.completions):
        if (unsafe := one.fields["unsafe"]) == unsafe and unsafe != 0.5:
            sides.add(unsafe > 0.5)
        if len(sides) == 2:
            return
    if not sides:
        raise DataError(
            f"{name}: no answer is labelled safe or unsafe, and costs would have no zero; add labels, or train "
            "`baro reward` on these comparisons"
        )
    side = ["safe", "unsafe"][max(sides)]
    log.warning("%s: every answer is labelled %s, so that nothing shows where costs change their sign", name, side)


def _check_severity(samples: Sequence[Sample]) -> None:
    """DataError for a compared answer without a severity, of which no margin can be made."""
    for sample in samples:
        compared = len({one.fields["rank"] for one in sample.completions}) > 1
        if compared and any(one.fields["severity"] != one.fields["severity"] for one in sample.completions):
            raise DataError(
                f"{sample.key}: an answer has no severity, and margin_scale makes margins of it; give it one, or leave "
                "margin_scale out"
            )


def _held_out_figures(model: ScoredModel, job: stage.Offline, config: Config) -> Figures:
    """What the held-out rows say of the model; their kinds of harm stand in the records."""
    if not job.held_out:
        return {}
    costs = scores_of(model, job.held_out, config.trainer.micro_batch_tokens)
    return cost_figures(job.held_out, costs, _categories(job))


def _categories(job: stage.Offline) -> Categories:
    records = job.held_out_records(Safety)
    return [one.categories or ((),) * len(one.completions) for one in records]
