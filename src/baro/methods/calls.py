"""What a stage asks chat models: each question once, and each answer on the disk before the next ones are asked.

A call is known by its content: who is asked (the model's config, whose content is a part of the run), the conversation,
how the answer is drawn and with which key. Equal calls are asked once. A run that was killed finds in calls.jsonl what
was answered, and repeats at most the calls that were in flight.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from baro.errors import RewardError
from baro.files import fault_point, write_atomic
from baro.protocols import ChatModel
from baro.records import Conversation, OptionScores, Reply, SamplingParams, content_hash, message_list
from baro.rows import JsonLines, finite
from baro.runs import RunDir

AT_ONCE = 64
"""Calls in flight at most; a model whose ``at_once`` is another number is asked so many."""


@dataclass(frozen=True)
class Speaker:
    """A chat model, and what it is in the identity of a call."""

    model: ChatModel
    identity: str

    @property
    def at_once(self) -> int:
        """How many conversations are given to it in one call."""
        return int(getattr(self.model, "at_once", AT_ONCE))


@dataclass(frozen=True)
class Asked:
    """A conversation whose answer is wanted, for which item, and the key of the random numbers that draw it."""

    conversation: Conversation
    item: str
    key: int = 0


class Calls:
    """The calls of one run.

    of: how many items the run has, called ``what``; where more than ``max_error_fraction`` of them have failed, the run
    stops, and forgets the failures, so that they are asked again when it is started again.
    """

    def __init__(self, run: RunDir, of: int, what: str, max_error_fraction: float, show: Callable[[int], None]) -> None:
        self._run, self._of, self._what, self._limit, self._show = run, of, what, max_error_fraction, show
        self._file = JsonLines(run.path / "calls.jsonl")
        self._file.drop_broken_end()
        self._known = {row["call"]: row for row in self._file.read()}
        self.failed: dict[str, str] = {}  # why, by item
        self.done = 0

    def chat(self, who: Speaker, asked: Sequence[Asked], params: SamplingParams, n: int = 1) -> list[list[Reply]]:
        """``n`` answers to each conversation, in the same order."""
        drawn = {"n": n, **asdict(params)}
        names = [self._name(who, one.conversation, {**drawn, "key": one.key}) for one in asked]

        def ask(missing: Sequence[Asked]) -> list[dict[str, Any]]:
            found = who.model.chat([one.conversation for one in missing], n, params, [one.key for one in missing])
            return [{"replies": [_row_of(reply) for reply in replies]} for replies in found]

        rows = self._answered(names, asked, who.at_once, ask)
        return [[_reply_of(one) for one in row["replies"]] for row in rows]

    def options(self, who: Speaker, asked: Sequence[Asked], options: Sequence[str]) -> list[OptionScores]:
        """The log-probability of each option as the answer's beginning, in the same order."""
        names = [self._name(who, one.conversation, {"options": list(options)}) for one in asked]

        def ask(missing: Sequence[Asked]) -> list[dict[str, Any]]:
            if not hasattr(who.model, "options"):  # rules that only talk
                return [{"logprobs": None, "error": None} for _ in missing]
            found = who.model.options([one.conversation for one in missing], options)
            return [{"logprobs": one.logprobs and list(one.logprobs), "error": one.error} for one in found]

        rows = self._answered(names, asked, who.at_once, ask)
        return [OptionScores(None if row["logprobs"] is None else tuple(row["logprobs"]), row["error"]) for row in rows]

    def fail(self, item: str, reason: str) -> None:
        """Count an item as failed, whatever of it failed first; RewardError where they are too many."""
        self.failed.setdefault(item, reason)
        if len(self.failed) <= self._limit * self._of:
            return
        self.forget_failures()
        self._run.finish("stopped")
        raise RewardError(
            f"{self._run.path}: {len(self.failed)} of {self._of} {self._what} failed, more than max_error_fraction "
            f"{self._limit:g} allows; what was answered is kept, and the same command goes on from there; the first: "
            f"{': '.join(next(iter(self.failed.items())))}"
        )

    def forget_failures(self) -> None:
        """Take failed calls out of the file, so that a stopped run asks them again."""
        kept = [row for row in self._known.values() if _why_failed(row) is None]
        write_atomic(
            self._file.path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in kept)
        )

    def _name(self, who: Speaker, conversation: Conversation, drawn: dict[str, Any]) -> str:
        return content_hash([who.identity, message_list(conversation), drawn])

    def _answered(
        self,
        names: Sequence[str],
        asked: Sequence[Asked],
        at_once: int,
        ask: Callable[[Sequence[Asked]], list[dict[str, Any]]],
    ) -> list[dict[str, Any]]:
        """The row of each call. Where the cuts lie does not depend on what is known, so that a run that goes on asks
        the same conversations together."""
        once = list({name: i for i, name in reversed(list(enumerate(names)))}.values())[::-1]
        for start in range(0, len(once), at_once):
            part = once[start : start + at_once]
            missing = [i for i in part if names[i] not in self._known]
            if missing:
                rows = ask([asked[i] for i in missing])
                fault_point("after-calls")
                for i, row in zip(missing, rows, strict=True):
                    self._known[names[i]] = finite({"call": names[i], **row})
                    self._file.append(self._known[names[i]])
            for i in part:
                if (reason := _why_failed(self._known[names[i]])) is not None:
                    self.fail(asked[i].item, reason)
            self.done += len(part)
            self._show(self.done)
        for name, one in zip(names, asked, strict=True):  # those too that say what another one said
            if (reason := _why_failed(self._known[name])) is not None:
                self.fail(one.item, reason)
        self.done += len(names) - len(once)
        self._show(self.done)
        return [self._known[name] for name in names]


def _row_of(reply: Reply) -> dict[str, Any]:
    if reply.text is None:
        return {"error": reply.error or "no answer"}
    return {"text": reply.text, "finished": reply.finished}


def _reply_of(row: dict[str, Any]) -> Reply:
    return Reply(row.get("text"), row.get("finished", True), row.get("error"))


def _why_failed(row: dict[str, Any]) -> str | None:
    """Why nothing was answered; None where something was."""
    if "replies" not in row:
        return row.get("error")
    errors = [one.get("error") for one in row["replies"]]
    return errors[0] if None not in errors else None
