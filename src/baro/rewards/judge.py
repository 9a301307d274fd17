"""Chat models as judges: a rubric that scores one answer, and a comparison of two in both orders.

Zheng et al. 2023, arXiv:2306.05685: judges favour a side, which the mean of both orders takes out.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from baro.functional.options import OPTIONS, p_first_option, p_of_verdicts, verdict_in
from baro.functional.streams import stream_key
from baro.judge_config import PairJudgeConfig, RubricConfig
from baro.protocols import ChatModel
from baro.records import (
    UNKNOWN,
    Conversation,
    Message,
    OptionScores,
    Rollout,
    SamplingParams,
    Score,
    Verdict,
    content_hash,
)
from baro.rewards.judging import average_orders

log = logging.getLogger("baro")
LEAST_MASS = 0.01  # probability of both options together below which an answer begins otherwise, and says nothing
SHOWN = 80  # characters of an answer that is no judgment

RUBRIC = {
    "en": (
        "You judge an answer that an assistant gave.\n\n<conversation>\n{before}\n</conversation>\n\n"
        "<answer>\n{answer}\n</answer>\n\n"
        "Score it by each criterion, with a number from {lowest} (worst) to {highest} (best):\n{criteria}\n\n"
        "Reply with one JSON object and nothing else: {form}"
    ),
    "ko": (
        "어시스턴트가 한 답변을 평가합니다.\n\n<대화>\n{before}\n</대화>\n\n<답변>\n{answer}\n</답변>\n\n"
        "각 기준마다 {lowest}(가장 나쁨)부터 {highest}(가장 좋음)까지의 숫자로 점수를 매기세요.\n{criteria}\n\n"
        "다른 말 없이 JSON 객체 하나로만 답하세요: {form}"
    ),
}
COMPARISON = {
    "en": (
        "Two assistants answered the same conversation.\n\n<conversation>\n{before}\n</conversation>\n\n"
        "(A)\n<answer>\n{first}\n</answer>\n\n(B)\n<answer>\n{second}\n</answer>\n\n"
        "Which answer is better? {criterion}\nReply with (A) or (B) alone."
    ),
    "ko": (
        "두 어시스턴트가 같은 대화에 답했습니다.\n\n<대화>\n{before}\n</대화>\n\n"
        "(A)\n<답변>\n{first}\n</답변>\n\n(B)\n<답변>\n{second}\n</답변>\n\n"
        "어느 답변이 더 낫습니까? {criterion}\n(A) 또는 (B)로만 답하세요."
    ),
}
BETTER = {
    "en": "The better one helps more, is honest, and does no harm.",
    "ko": "더 도움이 되고, 정직하며, 해를 끼치지 않는 쪽이 낫습니다.",
}


class RubricJudge:
    """A RewardSource: a chat model scores each answer by the criteria, and says so in JSON.

    What is no valid judgment is asked for again, ``tries`` times in all; a failed call is not, since the model tries by
    itself. An answer of which no judgment is valid has an error in place of a score.
    """

    def __init__(self, model: ChatModel, config: RubricConfig, *, name: str) -> None:
        self.model, self.config, self.name = model, config, name

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        asked = [self._question(one) for one in rollouts]
        found: list[list[float]] = [[] for _ in asked]
        failed: dict[int, str] = {}
        broken: set[int] = set()  # of these a call failed
        for attempt in range(self.config.tries):
            left = [i for i, own in enumerate(found) if len(own) < self.config.samples and i not in broken]
            left.sort(key=lambda i: len(found[i]))
            for have, group in groupby(left, key=lambda i: len(found[i])):
                self._ask(asked, list(group), self.config.samples - have, attempt, found, failed, broken)
        return [
            Score(math.fsum(own) / len(own)) if own else Score(None, f"{self.name}: {failed[i]}")
            for i, own in enumerate(found)
        ]

    def _ask(
        self,
        asked: Sequence[Conversation],
        these: Sequence[int],
        n: int,
        attempt: int,
        found: list[list[float]],
        failed: dict[int, str],
        broken: set[int],
    ) -> None:
        params = SamplingParams(self.config.max_new_tokens, self.config.temperature)
        keys = [stream_key("rubric", self.config.seed, content_hash(asked[i]), attempt) for i in these]
        for i, replies in zip(these, self.model.chat([asked[i] for i in these], n, params, keys), strict=True):
            for reply in replies:
                if reply.text is None:
                    broken.add(i)
                judged = f"the call failed: {reply.error}" if reply.text is None else scores_in(reply.text, self.config)
                if isinstance(judged, str):
                    failed[i] = judged
                else:
                    found[i].append(self.config.score(judged))

    def _question(self, one: Rollout) -> Conversation:
        parts = self.config.parts
        text = RUBRIC[self.config.language].format(
            before=transcript(one.prompt),
            answer=one.text,
            lowest=self.config.lowest,
            highest=self.config.highest,
            criteria="\n".join(f"- {name}: {part.text}" for name, part in parts.items()),
            form="{" + ", ".join(f"{json.dumps(name, ensure_ascii=False, allow_nan=False)}: …" for name in parts) + "}",
        )
        return (Message("user", text),)


def scores_in(text: str, config: RubricConfig) -> dict[str, float] | str:
    """The score of each criterion, or why the text is no judgment. Thoughts in front and text around are let pass."""
    said = text.rpartition("</think>")[2].strip()
    start, end = said.find("{"), said.rfind("}")
    shown = repr(text[:SHOWN])
    try:
        value = json.loads(said[start : end + 1], object_pairs_hook=_each_once)
    except ValueError as error:
        return f"no JSON object with scores ({error}): {shown}"
    if not isinstance(value, dict):
        return f"no JSON object with scores: {shown}"
    for name in config.criteria:
        one = value.get(name)
        if isinstance(one, bool) or not isinstance(one, int | float):
            return f"no number for {name}: {shown}"
        if not config.lowest <= one <= config.highest:  # NaN lies nowhere
            return f"{name} is {one}, and not from {config.lowest} to {config.highest}: {shown}"
    return {name: float(value[name]) for name in config.criteria}


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


class ChatPairJudge:
    """A PairJudge: p(first is better) = (p_A(first, second) + 1 − p_A(second, first)) / 2.

    p_A from the log-probs of (A) and (B) as the beginning of the answer; of a model that tells none, from ``verdicts``
    answers in each order, a for (A) and b for (B): p_A = (a + 1) / (a + b + 2), which is never certain.
    """

    averages_orders = True

    def __init__(self, model: ChatModel, config: PairJudgeConfig) -> None:
        self.model, self.config = model, config
        self._told = False

    def compare(self, pairs: Sequence[tuple[Rollout, Rollout]]) -> list[Verdict]:
        both = [order for first, second in pairs for order in ((first, second), (second, first))]
        asked = [self._question(*order) for order in both]
        options = getattr(self.model, "options", None)
        scores = [UNKNOWN] * len(asked) if options is None else options(asked, OPTIONS)
        found = [_from_options(one) for one in scores]
        unknown = [i for i, one in enumerate(scores) if one == UNKNOWN]
        for i, verdict in zip(unknown, self._drawn([asked[i] for i in unknown]), strict=True):
            found[i] = verdict
        return [average_orders(*order) for order in zip(found[::2], found[1::2], strict=True)]

    def _drawn(self, asked: Sequence[Conversation]) -> list[Verdict]:
        if not asked:
            return []
        if not self._told:
            log.info(
                "%s tells no log-probs: %d verdicts are drawn in each order", self.model.name, self.config.verdicts
            )
            self._told = True
        params = SamplingParams(max_new_tokens=self.config.max_new_tokens)
        keys = [stream_key("judge", self.config.seed, content_hash(one)) for one in asked]
        found = []
        for replies in self.model.chat(asked, self.config.verdicts, params, keys):
            texts = [reply.text for reply in replies if reply.text is not None]
            said = [verdict for verdict in map(verdict_in, texts) if verdict is not None]
            if said:
                found.append(Verdict(p_of_verdicts(said)))
            elif texts:
                found.append(Verdict(None, f"no verdict begins with (A) or (B): {texts[0][:SHOWN]!r}"))
            else:
                found.append(Verdict(None, f"the call failed: {replies[0].error}"))
        return found

    def _question(self, first: Rollout, second: Rollout) -> Conversation:
        language = self.config.language
        text = COMPARISON[language].format(
            before=transcript(first.prompt),
            first=first.text,
            second=second.text,
            criterion=self.config.criterion or BETTER[language],
        )
        return (Message("user", text),)


def _from_options(scores: OptionScores) -> Verdict:
    if scores.logprobs is None:
        return Verdict(None, scores.error)
    mass = math.exp(scores.logprobs[0]) + math.exp(scores.logprobs[1])
    if mass < LEAST_MASS:
        return Verdict(None, f"its answers begin otherwise: (A) and (B) have a probability of {mass:.2g} together")
    return Verdict(p_first_option(scores.logprobs))


def transcript(turns: Conversation) -> str:
    """A conversation as a judge reads it."""
    return "\n".join(f"[{turn.role}] {turn.content}" for turn in turns)
