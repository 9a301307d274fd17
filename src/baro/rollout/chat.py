"""A local model that answers conversations, and the log-probs of given answers. Servers: ``rollout/remote.py``."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from baro.bar import progress_bar
from baro.batch import Sample, branch
from baro.data.rendering import Rendered
from baro.data.rows import Unusable
from baro.data.template import Template
from baro.functional.options import check_options
from baro.models.folders import positions_of
from baro.models.forward import ScoredModel, forward_samples
from baro.protocols import LocalWorld
from baro.records import UNKNOWN, Conversation, OptionScores, Reply, SamplingParams
from baro.rollout.engine import Engine

log = logging.getLogger("baro")
CHUNK = 512  # conversations at once: bounds the tables of random numbers and tokens
OPTION_TOKENS = 8192  # columns of one forward


class LocalChatModel:
    """A ChatModel whose weights are here.

    Sample s of a conversation with key k uses the stream Philox(k, s) alone, as every sampling of Baro. A conversation
    that the template cannot render, or that leaves no room for the answer, gets an error.
    """

    def __init__(self, model: ScoredModel, template: Template, *, name: str) -> None:
        self.model, self.template, self.name = model, template, name
        self.engine = Engine(model, end_ids=template.end_ids)
        self.longest = positions_of(model.model.config)

    def chat(
        self, conversations: Sequence[Conversation], n: int, params: SamplingParams, keys: Sequence[int]
    ) -> list[list[Reply]]:
        """``n`` answers to each conversation."""
        assert len(keys) == len(conversations), "one key per conversation"
        prompts = [self._prompt(one, params.max_new_tokens) for one in conversations]
        found = [[one] * n if isinstance(one, Reply) else [] for one in prompts]
        asked = [(i, one) for i, one in enumerate(prompts) if not isinstance(one, Reply)]
        with progress_bar(self.name, n * len(asked), transient=True) as show:
            for start in range(0, len(asked), CHUNK):
                part = asked[start : start + CHUNK]
                self.engine.on_progress = lambda done, _, before=n * start: show(before + done)
                drawn = self.engine.generate([ids for _, ids in part], n, params, [keys[i] for i, _ in part])
                for (i, _), group in zip(part, drawn, strict=True):
                    found[i] = [Reply(self.template.decode(one.ids), one.finished) for one in group]
        return found

    def options(self, conversations: Sequence[Conversation], options: Sequence[str]) -> list[OptionScores]:
        """The sum of the log-probs of an option's tokens after the template's opening words, in nats.

        UNKNOWN from a model that always thinks first: what it would say after its thoughts, nobody knows before.
        """
        check_options(options)
        if self.template.rendering.opening:
            return [UNKNOWN] * len(conversations)
        samples, errors = [], {}
        for i, conversation in enumerate(conversations):
            try:
                sample = self._sample(conversation, options)
            except Unusable as error:
                errors[i] = str(error)
                continue
            length = len(sample.prompt_ids) + max(len(one.ids) for one in sample.completions)
            if self.longest is not None and length > self.longest:
                errors[i] = self._too_long(length)
            else:
                samples.append(sample)
        scored = forward_samples(
            self.model, samples, ["logprobs"], micro_batch_tokens=OPTION_TOKENS, world=LocalWorld()
        )["logprobs"]
        found = iter(_scores(group) for group in scored)
        return [OptionScores(None, errors[i]) if i in errors else next(found) for i in range(len(conversations))]

    def _prompt(self, conversation: Conversation, room: int) -> list[int] | Reply:
        if not conversation:
            return Reply(None, error=f"{self.name}: the conversation is empty")
        try:
            ids = self.template.encode_prompt(conversation)
        except Unusable as error:
            return Reply(None, error=str(error))
        if self.longest is not None and len(ids) + room > self.longest:
            return Reply(None, error=self._too_long(len(ids) + room))
        return ids

    def _too_long(self, length: int) -> str:
        return (
            f"{self.name}: the conversation with its answer takes {length} tokens, and the model reads {self.longest}"
        )

    def _sample(self, conversation: Conversation, options: Sequence[str]) -> Sample:
        prompt = self.template.rendering.prompt(conversation)
        before = prompt + self.template.rendering.lead
        rendered = [Rendered(prompt, before + one, ((len(prompt), len(before + one)),)) for one in options]
        encoded = self.template.tokenize(rendered)
        branches = []
        for one in encoded:
            ids = one.completion_ids[:-1] if one.completion_ids[-1] in self.template.end_ids else one.completion_ids
            branches.append(branch(ids))
        return Sample(torch.tensor(encoded[0].prompt_ids), tuple(branches))


def _scores(group: Sequence[torch.Tensor]) -> OptionScores:
    values = tuple(float(one.double().sum()) for one in group)
    if any(value != value for value in values):
        return OptionScores(None, "the model's log-probs are not finite")
    return OptionScores(values)
