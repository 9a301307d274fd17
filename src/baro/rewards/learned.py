"""A reward or cost model as a RewardSource."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from baro.batch import Branch, Sample
from baro.data.rows import Unusable
from baro.data.template import Template
from baro.models.folders import positions_of
from baro.models.forward import ScoredModel, forward_samples
from baro.protocols import LocalWorld, World
from baro.records import Rollout, Score


class LearnedReward:
    """Scores rollouts with a scalar model, pooled, squashed and weighted as its reward_head.json says.

    Where the sampler's tokens are those of the reward model's own template (same fingerprint), they are scored as they
    are; otherwise the text is rendered by the reward model's template. An unfinished completion gets no end token that
    it did not produce. What is longer than the model's positions has no score.
    """

    def __init__(
        self,
        model: ScoredModel,
        template: Template,
        *,
        name: str = "reward_model",
        sampler_fingerprint: str = "",
        micro_batch_tokens: int = 8192,
        world: World | None = None,
    ) -> None:
        self.model, self.template, self.name = model, template, name
        self.longest = positions_of(model.model.config)
        self.same_tokens = sampler_fingerprint == template.fingerprint
        self.micro_batch_tokens = micro_batch_tokens
        self.world: World = world or LocalWorld()

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        samples = [self._sample(rollout) for rollout in rollouts]
        known = [one for one in samples if isinstance(one, Sample)]
        found = forward_samples(
            self.model, known, ["scores"], micro_batch_tokens=self.micro_batch_tokens, world=self.world
        )
        values = iter(found["scores"])
        return [self._score(float(next(values)[0])) if isinstance(one, Sample) else one for one in samples]

    def _score(self, value: float) -> Score:
        return Score(value) if value == value else Score(None, "the reward model gave NaN")

    def _sample(self, rollout: Rollout) -> Sample | Score:
        """What the model reads, or why it cannot read this rollout whole."""
        try:
            if self.same_tokens and rollout.completion_ids:
                prompt, ids = self.template.encode_prompt(rollout.prompt), list(rollout.completion_ids)
            else:
                prompt, ids, _, _ = self.template.encode(rollout.prompt, rollout.completion)
                ids = list(ids) if rollout.finished else _without_end(list(ids), self.template.end_ids)
        except Unusable as fault:
            return Score(None, f"{self.name}: {fault.sentence}")
        length = len(prompt) + len(ids)
        if self.longest is not None and length > self.longest:
            return Score(None, f"{self.name}: has {length} tokens, and the model has {self.longest} positions")
        nothing = torch.zeros(len(ids), dtype=torch.bool)
        one = Branch(torch.tensor(ids, dtype=torch.long), nothing, len(ids) - 1)
        return Sample(torch.tensor(prompt, dtype=torch.long), (one,))


def _without_end(ids: list[int], end_ids: frozenset[int]) -> list[int]:
    while ids and ids[-1] in end_ids:
        ids.pop()
    return ids
