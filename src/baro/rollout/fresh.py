"""Old log-probs that training can start from: the sampler's where it is exact, else the training forward's."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from baro.batch import Sample, flat, with_flat
from baro.errors import GuardStop
from baro.models.forward import BF16_TOLERANCE, ScoredModel, flat_forward
from baro.protocols import Sampler, State, World

EXACT = 1e-4
"""Nats by which an exact sampler's log-probs may differ from the training forward's."""


class OldLogprobs:
    """Makes sure that every ratio π/π_old starts at 1.

    A sampler that is ``exact`` is compared with the training forward once, on its first rollout. The log-probs of any
    other are replaced by the training forward's and kept as ``sampler_logprobs``, and a sampler that is far from it (in
    the mean difference of the tokens' probabilities) stops the run.
    """

    def __init__(
        self, policy: ScoredModel, sampler: Sampler, *, micro_batch_tokens: int, temperature: float = 1.0
    ) -> None:
        self.policy, self.sampler = policy, sampler
        self.micro_batch_tokens, self.temperature = micro_batch_tokens, temperature
        self.checked = False

    def __call__(self, samples: Sequence[Sample], world: World) -> list[Sample]:
        """The samples with old log-probs to train from; all ranks enter together."""
        if not self.sampler.exact:
            return self.recomputed(samples, world)
        if not self.checked:
            self._check(samples, world)
            self.checked = True
        return list(samples)

    def recomputed(self, samples: Sequence[Sample], world: World) -> list[Sample]:
        """The samples with the training forward's log-probs."""
        now, old = self._forward(samples, world), flat(samples, "old_logprobs")
        sums = world.sum({"gap": float((now.exp() - old.exp()).abs().sum()), "tokens": len(now)})
        if not sums["gap"] <= BF16_TOLERANCE * sums["tokens"]:
            raise GuardStop(
                f"the sampler's probabilities differ from the training forward's by {sums['gap'] / sums['tokens']:.3f} "
                f"on average (limit {BF16_TOLERANCE:g}); set compute.dtype: float32"
            )
        known = any("sampler_logprobs" in one.token_fields for sample in samples for one in sample.completions)
        kept = {} if self.sampler.exact or known else {"sampler_logprobs": old}  # known: it was drawn before
        return with_flat(samples, {"old_logprobs": now, **kept})

    def state_dict(self) -> State:
        return {"checked": self.checked}

    def load_state_dict(self, state: State) -> None:
        self.checked = state["checked"]

    def _check(self, samples: Sequence[Sample], world: World) -> None:
        now, old = self._forward(samples, world), flat(samples, "old_logprobs")
        worst = world.max(float((now - old).abs().max()) if len(now) else 0.0)
        if worst > EXACT:
            raise GuardStop(
                f"the sampler's log-probs differ from the training forward's by up to {worst:.2e} (limit {EXACT:g}): "
                "the ratio would not start at 1; this model cannot be sampled exactly yet"
            )

    def _forward(self, samples: Sequence[Sample], world: World) -> Tensor:
        tokens, temperature = self.micro_batch_tokens, self.temperature
        return flat_forward(
            self.policy, samples, "logprobs", micro_batch_tokens=tokens, world=world, temperature=temperature
        )
