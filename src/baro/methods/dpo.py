"""Direct preference optimisation and its family: preferences without a reward model.

    L = (1/P) Σ_prompts mean_pairs [ p ℓ(z) + (1 − p) ℓ(−z) ] − sft_coef · (1/N_w) Σ_n log π(y_w,n)

P is the number of prompts, a pair of the file counting as one; a ranking of K is all the pairs that it implies, and
each of its completions is computed once (arXiv:2203.02155 §3.5, there for reward models). p is the row's p_chosen (1
for a plain pair or a ranking), N_w the tokens of the chosen or top-ranked completions of the step, z the policy's view
of the pair:

    loss          z from                      ℓ(z)                                         source
    sigmoid       Σ log π/π_ref               −log σ(βz)                                   arXiv:2305.18290 eq. 7
    robust        Σ log π/π_ref               [−(1−ε) log σ(βz) + ε log σ(−βz)] / (1−2ε)   arXiv:2403.00409
    hinge         Σ log π/π_ref               max(0, 1 − βz)                               arXiv:2305.10425
    ipo_sum       Σ log π/π_ref               (z − 1/(2β))²                                arXiv:2310.12036 eq. 17
    ipo           the same, a token           (z − 1/(2β))²                                as TRL's ipo
    sigmoid_norm  the same, a token           −log σ(βz)                                   arXiv:2411.15124
    simpo         log π a token, less γ/β     −log σ(βz)                                   arXiv:2405.14734 eq. 6
    orpo          log-odds of π a token       −β log σ(z), with the SFT term               arXiv:2403.07691

z is the chosen completion's value less the rejected one's. "A token" is the mean over the completion's scored tokens.
With label_smoothing ε, p becomes (1 − ε) p + ε (1 − p) for all but robust: sigmoid is then conservative DPO (Mitchell
2023). The reference's log-probs are computed once, before the first step; simpo and orpo have no reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from baro import config as blocks
from baro.batch import GroupBatch
from baro.compute import ComputeConfig, LoraConfig
from baro.data.encode import encode_comparisons
from baro.declared import Model, Records
from baro.functional.preference import (
    dpo_loss,
    hinge_loss,
    ipo_loss,
    orpo_loss,
    ranking_pairs,
    robust_dpo_loss,
    simpo_loss,
    smoothed_label,
)
from baro.functional.tokens import segment_mean, segment_sum
from baro.inputs import check_same_tokens
from baro.methods import stage
from baro.methods.reference import reference_logprobs
from baro.models.forward import ScoredModel
from baro.models.load import load_policy, save_policy
from baro.protocols import LossOutput
from baro.records import Preference, Ranking
from baro.runs import RunDir

Metrics = dict[str, tuple[Tensor | float, Tensor | float]]
Loss = Literal["sigmoid", "robust", "hinge", "ipo", "ipo_sum", "sigmoid_norm", "simpo", "orpo"]


@dataclass(frozen=True)
class Form:
    """A member of the family: its loss of two numbers a pair, and what these numbers are."""

    loss: Callable[..., Tensor]
    reference: bool = True  # log π − log π_ref, or log π alone
    average: bool = False  # the mean over the completion's tokens, or their sum
    beta: float = 0.1  # where the config does not say


FORMS: dict[Loss, Form] = {
    "sigmoid": Form(dpo_loss),
    "robust": Form(robust_dpo_loss),
    "hinge": Form(hinge_loss),
    "ipo": Form(ipo_loss, average=True),
    "ipo_sum": Form(ipo_loss),
    "sigmoid_norm": Form(dpo_loss, average=True, beta=5.0),
    "simpo": Form(simpo_loss, reference=False, average=True, beta=2.0),
    "orpo": Form(orpo_loss, reference=False, average=True),
}


class Config(blocks.Config):
    """``baro dpo``."""

    policy: Model = Field(description="the model to train: a run, a folder, or a hub id")
    preferences: Records = Field(description="pairs of completions, or rankings: a run or a file")
    ref_policy: Model | None = Field(None, description="the model to stay close to; the starting policy unless given")
    loss: Loss = Field("sigmoid", description="the member of the family")
    beta: float = Field(
        0.1, gt=0, description="how strongly the policy is held to the reference; 5 for sigmoid_norm, 2 for simpo"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="share of the labels that is thought to be flipped")
    gamma: float | None = Field(None, ge=0, description="simpo's target margin; 1 unless given")
    sft_coef: float = Field(0.0, ge=0, description="weight of the log-likelihood of the chosen completions; 1 for orpo")
    trainer: blocks.TrainerConfig = blocks.TrainerConfig(learning_rate=5e-7, epochs=1, batch_size=32)
    data: blocks.DataConfig = blocks.DataConfig()
    lora: LoraConfig | None = Field(None, description="train low-rank adapters in place of all weights")
    compute: ComputeConfig = ComputeConfig()

    @model_validator(mode="after")
    def _fits_the_loss(self) -> Config:
        if self.ref_policy is not None and not FORMS[self.loss].reference:
            raise ValueError(f"loss {self.loss} has no reference; leave ref_policy out")
        if self.gamma is not None and self.loss != "simpo":
            raise ValueError(f"gamma is simpo's margin, and loss is {self.loss}; leave gamma out")
        if self.loss == "robust" and self.label_smoothing == 0:
            raise ValueError("loss robust needs label_smoothing above 0; without flipped labels it is sigmoid")
        own = {"beta": FORMS[self.loss].beta, "gamma": 1.0 if self.loss == "simpo" else None}
        own |= {"sft_coef": 1.0} if self.loss == "orpo" else {}
        for name in own.keys() - self.model_fields_set:
            object.__setattr__(self, name, own[name])  # past `frozen`: nobody else has seen this config yet
        return self


class Objective(stage.Trained):
    """The loss of the config's form, one value a pair, and the SFT term on the chosen completions."""

    def __init__(self, policy: ScoredModel, config: Config) -> None:
        super().__init__(policy=policy)
        self.policy, self.config, self.form = policy, config, FORMS[config.loss]
        self.options = {"beta": config.beta}
        if config.loss == "robust":
            self.options["label_smoothing"] = config.label_smoothing
        if config.gamma is not None:  # simpo's
            self.options["gamma"] = config.gamma

    def losses(self, batch: GroupBatch, totals: Mapping[str, float]) -> Iterator[LossOutput]:
        logprobs, fields = self.policy(batch, ["logprobs"]).logprobs, batch.completion_fields
        better, worse, weight = ranking_pairs(fields["rank"], batch.group_of)
        worth = self._worth(batch, logprobs)
        p_chosen = self._labels(fields["p_chosen"][better].to(worth.dtype))
        loss = self.form.loss(worth[better], worth[worse], p_chosen=p_chosen, **self.options)
        total = (weight * loss).sum() / totals["prompts"]
        metrics = self._metrics(batch, logprobs.detach(), worth.detach(), (better, worse, weight))
        if self.config.sft_coef:
            best = torch.ones_like(worth, dtype=torch.bool)
            best[worse] = False  # what no other completion of its prompt beats
            nll = -logprobs[best[batch.completion_of]]
            total = total + self.config.sft_coef * nll.sum() / totals["chosen_tokens"]
            metrics["nll"] = (nll.detach().sum(), len(nll))
        yield LossOutput(total, metrics)

    def _worth(self, batch: GroupBatch, logprobs: Tensor) -> Tensor:
        """What each completion is worth to the policy, [C]: log-ratio or log-prob, summed or a token."""
        per_token = logprobs - batch.token_fields["ref_logprobs"] if self.form.reference else logprobs
        reduce = segment_mean if self.form.average else segment_sum
        return reduce(per_token, batch.completion_of, len(batch.group_of))

    def _labels(self, p_chosen: Tensor) -> Tensor:
        if self.config.loss == "robust":  # which takes the smoothing itself
            return p_chosen
        return smoothed_label(p_chosen, label_smoothing=self.config.label_smoothing)

    def _metrics(
        self, batch: GroupBatch, logprobs: Tensor, worth: Tensor, pairs: tuple[Tensor, Tensor, Tensor]
    ) -> Metrics:
        """Means over prompts of the means over a prompt's pairs."""
        (better, worse, weight), beta = pairs, self.config.beta
        sums = segment_sum(logprobs, batch.completion_of, len(batch.group_of))
        gap, compared = worth[better] - worth[worse], weight.sum()
        return {
            "rewards/chosen": (beta * (weight * worth[better]).sum(), compared),
            "rewards/rejected": (beta * (weight * worth[worse]).sum(), compared),
            "rewards/margins": (beta * (weight * gap).sum(), compared),
            "rewards/accuracies": ((weight * (gap > 0)).sum(), compared),
            "logps/chosen": ((weight * sums[better]).sum(), compared),
            "logps/rejected": ((weight * sums[worse]).sum(), compared),
        }


def run(config: Config, out: Path | str | None = None) -> RunDir:
    """Train, save ``model/``, and return the run directory; the same call resumes or returns what is finished."""
    job = stage.Offline("dpo", config, out)
    if not job.finished:
        check_same_tokens(config, "ref_policy")
        job.read((Preference, Ranking), encode_comparisons)
        policy = load_policy(job.folder, compute=config.compute, lora=config.lora, seed=config.trainer.seed)
        once = reference_logprobs(config, policy, job.train) if FORMS[config.loss].reference else None
        job.fit(Objective(policy, config), once=once)
        job.save(policy, save_policy)
    return job.run
