"""Direct preference optimisation: preferences without a reward model.

    h = (log π(y_w|x) − log π_ref(y_w|x)) − (log π(y_l|x) − log π_ref(y_l|x)),   log-probs summed over the completion
    L = −(1/P) Σ [ p log σ(β h) + (1 − p) log σ(−β h) ]      p = p_chosen, 1 for a plain pair

Rafailov et al. 2023, arXiv:2305.18290 eq. 7; with p as in conservative DPO (Mitchell 2023). The reference's log-probs
are computed once, before the first step.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from baro import config as blocks
from baro.batch import GroupBatch, Sample, pack_samples
from baro.checkpoints import read_state, write_state
from baro.data.encode import encode_preferences
from baro.errors import GuardStop
from baro.functional.preference import dpo_loss
from baro.functional.tokens import segment_sum
from baro.inputs import hash_input, load_template, open_run, resolve
from baro.methods import stage
from baro.models.forward import ScoredModel, forward_samples
from baro.models.load import load_policy, save_policy
from baro.protocols import LocalWorld, LossOutput, State, World
from baro.records import Preference, content_hash
from baro.runs import RunDir

Metrics = dict[str, tuple[Tensor | float, Tensor | float]]


class Config(blocks.Config):
    """``baro dpo``."""

    policy: str = Field(description="the model to train: a run, a folder, or a hub id")
    preferences: str = Field(description="pairs of completions, the better one chosen: a run or a file")
    ref_policy: str | None = Field(None, description="the model to stay close to; the starting policy unless given")
    beta: float = Field(0.1, gt=0, description="how strongly the policy is held to the reference")
    trainer: blocks.TrainerConfig = blocks.TrainerConfig(learning_rate=5e-7, epochs=1, batch_size=32)
    data: blocks.DataConfig = blocks.DataConfig()


class Prepare:
    """Reference log-probs per scored token, once; kept in a file named by reference, tokens and dtype."""

    scope: Literal["once"] = "once"
    atom: Literal["group"] = "group"

    def __init__(self, ref_policy: ScoredModel, ref_hash: str, micro_batch_tokens: int) -> None:
        self.ref_policy, self.ref_hash, self.micro_batch_tokens = ref_policy, ref_hash, micro_batch_tokens

    def __call__(self, samples: Sequence[Sample], world: World) -> list[Sample]:
        bare = pack_samples(samples)
        tokens = {name: bare[name].tolist() for name in ("prompt_ids", "prompt_lengths", "ids", "lengths", "scored")}
        kind = [str(self.ref_policy.model.dtype), self.ref_policy.model.config._attn_implementation]
        cached = cache_folder() / f"ref-logprobs-{content_hash([self.ref_hash, tokens, kind])}.state"
        if cached.exists():
            flat = read_state(cached)["ref_logprobs"]
        else:
            flat = self._compute(samples, world)
            cached.parent.mkdir(parents=True, exist_ok=True)
            write_state(cached, {"ref_logprobs": flat})
        parts = iter(flat.split([b.scored_tokens for s in samples for b in s.completions]))
        return [
            s.with_completions([b.with_(token_fields={"ref_logprobs": next(parts)}) for b in s.completions])
            for s in samples
        ]

    def _compute(self, samples: Sequence[Sample], world: World) -> Tensor:
        budget = self.micro_batch_tokens
        found = forward_samples(self.ref_policy, samples, ["logprobs"], micro_batch_tokens=budget, world=world)
        return torch.cat([lp for group in found["logprobs"] for lp in group])

    def state_dict(self) -> State:
        return {}

    def load_state_dict(self, state: State) -> None:
        return None


def cache_folder() -> Path:
    """$BARO_CACHE, or ~/.cache/baro."""
    return Path(os.environ.get("BARO_CACHE", Path.home() / ".cache" / "baro"))


class Objective:
    """The sigmoid loss on summed log-ratios."""

    def __init__(self, policy: ScoredModel, *, beta: float) -> None:
        self.policy, self.beta = policy, beta

    def modules(self) -> dict[str, nn.Module]:
        return {"policy": self.policy}

    def parameter_groups(self) -> list[dict]:
        return [{"params": [p for p in self.policy.parameters() if p.requires_grad]}]

    def losses(self, batch: GroupBatch, totals: Mapping[str, float]) -> Iterator[LossOutput]:
        logprobs = self.policy(batch, ["logprobs"]).logprobs
        ratios = segment_sum(logprobs - batch.token_fields["ref_logprobs"], batch.completion_of, len(batch.group_of))
        is_chosen = batch.completion_fields["chosen"].bool()
        chosen, rejected = ratios[is_chosen], ratios[~is_chosen]  # both ordered by group
        p_chosen = batch.completion_fields["p_chosen"][is_chosen].to(ratios.dtype)
        loss = dpo_loss(chosen, rejected, beta=self.beta, p_chosen=p_chosen)
        sums = segment_sum(logprobs.detach(), batch.completion_of, len(batch.group_of))
        yield LossOutput(
            loss.sum() / totals["pairs"], self._metrics(chosen.detach(), rejected.detach(), sums, is_chosen)
        )

    def _metrics(self, chosen: Tensor, rejected: Tensor, sums: Tensor, is_chosen: Tensor) -> Metrics:
        pairs = len(chosen)
        return {
            "rewards/chosen": (self.beta * chosen.sum(), pairs),
            "rewards/rejected": (self.beta * rejected.sum(), pairs),
            "rewards/margins": (self.beta * (chosen - rejected).sum(), pairs),
            "rewards/accuracies": ((chosen > rejected).sum(), pairs),
            "logps/chosen": (sums[is_chosen].sum(), pairs),
            "logps/rejected": (sums[~is_chosen].sum(), pairs),
        }


def run(config: Config, out: Path | str | None = None) -> RunDir:
    """Train, save ``model/``, and return the run directory; the same call resumes or returns what is finished."""
    reference = config.ref_policy or config.policy
    inputs = {"policy": (config.policy, "model"), "preferences": (config.preferences, "records")}
    run = open_run("dpo", config, inputs | ({"ref_policy": (reference, "model")} if config.ref_policy else {}), out)
    if run.finished:
        return run
    template = load_template(config.policy, config.data.template)
    reader = stage.Reader(run, template, config.data, Preference, encode_preferences)
    train, held_out = reader.train_and_held_out(config.preferences, config.trainer)
    policy = load_policy(resolve(config.policy, "model"))
    prepare = Prepare(
        load_policy(resolve(reference, "model")), hash_input(reference, "model"), config.trainer.micro_batch_tokens
    )
    if config.ref_policy is None:
        check_start(policy, prepare(train[:8], LocalWorld()))
    objective = Objective(policy, beta=config.beta)
    stage.fit_offline(run, objective, train, held_out, config.trainer, hidden_size=policy.hidden_size, prepare=prepare)
    stage.save_model(run, template, lambda path: save_policy(policy, path))
    run.finish("finished")
    return run


def check_start(policy: ScoredModel, samples: Sequence[Sample]) -> None:
    """With the starting policy as reference every log-ratio difference must be 0 before the first step."""
    found = forward_samples(policy, samples, ["logprobs"], micro_batch_tokens=8192, world=LocalWorld())
    for sample, group in zip(samples, found["logprobs"], strict=True):
        gaps = [
            float((lp - b.token_fields["ref_logprobs"]).sum()) for b, lp in zip(sample.completions, group, strict=True)
        ]
        if max(gaps) - min(gaps) > 1e-3:
            raise GuardStop(
                f"{sample.key}: the policy and its reference differ by {max(gaps) - min(gaps):.4f} nats before the "
                "first step, though they are the same model; its forward is not deterministic, or the cache is stale"
            )
