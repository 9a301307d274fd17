"""GRPO and its family: the policy learns from how a completion compares with others of the same prompt; no value model.

    max_π  E[ Σ_i A_i log π(y_i|x) ],   A_i = (r_i − r̄) / (s + ε) over the n completions of a prompt

Several completions of each prompt are sampled and scored; the advantage of a completion, the same at each of its
tokens, is its reward against its siblings'. Shao et al. 2024, arXiv:2402.03300, eq. 3. What differs between the members
of the family (``PRESETS``) is the baseline and what divides, the loss by the ratio π/π_old, what the sum over tokens is
divided by, and where the KL penalty stands. A completion whose advantage is 0 has no gradient, unless a KL stands in
the loss: it is not computed, and counts in every denominator. Policy, reference and sampler all see logits divided by
the sampling temperature.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from baro.batch import Branch, GroupBatch, Sample, flat, with_flat
from baro.errors import GuardStop
from baro.functional.groups import (
    overlong_penalty,
    tied,
)
from baro.functional.policy import clipped_policy_loss
from baro.functional.ratios import cispo_loss, dppo_loss, sequence_log_ratio
from baro.functional.tokens import kl_k1, kl_k2, kl_k3, segment_sum
from baro.grpo_config import PRESETS, Config
from baro.methods.baselines import SamplerGate, advantages, standardised_each
from baro.methods.online import Online, policy_metrics, ptx_loss
from baro.methods.reference import reference
from baro.methods.shaping import KlControl, MovingReference, Scores
from baro.methods.stage import Trained
from baro.models.forward import ScoredModel, flat_forward, layouts, restore_layouts
from baro.protocols import LossOutput, State, World
from baro.runs import RunDir

log = logging.getLogger("baro")
SILENT = 20
"""Rollouts without anything to learn after which a run stops."""


class Prepare:
    """Reference log-probs where the KL counts, and the advantage of each completion, at each of its tokens."""

    atom: Literal["completion", "group"] = "completion"

    def __init__(self, policy: ScoredModel, ref_policy: ScoredModel, config: Config) -> None:
        self.ref_policy, self.config = ref_policy, config
        self.kl, self.reference = KlControl(config.kl), MovingReference(ref_policy, policy, config.kl)
        self.scores = Scores(config.reward_shaping, config.terms)
        self.gate = SamplerGate(config.sampler_gate)
        self.silent = 0  # rollouts one after the other without a prompt whose completions differ in score

    def __call__(self, samples: Sequence[Sample], world: World) -> list[Sample]:
        self.reference.move(world)
        config, branches = self.config, [one for sample in samples for one in sample.completions]
        lengths = torch.tensor([one.scored_tokens for one in branches], dtype=torch.long)
        rewards = self.scores(samples, world).double()
        if config.overlong_buffer is not None:
            limit, buffer = config.sampling.max_new_tokens, config.overlong_buffer
            rewards = rewards + overlong_penalty(lengths, limit=limit, buffer=buffer)
        found, fields = list(samples), [{"length": float(length)} for length in lengths]
        if config.measures_kl:
            found, kl = self._referred(samples, lengths, world)
            fields = [f | {"kl": float(k), "kl_coef": self.kl.coef} for f, k in zip(fields, kl, strict=True)]
            if config.kl.place == "reward":
                rewards = rewards - self.kl.coef * kl
            self.kl.steer(kl, len(kl), world)
        of = torch.tensor([i for i, sample in enumerate(samples) for _ in sample.completions], dtype=torch.long)
        if config.advantage.terms == "each":
            values = standardised_each(self._of_terms(branches), of, len(samples), config.advantage, world)
        else:
            values = advantages(rewards, of, len(samples), config.advantage, world)
        same = tied(rewards, of, len(samples))
        self._watch(int((~same).sum()), world)
        weights, gated = self.gate(samples, lengths)
        fields = [{**f, "tied": float(t), **g} for f, t, g in zip(fields, same, gated, strict=True)]
        named = iter(zip((v * w for v, w in zip(values.float(), weights, strict=True)), fields, strict=True))
        return [s.with_completions([self._taught(one, *next(named)) for one in s.completions]) for s in found]

    def _of_terms(self, branches: Sequence[Branch]) -> list[tuple[float, Tensor]]:
        """The weight and the scores of each term, NaN where it has no opinion."""
        return [
            (term.weight, torch.tensor([one.fields[f"score/{term.called}"] for one in branches], dtype=torch.float64))
            for term in self.config.terms
        ]

    def _watch(self, different: int, world: World) -> None:
        """Stop once too many rollouts have had nothing to learn from: the reward is broken, or out of reach."""
        self.silent = 0 if world.sum({"different": different})["different"] else self.silent + 1
        if self.silent == SILENT:
            raise GuardStop(
                f"in {SILENT} rollouts one after the other all completions of every prompt had equal scores, so that "
                "nothing can be learned; look at samples.jsonl: is the reward broken, or the task too hard or too easy?"
            )

    def _taught(self, one: Branch, advantages: Tensor, fields: Mapping[str, float]) -> Branch:
        """A completion with the advantage of each token, skipped where its loss is 0 whatever the policy says.

        One that is left out keeps its figures, and counts in no denominator.
        """
        learned = float(self.config.truncated == "keep" or bool(one.fields["finished"]))
        taught, tokens = advantages * learned, one.scored_tokens
        idle = not (learned and self.config.kl_in_loss) and not taught.any()  # no gradient comes from it
        return one.with_(
            token_fields={"advantages": taught},
            fields={**fields, "learned": learned, "skipped_tokens": float(idle * tokens)},
            units={"learned_tokens": learned * tokens, "learned_completions": learned},
            skip=idle,
        )

    def _referred(self, samples: Sequence[Sample], lengths: Tensor, world: World) -> tuple[list[Sample], Tensor]:
        """The samples with the reference's log-probs, and k1 of each completion."""
        budget, temperature = self.config.trainer.micro_batch_tokens, self.config.sampling.temperature
        ref = flat_forward(
            self.ref_policy, samples, "logprobs", micro_batch_tokens=budget, world=world, temperature=temperature
        )
        of = torch.arange(len(lengths)).repeat_interleave(lengths)
        kl = segment_sum(kl_k1(flat(samples, "old_logprobs"), ref).double(), of, len(lengths))
        return with_flat(samples, {"ref_logprobs": ref}), kl

    def state_dict(self) -> State:
        return {
            "kl": self.kl.state_dict(),
            "reference": self.reference.state_dict(),
            "scores": self.scores.state_dict(),
            "layouts": layouts({"ref_policy": self.ref_policy}),
            "silent": self.silent,
        }

    def load_state_dict(self, state: State) -> None:
        self.kl.load_state_dict(state["kl"])
        self.reference.load_state_dict(state["reference"])
        self.scores.load_state_dict(state["scores"])
        restore_layouts({"ref_policy": self.ref_policy}, state["layouts"])
        self.silent = state["silent"]


class Objective(Trained):
    """The policy's loss by its ratio to the policy that sampled, and the KL where it stands in the loss."""

    def __init__(self, policy: ScoredModel, config: Config) -> None:
        super().__init__(policy=policy)
        self.policy, self.config = policy, config

    def losses(self, batch: GroupBatch, totals: Mapping[str, float]) -> Iterator[LossOutput]:
        with self.policy.in_role():  # until the trainer has taken the backward pass
            if batch.term == "ptx":
                yield ptx_loss(self.policy, batch, totals, coef=self.config.ptx.coef)
            else:
                yield self._loss(batch, totals)

    def _loss(self, batch: GroupBatch, totals: Mapping[str, float]) -> LossOutput:
        config, fields = self.config, batch.token_fields
        found = self.policy(batch, ["logprobs", "entropy"], temperature=config.sampling.temperature)
        loss, beyond = self._policy_loss(batch, found.logprobs)
        metrics = policy_metrics(batch, found.logprobs, found.entropy, loss.detach(), clipped=beyond)
        if config.kl_in_loss:
            kl = self._kl(found.logprobs, fields)
            coef = batch.completion_fields["kl_coef"][batch.completion_of]
            loss = loss + coef * kl * batch.completion_fields["learned"][batch.completion_of]
            metrics["loss/kl"] = (kl.detach().sum(), len(kl))
        return LossOutput((loss * self._weight(batch, totals)).sum(), metrics)

    def _policy_loss(self, batch: GroupBatch, logprobs: Tensor) -> tuple[Tensor, Tensor]:
        """One value a token, of which those of a completion that is left out are 0; and which lie beyond the bound."""
        config, old = self.config, batch.token_fields["old_logprobs"]
        given = batch.token_fields["advantages"]
        if config.policy_loss == "cispo":
            limit = config.limit or 5.0
            return cispo_loss(logprobs, old, given, limit=limit), (logprobs - old).exp() > limit
        if config.policy_loss == "dppo":
            limit = config.limit or 0.2
            return dppo_loss(logprobs, old, given, limit=limit), (logprobs.exp() - old.exp()).abs() > limit
        count, of = len(batch.group_of), batch.completion_of
        log_ratio = logprobs - old
        if config.policy_loss == "gspo":
            log_ratio = sequence_log_ratio(logprobs, old, of, count)
        elif config.policy_loss == "sequence_clip":
            log_ratio = segment_sum(log_ratio, of, count)[of]
        low, high = config.clip_range, config.clip_range_high or config.clip_range
        fresh = torch.zeros_like(log_ratio)
        loss = clipped_policy_loss(log_ratio, fresh, given, clip_range=low, clip_range_high=high)
        change = log_ratio.exp() - 1
        return loss, (change < -low) | (change > high)

    def _kl(self, logprobs: Tensor, fields: Mapping[str, Tensor]) -> Tensor:
        estimate = kl_k2 if self.config.kl.estimator == "k2" else kl_k3
        return estimate(logprobs, fields["ref_logprobs"], fields["old_logprobs"])

    def _weight(self, batch: GroupBatch, totals: Mapping[str, float]) -> Tensor:
        """What each token's loss is multiplied with, [N]."""
        tokens, completions = (max(totals[f"learned_{unit}"], 1.0) for unit in ("tokens", "completions"))
        if self.config.aggregate == "token":
            return torch.full_like(batch.token_fields["old_logprobs"], 1.0 / tokens)
        if self.config.aggregate == "sequence":
            return 1.0 / (batch.lengths.clamp(min=1)[batch.completion_of] * completions)
        longest = self.config.sampling.max_new_tokens
        return torch.full_like(batch.token_fields["old_logprobs"], 1.0 / (completions * longest))


def run(config: Config, out: Path | str | None = None) -> RunDir:
    """Train and save ``model/``; the same call resumes or returns what is finished."""
    job = Online("grpo", config, out)
    if not job.finished:
        if config.preset is not None:
            line = f"{config.preset}: {told(PRESETS[config.preset], config)}"
            log.info("preset %s", line)
            job.run.note("preset", line)
        job.read()
        policy = job.policy()
        compared = config.measures_kl or config.evaluation.judge is not None
        ref_policy = reference(config, policy) if compared else policy
        job.fit(policy, ref_policy, Objective(policy, config), Prepare(policy, ref_policy, config))
        job.save(policy)
    return job.run


def told(preset: Mapping[str, Any], block: Any, above: str = "") -> str:
    """What became of the keys that a preset sets, as ``--set`` would have it: what the config gave itself stays."""
    parts = [
        told(value, getattr(block, name), f"{above}{name}.")
        if isinstance(value, Mapping)
        else f"{above}{name}={getattr(block, name)}"
        for name, value in preset.items()
    ]
    return ", ".join(parts)
