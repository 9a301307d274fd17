"""Comparisons by a constitution: a chat model says which of two answers fits a principle better, in both orders.

    p_A(x, y) = exp l_A / (exp l_A + exp l_B)        p = clamp((p_A(y_1, y_2) + 1 − p_A(y_2, y_1)) / 2, lo, hi)

l_A, l_B are the log-probabilities of "(A)" and "(B)" as the beginning of the model's answer, y_1 the answer at (A). Bai
et al. 2022, arXiv:2212.08073, section 4.1: soft labels, a principle drawn for each comparison, and 0.4 to 0.6 where the
model thinks first. Lee et al. 2023, arXiv:2309.00267, section 3.1: the mean of both orders. A model that gives no
log-probabilities is asked k times in each order: p_A = (a + 1) / (a + b + 2), which is never certain.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from baro.bar import progress_bar
from baro.constitution import Constitution, Principle, comparison_request, verdict_request
from baro.data.files import write_rows
from baro.errors import MAX_ERROR_FRACTION
from baro.functional.options import OPTIONS, p_first_option, p_of_verdicts, verdict_in
from baro.functional.statistics import wilson_interval
from baro.functional.streams import stream_key
from baro.judge_config import JudgingConfig
from baro.methods.calls import Asked, Calls, Speaker
from baro.methods.raters import Case, Pair, PairRater, Tally, pair_key, shown_second
from baro.records import Conversation, OptionScores, SamplingParams, content_hash
from baro.runs import RunDir

log = logging.getLogger("baro")
LITTLE_MASS = 0.5  # probability of both options together below which it is said that the model answers otherwise


@dataclass(frozen=True)
class Order:
    """One comparison in one order: which answer stands at (A), and what is asked."""

    case: Case
    pair: Pair
    principle: Principle
    name: str
    first: int  # 0: the pair's first answer stands at (A)

    @property
    def item(self) -> str:
        """How the comparison is called where it failed."""
        return pair_key(self.case, self.pair)


class PrincipleRater(PairRater):
    """A labeller that compares by a constitution; what it said of each comparison is kept in judgments.jsonl."""

    def __init__(
        self,
        constitution: Constitution,
        labeller: Speaker,
        judging: JudgingConfig,
        seed: int,
        run: RunDir,
        max_error_fraction: float = MAX_ERROR_FRACTION,
    ) -> None:
        self.constitution, self.labeller, self.judging, self.seed = constitution, labeller, judging, seed
        self._run, self._limit = run, max_error_fraction
        self._mass: list[float] = []
        self._sampled: set[str] = set()

    def compare(self, asked: Sequence[tuple[Case, Pair]], tally: Tally) -> list[tuple[float | None, str]]:
        orders = [order for case, pair in asked for order in self._orders(case, pair)]
        calls_each = 2 if self.judging.reasoning else 1
        with progress_bar("label", calls_each * len(orders)) as show:
            calls = Calls(self._run, len(asked), "comparisons", self._limit, show)
            found = self._p_left(calls, orders)
        tally.asked += len(asked)
        tally.errors += calls.failed.values()
        tally.reasons |= calls.failed
        both = list(zip(found[::2], found[1::2], strict=True))
        p_first = [self._both(one, orders[2 * i]) for i, one in enumerate(both)]
        self._tell(tally, asked, both, p_first)
        self._write(orders[::2], both, p_first)
        sides = ["second" if order.first else "first" for order in orders[::2]]
        return [(p, "" if p is None else side) for p, side in zip(p_first, sides, strict=True)]

    def _orders(self, case: Case, pair: Pair) -> list[Order]:
        """The comparison as it is asked first, and with its sides swapped; by the same principle."""
        texts = sorted(case.answers.completions[k] for k in pair)
        name = content_hash([case.answers.prompt, texts])
        first = int(shown_second(self.seed, case, pair))
        one = Order(case, pair, self.constitution.draw(self.seed, name), name, first)
        return [one, replace(one, first=1 - first)]

    def _p_left(self, calls: Calls, orders: Sequence[Order]) -> list[float | None]:
        """p(the answer at (A) is better) of each order; None where there is no verdict."""
        questions = self._questions(calls, orders)
        left = [i for i, question in enumerate(questions) if question is not None]
        asked = [Asked(questions[i] or (), orders[i].item) for i in left]
        scores = calls.options(self.labeller, asked[:1], OPTIONS)
        unknown = bool(scores) and scores[0].logprobs is None and scores[0].error is None
        if unknown:
            calls.done -= 1  # it is asked again
            log.info(
                "%s gives no log-probs: %d verdicts are drawn in each order",
                *(self.labeller.model.name, self.judging.verdicts),
            )
        else:
            scores += calls.options(self.labeller, asked[1:], OPTIONS)
        known = dict(zip(left[: len(scores)], scores, strict=True))
        found: list[float | None] = [self._from_options(known.get(i)) for i in range(len(orders))]
        again = [i for i in left if i not in known or (known[i].logprobs is None and known[i].error is None)]
        for i, p in zip(again, self._sample(calls, [(orders[i], questions[i] or ()) for i in again]), strict=True):
            found[i] = p
        return found

    def _questions(self, calls: Calls, orders: Sequence[Order]) -> list[Conversation | None]:
        """What is asked in each order, after the thoughts about it where there are some; None where those failed."""
        plain = [self._question(order) for order in orders]
        if not self.judging.reasoning:
            return list(plain)
        asked = [
            Asked(question, order.item, stream_key("thoughts", self.seed, order.name, order.first))
            for order, question in zip(orders, plain, strict=True)
        ]
        thoughts = [replies[0].text for replies in calls.chat(self.labeller, asked, self._params)]
        return [
            None if text is None else verdict_request(question, text, self._language(order))
            for order, question, text in zip(orders, plain, thoughts, strict=True)
        ]

    def _question(self, order: Order) -> Conversation:
        one = order.case.answers
        first, second = (one.completions[order.pair[side]] for side in (order.first, 1 - order.first))
        ends: Literal["verdict", "thoughts"] = "thoughts" if self.judging.reasoning else "verdict"
        return comparison_request(self.constitution, order.principle, one.prompt, first, second, ends_with=ends)

    def _language(self, order: Order) -> Literal["en", "ko"]:
        return self.constitution.language_of(order.case.answers.prompt)

    @property
    def _params(self) -> SamplingParams:
        return SamplingParams(max_new_tokens=self.judging.max_new_tokens)

    def _from_options(self, scores: OptionScores | None) -> float | None:
        if scores is None or scores.logprobs is None:
            return None
        self._mass.append(math.exp(scores.logprobs[0]) + math.exp(scores.logprobs[1]))
        return p_first_option(scores.logprobs)

    def _sample(self, calls: Calls, orders: Sequence[tuple[Order, Conversation]]) -> list[float | None]:
        asked = [
            Asked(question, order.item, stream_key("verdict", self.seed, order.name, order.first))
            for order, question in orders
        ]
        found: list[float | None] = []
        drawn = calls.chat(self.labeller, asked, self._params, self.judging.verdicts) if asked else []
        for (order, _), replies in zip(orders, drawn, strict=True):
            said = [verdict_in(reply.text) for reply in replies if reply.text is not None]
            decided = [verdict for verdict in said if verdict is not None]
            if said and not decided:
                first = next(reply.text for reply in replies if reply.text is not None)
                calls.fail(order.item, f"no verdict begins with (A) or (B); the first: {first[:60]!r}")
            self._sampled |= {order.item} if decided else set()
            found.append(p_of_verdicts(decided) if decided else None)
        return found

    def _both(self, p_left: tuple[float | None, float | None], asked_first: Order) -> float | None:
        """p(the pair's first answer is better): the mean of both orders, clamped."""
        one, other = p_left
        if one is None or other is None:
            return None
        p = (one + 1 - other) / 2
        lowest, highest = self.judging.bounds
        return min(max(1 - p if asked_first.first else p, lowest), highest)

    def _tell(
        self,
        tally: Tally,
        asked: Sequence[tuple[Case, Pair]],
        both: Sequence[tuple[float | None, float | None]],
        p_first: Sequence[float | None],
    ) -> None:
        """The order's influence, before and after the mean; how much of its probability the model gives the options."""
        whole = [(one, other) for one, other in both if one is not None and other is not None]
        decided = [one for one, _ in whole if one != 0.5]
        if decided:
            tally.told["left_preferred/one_order"] = wilson_interval(sum(p > 0.5 for p in decided), len(decided))
        mean = [(one + 1 - other) / 2 for one, other in whole if one + 1 - other != 1]
        tally.left, tally.decided = tally.left + sum(p > 0.5 for p in mean), tally.decided + len(mean)
        if whole:
            same = sum((one > 0.5) == (other > 0.5) and 0.5 not in (one, other) for one, other in whole)
            tally.told["same_position"] = wilson_interval(same, len(whole))
        if self._mass:
            tally.told["option_mass"] = mass = math.fsum(self._mass) / len(self._mass)
            if mass < LITTLE_MASS:
                log.warning(
                    "%s gives (A) and (B) together a probability of %.3g on average, and mostly begins otherwise; its "
                    "labels rest on little: show it examples of comparisons in the constitution, or take another model",
                    *(self.labeller.model.name, mass),
                )
        if self._sampled:
            tally.told["sampled_verdicts"] = float(len(self._sampled))

    def _write(
        self,
        orders: Sequence[Order],
        both: Sequence[tuple[float | None, float | None]],
        p_first: Sequence[float | None],
    ) -> None:
        """What was said of each comparison, for people to read; p is of the pair's first answer."""
        rows = [
            {
                "row": order.case.key,
                "answers": [k + 1 for k in order.pair],
                "principle": order.principle.name,
                "shown_first": order.pair[order.first] + 1,
                "p_left": list(p_left),
                "p_first": p,
            }
            for order, p_left, p in zip(orders, both, p_first, strict=True)
        ]
        write_rows(Path(self._run.path) / "judgments.jsonl", rows)
