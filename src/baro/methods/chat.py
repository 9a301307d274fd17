"""``baro chat``: talk with a policy in the terminal; with consent, what is said is kept for the next round.

Each turn is a row of its own, the conversation up to it and the answer, written to the disk before the next is asked.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field
from rich.console import Console
from rich.text import Text

from baro import config as blocks
from baro.bar import progress_bar
from baro.compute import ComputeConfig
from baro.data.chat_logs import CONSENT
from baro.declared import Model
from baro.errors import BackendError, ConfigError
from baro.functional.streams import stream_key
from baro.inputs import load_template, resolve
from baro.models.folders import positions
from baro.models.load import load_policy
from baro.records import Conversation, Demonstration, Message, to_row
from baro.rollout.engine import Engine

HELP = "/new begins another conversation, /undo takes the last turn back, /quit ends"


class Config(blocks.Config):
    """``baro chat``."""

    policy: Model = Field(description="who answers: a run, a folder, or a hub id")
    system: str = Field("", description="a system message before the conversation; none unless given")
    sampling: blocks.SamplingConfig = blocks.SamplingConfig(max_new_tokens=256, temperature=0.7)
    seed: int = Field(0, ge=0, description="seed of the sampling")
    record: str | None = Field(None, description="a JSON Lines file that gets every turn; nothing is kept otherwise")
    consent: bool = Field(False, description="who types agrees that the record is used for training; else it is asked")
    compute: ComputeConfig = ComputeConfig()


class Screen(Protocol):
    """Where the conversation happens."""

    def ask(self, question: str) -> str | None:
        """A line that somebody types; None at the end."""
        ...

    def answer(self, text: str, note: str) -> None:
        """What the policy says, and what is to be said about it."""
        ...

    def note(self, text: str) -> None:
        """What Baro says."""
        ...

    def wait(self, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Tokens are drawn inside; yields what is called with how many there are."""
        ...


class Terminal:
    """The terminal: answers on stdout, everything else on stderr. Input from a file is taken without asking."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        if sys.stdin.isatty():
            import readline  # noqa: F401 - from here on input() has a history and can be edited

    def ask(self, question: str) -> str | None:
        """A line; None at the end of the input."""
        try:
            return input(question if sys.stdin.isatty() else "")
        except EOFError:
            return None

    def answer(self, text: str, note: str) -> None:
        """The answer, whole, with what is to be said about it."""
        print(text, flush=True)
        if note:
            self.note(note)

    def note(self, text: str) -> None:
        """A line in grey."""
        self.console.print(Text(text, "dim"), soft_wrap=True)

    def wait(self, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """A bar that goes when the answer is there."""
        return progress_bar("tokens", total, transient=True)


class Chat:
    """A policy and what was said so far."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.template = load_template(config.policy)
        self.longest = positions(resolve(config.policy, "model"))
        policy = load_policy(resolve(config.policy, "model"), compute=config.compute)
        self.engine = Engine(policy, end_ids=self.template.end_ids)
        self.turn = 0
        self.begin()

    def begin(self) -> None:
        """Another conversation."""
        system = self.config.system
        self.said: Conversation = (Message("system", system),) if system else ()

    def undo(self) -> None:
        """Take back the last question and its answer."""
        if len(self.said) >= 2 and self.said[-1].role == "assistant":
            self.said = self.said[:-2]

    def answer(self, question: str, on_progress: Callable[[int], None] | None = None) -> tuple[Demonstration, str]:
        """The turn, and what is to be said about it. ConfigError where the conversation is too long."""
        asked = (*self.said, Message("user", question))
        ids = self.template.encode_prompt(asked)
        params = self.config.sampling.params()
        if self.longest is not None:
            params = replace(params, max_new_tokens=min(params.max_new_tokens, self.longest - len(ids)))
        if params.max_new_tokens < 1:
            limit = f"the model takes {self.longest}"
            raise ConfigError(f"the conversation has {len(ids)} tokens, and {limit}; /undo, or /new for another")
        self.engine.on_progress = None if on_progress is None else lambda done, _: on_progress(done)
        key = stream_key("chat", self.config.seed, self.turn)
        ((one,),) = self.engine.generate([ids], 1, params, [key])
        self.turn += 1
        reply = Message("assistant", self.template.decode(one.ids))
        self.said = (*asked, reply)
        return Demonstration(asked, (reply,)), "" if one.finished else f"cut off after {len(one.ids)} tokens"


def run(config: Config, screen: Screen | None = None) -> None:
    """Talk until the end of the input or /quit."""
    screen = screen or Terminal()
    record = None if config.record is None else _agreed_record(config, screen)
    chat = Chat(config)
    screen.note(HELP)
    while (typed := screen.ask("> ")) is not None and typed.strip() != "/quit":
        match typed.strip():
            case "":
                continue
            case "/new":
                chat.begin()
                screen.note("a new conversation")
            case "/undo":
                chat.undo()
                screen.note("taken back" + "; the record keeps it" * (record is not None))
            case command if command.startswith("/"):
                screen.note(HELP)
            case question:
                _turn(chat, question, screen, record, config.policy)


def _turn(chat: Chat, question: str, screen: Screen, record: Path | None, policy: str) -> None:
    try:
        with screen.wait(chat.config.sampling.max_new_tokens) as show:
            turn, note = chat.answer(question, show)
    except ConfigError as error:
        screen.note(str(error))
        return
    screen.answer(turn.completion[0].content, note)
    if record is not None:
        row = to_row(turn) | {CONSENT: True, "model": policy, "at": datetime.now(UTC).isoformat(timespec="seconds")}
        _append(record, row)


def _agreed_record(config: Config, screen: Screen) -> Path | None:
    """Where turns are written, if who types agrees."""
    path = Path(str(config.record))
    if not path.name.endswith(".jsonl"):
        raise ConfigError(f"{path}: is no name for JSON Lines; let it end in .jsonl")
    question = f"What you type and the answers are written to {path}, and may be used for training. Agree? [y/N] "
    if config.consent or (screen.ask(question) or "").strip().casefold() in ("y", "yes", "예", "네"):
        _append(path, None)
        return path
    screen.note("nothing is recorded")
    return None


def _append(path: Path, row: dict[str, Any] | None) -> None:
    """A row that is on the disk when this returns; None only sees that it would work."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            if row is not None:
                file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise BackendError(f"{path}: cannot be written ({error.strerror}); give another --record") from error
