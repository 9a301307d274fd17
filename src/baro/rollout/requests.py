"""One call of a server after another: deadlines, retries, limits. What is asked and answered: ``rollout/remote.py``."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

from baro.chat_config import ServerConfig
from baro.errors import BackendError, ConfigError
from baro.functional.streams import stream
from baro.rollout.served import Served

Read = Callable[[dict[str, Any]], Mapping[str, Any]]
"""From the JSON of an answer to what is kept of it, by the names of the calls; Failed where it is none."""
FIRST_WAIT = 0.5  # seconds before the second try, doubled with each further one
LONGEST_WAIT = 60.0
LONGEST_ASKED = 600.0  # a server that asks to wait longer than this is not waited for
IN_A_ROW = 20  # calls that reach no server: it is gone, and the rest is not asked
GONE = (0, 502, 503, 504)  # of a call that reached no server, or only what stands in front of it
HOPELESS = {401: "it does not take the key", 404: "it does not know the address or the model"}
AGAIN = (408, 409, 429)  # and all from 500 on
SECRET = 12  # characters of a key from which on no answer may hold it; a placeholder such as EMPTY is shorter
SHOWN = 200  # characters of what a server says


class Failed(Exception):
    """A call that was not answered, or with what is no answer. ``status``: of HTTP, 0 where nothing came."""

    def __init__(self, reason: str, *, status: int = 200, again: bool = True, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.reason, self.status, self.again, self.wait = reason, status, again, wait


class Requests:
    """Calls of one server, which keep to its limits and the config's; what each took is told to ``served``.

    The key is read from the environment and stands in no message: not even where the server says it.
    """

    def __init__(self, config: ServerConfig, served: Served) -> None:
        self.config, self.served = config, served
        self._key = _key(config)
        self._client: Any = None
        self._slots = asyncio.Semaphore(config.concurrency)
        self._next = 0.0  # when the next call may start
        self._in_flight = 0
        self._in_a_row = 0
        self.stopped: BackendError | None = None

    async def ask(self, body: Mapping[str, Any], key: int, read: Read) -> None:
        """Keep what ``read`` makes of the answer to a body; tried again where that may help, Failed where nothing did.

        BackendError where no further call makes sense: the budget is spent, the key is wrong, the server is gone.
        """
        async with self._slots:
            attempt = 0
            while True:
                try:
                    await self._once(body, read)
                except Failed as error:
                    if not error.again or attempt >= self.config.retries or error.wait > LONGEST_ASKED:
                        self._in_a_row = self._in_a_row + 1 if error.status in GONE else 0
                        if self._in_a_row >= IN_A_ROW:
                            self._stop(f"{IN_A_ROW} calls in a row failed, so that the rest is not asked; {error}")
                        raise
                    await asyncio.sleep(max(error.wait, backoff(attempt, key)))
                    attempt += 1
                else:
                    self._in_a_row = 0
                    return

    async def _once(self, body: Mapping[str, Any], read: Read) -> None:
        await self._turn()
        self._in_flight += 1
        try:
            answer = await self._post(body)
            self.served.keep(read(answer), self._usage(answer))
        except Failed as error:
            self.served.fail(error.reason)
            if error.wait:
                self._next = max(self._next, time.monotonic() + error.wait)
            if error.status in HOPELESS:
                self._stop(f"{HOPELESS[error.status]}; {error.reason}")
            raise
        finally:
            self._in_flight -= 1

    async def _turn(self) -> None:
        """Wait until a call may start, by requests_per_minute and by what the server asked for."""
        while True:
            if self.stopped is not None:
                raise self.stopped
            now = time.monotonic()
            if now >= self._next:
                break
            await asyncio.sleep(self._next - now)
        try:
            self.served.check_budget(self._in_flight)
        except BackendError as error:
            self.stopped = error
            raise
        if self.config.requests_per_minute is not None:
            self._next = now + 60 / self.config.requests_per_minute

    def _usage(self, answer: Mapping[str, Any]) -> tuple[int, int]:
        """Tokens read and written. Where they are needed and the server does not tell them, this is the last call."""
        usage = answer.get("usage")
        counts = [
            usage.get(name) if isinstance(usage, dict) else None for name in ("prompt_tokens", "completion_tokens")
        ]
        if self.config.max_cost is not None and not all(isinstance(one, int) for one in counts):
            self.stopped = BackendError(
                f"{self._who}: does not tell how many tokens a call took, so that max_cost cannot be kept to; give "
                "max_calls instead"
            )
        read, written = (one if isinstance(one, int) else 0 for one in counts)
        return read, written

    def _stop(self, reason: str) -> NoReturn:
        self.stopped = BackendError(f"{self._who}: {reason}")
        raise self.stopped from None

    @property
    def _who(self) -> str:
        return f"{self.config.model} at {self.config.base_url}"

    async def _post(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON of an answer, there within ``timeout`` seconds to its last byte."""
        import httpx2
        import openai

        client = self._opened()
        try:
            async with asyncio.timeout(self.config.timeout):
                answer = await client.post("/chat/completions", cast_to=httpx2.Response, body=dict(body))
        except (TimeoutError, openai.APITimeoutError):
            raise Failed(f"{self._who}: no answer within {self.config.timeout:g} seconds", status=0) from None
        except openai.APIStatusError as error:
            status = error.status_code
            reason = self._scrubbed(
                f"{self._who}: answered {status}: {error.message.removeprefix(f'Error code: {status} - ')}"
            )
            again = status in AGAIN or status >= 500
            raise Failed(reason, status=status, again=again, wait=asked_to_wait(error.response.headers)) from None
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            raise Failed(self._scrubbed(f"{self._who}: the connection broke ({cause})"), status=0) from None
        try:
            found = json.loads(answer.content)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            said = answer.content[:SHOWN].decode("utf-8", "replace")
            raise Failed(self._scrubbed(f"{self._who}: answered what is no JSON object: {said!r}"))
        if len(self._key) >= SECRET and self._key in answer.text:
            raise Failed(f"{self._who}: its answer holds the key that it was sent", again=False)
        return found

    def _opened(self) -> Any:
        if self._client is None:
            import openai

            self._client = openai.AsyncOpenAI(
                base_url=self.config.base_url,
                api_key=self._key or "none",  # else the library would take OPENAI_API_KEY and send it anywhere
                timeout=self.config.timeout,
                max_retries=0,
            )
            self._client.organization = self._client.project = None  # of the environment: no business of this server
        return self._client

    async def close(self) -> None:
        """Let go of the connections; the next call opens new ones."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    def _scrubbed(self, text: str) -> str:
        """Without the key, and not longer than a line or two."""
        text = text.replace(self._key, "***") if self._key else text
        return text if len(text) <= 2 * SHOWN else text[: 2 * SHOWN] + "…"


def backoff(attempt: int, key: int) -> float:
    """Seconds before the next try: min(60, 0.5 · 2^attempt) · u, u uniform in [½, 1) from (key, attempt).

    By it calls that failed together do not come back together.
    """
    longest = min(LONGEST_WAIT, FIRST_WAIT * 2.0**attempt)
    return longest * (0.5 + 0.5 * float(stream("backoff", key, attempt).random()))


def asked_to_wait(headers: Mapping[str, str]) -> float:
    """Retry-After in seconds, which it gives as such or as a date; 0 where it is missing or neither."""
    value = headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0


def _key(config: ServerConfig) -> str:
    if config.api_key_env is None:
        return ""
    key = os.environ.get(config.api_key_env, "")
    if not key:
        raise ConfigError(
            f"api_key_env: the environment variable {config.api_key_env} is not set; export it, or leave api_key_env "
            "out where the server needs no key"
        )
    return key.strip()
