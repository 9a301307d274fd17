"""A reward or cost model as a RewardSource."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from baro.batch import Branch, Sample
from baro.data.template import Template
from baro.models.forward import ScoredModel, forward_samples
from baro.protocols import LocalWorld, World
from baro.records import Message, Rollout, Score


class LearnedReward:
    """Scores rollouts with a scalar model, pooled, squashed and weighted as its reward_head.json says.

    Where the sampler's tokens are those of the reward model's own template (same fingerprint), they are scored as they
    are; otherwise the text is rendered by the reward model's template. An unfinished completion gets no end token that
    it did not produce.
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
        self.same_tokens = sampler_fingerprint == template.fingerprint
        self.micro_batch_tokens = micro_batch_tokens
        self.world: World = world or LocalWorld()

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        samples = [self._sample(rollout) for rollout in rollouts]
        found = forward_samples(
            self.model, samples, ["scores"], micro_batch_tokens=self.micro_batch_tokens, world=self.world
        )
        values = [float(scores[0]) for scores in found["scores"]]
        return [Score(v) if v == v else Score(None, "the reward model gave NaN") for v in values]

    def _sample(self, rollout: Rollout) -> Sample:
        if self.same_tokens and rollout.completion_ids:
            prompt = self.template.encode_prompt(rollout.prompt)
            ids = list(rollout.completion_ids)
        else:
            answer = (Message("assistant", rollout.completion),)
            prompt, ids, _, _ = self.template.encode(rollout.prompt, answer)
            ids = list(ids) if rollout.finished else _without_end(list(ids), self.template.end_ids)
        nothing = torch.zeros(len(ids), dtype=torch.bool)
        one = Branch(torch.tensor(ids, dtype=torch.long), nothing, len(ids) - 1)
        return Sample(torch.tensor(prompt, dtype=torch.long), (one,))


def _without_end(ids: list[int], end_ids: frozenset[int]) -> list[int]:
    while ids and ids[-1] in end_ids:
        ids.pop()
    return ids
