"""A ChatModel on a server that speaks the OpenAI chat API: what it is asked, and what of its answers is believed.

Servers ignore what they do not know. So the number of answers is counted, and log-probs are looked for, before
anything is made of either.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from baro.bar import calls_bar
from baro.chat_config import ServerConfig
from baro.errors import BackendError, ConfigError
from baro.functional.options import Step, check_options, option_logprobs
from baro.records import Conversation, OptionScores, Reply, SamplingParams, content_hash
from baro.rewards.waiting import finished
from baro.rollout.requests import Failed, Requests
from baro.rollout.served import Served

log = logging.getLogger("baro")
LIKELIEST = (20, 5)  # tokens that are asked for in each place; the second where a server refuses the first
TOLD_EVERY = 60.0  # seconds
SEEDS = 2**31  # what every server takes


def needs_openai() -> None:
    """ConfigError where the extra is missing."""
    if find_spec("openai") is None:
        raise ConfigError("server: its client is not installed; `pip install 'baro[judge]'`")


class RemoteChatModel:
    """A model on a server. What it answers is kept in the ``folder``, a run's, and not asked again.

    A call is known by address, model, conversation, parameters and key. A failed call is an error of its item alone;
    BackendError where no further call makes sense, when those in flight have ended.
    """

    def __init__(self, config: ServerConfig, folder: Path) -> None:
        self.config, self.name = config, config.model
        self.served = Served(config, folder)
        self._requests = Requests(config, self.served)
        self._takes_n = True  # not known yet
        self._likeliest = LIKELIEST[0]  # 0: it tells no log-probs
        self._probed = False
        self._told = time.monotonic()

    @property
    def at_once(self) -> int:
        """How many conversations keep all its connections busy."""
        return 4 * self.config.concurrency

    def chat(
        self, conversations: Sequence[Conversation], n: int, params: SamplingParams, keys: Sequence[int]
    ) -> list[list[Reply]]:
        """``n`` answers to each conversation. How a server draws them is its own affair: it gets a seed for each."""
        assert len(keys) == len(conversations), "one key per conversation"
        names = [
            [self._name(one, {"sample": s, "key": key} | _drawn(params)) for s in range(n)]
            for one, key in zip(conversations, keys, strict=True)
        ]
        failed: dict[str, str] = {}

        async def ask(i: int) -> None:
            await self._draw(conversations[i], names[i], params, keys[i], failed)

        self._each(ask, {own[0]: i for i, own in enumerate(names) if self._missing(own)})
        return [[_reply(self.served.known(name), failed.get(name)) for name in own] for own in names]

    def options(self, conversations: Sequence[Conversation], options: Sequence[str]) -> list[OptionScores]:
        """log p of each option up to where it can be told from the others, from the likeliest tokens of a greedy draw.

        UNKNOWN from a server that tells none.
        """
        check_options(options)
        names = [self._name(one, {"options": list(options)}) for one in conversations]
        failed: dict[str, str] = {}

        async def ask(i: int) -> None:
            try:
                await self._score(conversations[i], names[i], options)
            except Failed as error:
                failed[names[i]] = error.reason

        asked = {name: i for i, name in enumerate(names) if self._missing([name])}
        if not self._probed:  # one alone: the rest is asked for what the server is found to tell
            self._each(ask, dict(list(asked.items())[:1]))
            self._probed = bool(asked)
        self._each(ask, {name: i for name, i in asked.items() if self._likeliest and self._missing([name])})
        return [_scores(self.served.known(name), failed.get(name)) for name in names]

    # ------------------------------------------------------------------------------------------------------- calls

    def _each(self, ask: Callable[[int], Coroutine[Any, Any, None]], asked: Mapping[str, int]) -> None:
        """All that is asked, each once, side by side; where no further call makes sense, that is raised at the end."""
        if asked:
            finished(self._all(ask, list(asked.values())))
            if self._requests.stopped is not None:
                raise self._requests.stopped

    async def _all(self, ask: Callable[[int], Coroutine[Any, Any, None]], asked: Sequence[int]) -> None:
        begin, done = time.monotonic(), 0

        async def one(i: int) -> None:
            nonlocal done
            try:
                if self._requests.stopped is None:
                    await ask(i)
            except BackendError as error:
                if error is not self._requests.stopped:
                    raise
            done += 1
            show(done, self._spent())
            self._tell(done, len(asked), time.monotonic() - begin)

        with calls_bar(self.name, len(asked)) as show:
            tasks = [asyncio.create_task(one(i)) for i in asked]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await self._requests.close()

    async def _draw(
        self, conversation: Conversation, names: list[str], params: SamplingParams, key: int, failed: dict[str, str]
    ) -> None:
        """All answers in one call; those that did not come with it, each in a call of its own."""
        body = self._body(conversation, _drawn(params))
        if len(names) > 1 and self._takes_n and len(self._missing(names)) == len(names):
            try:
                seeded = body | {"n": len(names), "seed": key % SEEDS}
                await self._requests.ask(seeded, key, lambda answer: self._choices(answer, names))
            except Failed as error:
                if error.again:
                    failed |= dict.fromkeys(names, error.reason)
                    return
        for name in self._missing(names):
            s = names.index(name)
            try:
                seeded = body | {"seed": (key + s) % SEEDS}
                await self._requests.ask(seeded, key, lambda answer, own=name: self._choices(answer, [own]))  # type: ignore[misc]
            except Failed as error:
                failed[name] = error.reason

    def _choices(self, answer: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
        """What came, for the first of the names; Failed where an answer is none."""
        choices = answer.get("choices")
        if not isinstance(choices, list) or not choices:
            raise Failed(f"{self.name}: its answer has no choices")
        if len(choices) > len(names):
            raise Failed(f"{self.name}: gave {len(choices)} choices, and {len(names)} were asked for")
        if len(choices) < len(names) and self._takes_n:
            self._takes_n = False
            log.warning(
                "%s at %s: ignores n (it gave %d choices of %d), so that each answer is a call of its own",
                *(self.name, self.config.base_url, len(choices), len(names)),
            )
        return dict(zip(names[: len(choices)], map(self._choice, choices), strict=True))

    def _choice(self, choice: Any) -> dict[str, Any]:
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(message, dict):
            raise Failed(f"{self.name}: a choice of its answer has no message")
        if choice.get("finish_reason") == "content_filter" or message.get("refusal"):
            raise Failed(f"{self.name}: the server's filter stopped the answer", again=False)
        if not isinstance(message.get("content"), str):
            raise Failed(f"{self.name}: a choice of its answer has no text")
        return {"text": message["content"], "finished": choice.get("finish_reason") not in ("length", None)}

    async def _score(self, conversation: Conversation, name: str, options: Sequence[str]) -> None:
        longest = max(len(option.encode()) for option in options)
        body = self._body(conversation, {"max_tokens": longest + 1, "temperature": 0})
        while likeliest := self._likeliest:
            try:
                told = body | {"logprobs": True, "top_logprobs": likeliest}
                await self._requests.ask(told, 0, lambda answer: {name: self._option_scores(answer, options)})
            except Failed as error:
                if error.status not in (400, 422) or "logprob" not in error.reason.lower():
                    raise
                if likeliest == LIKELIEST[0]:
                    self._likeliest = min(self._likeliest, LIKELIEST[1])
                else:
                    self._tell_unknown()
            else:
                return

    def _option_scores(self, answer: Mapping[str, Any], options: Sequence[str]) -> dict[str, Any]:
        self._choices(answer, [""])
        told = answer["choices"][0].get("logprobs")
        places = told.get("content") if isinstance(told, dict) else None
        if not places or not any(isinstance(one, dict) and one.get("top_logprobs") for one in places):
            self._tell_unknown()
            return {"logprobs": None}
        try:
            steps = [_step(one) for one in places]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise Failed(f"{self.name}: the log-probs of its answer cannot be read") from None
        found = option_logprobs(steps, options)
        if found is None:
            said = b"".join(one.token for one in steps).decode("utf-8", "replace")
            raise Failed(f"{self.name}: its answer begins with none of {', '.join(options)}: {said!r}", again=False)
        return {"logprobs": list(found)}

    def _tell_unknown(self) -> None:
        if self._likeliest:
            log.warning("%s at %s: tells no log-probs, though they were asked for", self.name, self.config.base_url)
        self._likeliest = 0

    # ------------------------------------------------------------------------------------------------------- words

    def _body(self, conversation: Conversation, drawn: Mapping[str, Any]) -> dict[str, Any]:
        messages = [{"role": turn.role, "content": turn.content} for turn in conversation]
        return {"model": self.config.model, "messages": messages, **drawn}

    def _name(self, conversation: Conversation, asked: Mapping[str, Any]) -> str:
        return content_hash([self.config.base_url, self._body(conversation, asked)])

    def _missing(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if self.served.known(name) is None]

    def _spent(self) -> str:
        """What the run's calls took, for the bar and the log."""
        spent, cost = self.served.spent, self.served.cost
        words = [f"{spent.calls} calls", f"{spent.failed} failed"] if spent.failed else [f"{spent.calls} calls"]
        return ", ".join([*words, *([] if cost is None else [f"cost {cost:.4g}"])])

    def _tell(self, done: int, total: int, seconds: float) -> None:
        """Once a minute, for who reads a log."""
        if time.monotonic() - self._told >= TOLD_EVERY:
            self._told = time.monotonic()
            left = seconds / done * (total - done)
            log.info("%s: %d of %d (%s), about %d s left", self.name, done, total, self._spent(), left)


def _drawn(params: SamplingParams) -> dict[str, Any]:
    """As the API calls it; what is left at its default is left to the server, which may not know it."""
    found: dict[str, Any] = {"max_tokens": params.max_new_tokens, "temperature": params.temperature}
    found |= {"top_p": params.top_p} if params.top_p < 1 else {}
    found |= {"top_k": params.top_k} if params.top_k > 0 else {}
    return found | ({"min_p": params.min_p} if params.min_p > 0 else {})


def _step(place: Mapping[str, Any]) -> Step:
    """A place of an answer with its log-probs; ValueError where one is no log-prob."""
    return Step(*_token(place), tuple(_token(one) for one in place["top_logprobs"]))


def _token(one: Mapping[str, Any]) -> tuple[bytes, float]:
    logprob = float(one["logprob"])
    if math.isnan(logprob) or logprob > 1e-3:
        raise ValueError(logprob)
    return bytes(one["bytes"]) if one.get("bytes") is not None else one["token"].encode(), logprob


def _reply(row: Any, error: str | None) -> Reply:
    if row is None:
        return Reply(None, error=error or "it was not asked")
    return Reply(row["text"], row["finished"])


def _scores(row: Any, error: str | None) -> OptionScores:
    if row is None or row["logprobs"] is None:
        return OptionScores(None, error)
    return OptionScores(tuple(row["logprobs"]))
