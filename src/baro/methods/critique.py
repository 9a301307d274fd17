"""Critique and revision: a model's answers are criticised by principles and rewritten, and become demonstrations.

    y_0 ~ π(x)        c_k ~ critic(x, y_{k−1}, principle_k)        y_k ~ reviser(x, y_{k−1}, principle_k, c_k)

for k = 1 .. rounds; principle_k is drawn by weight, a function of seed, prompt and round. The demonstrations are
(x, y_rounds), or all (x, y_k). Bai et al. 2022, arXiv:2212.08073, section 3.1, which takes four rounds at temperature 1
and learns from all revisions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator
from rich.console import Console

from baro import config as blocks
from baro.bar import progress_bar
from baro.chat_config import ChatModelConfig
from baro.chat_models import load_chat_model
from baro.compute import ComputeConfig
from baro.constitution import Principle, check_constitution, critique_request, load_constitution, revision_request
from baro.data.files import write_rows
from baro.data.formats import read_records, write_records
from baro.data.layouts import Reading
from baro.data.ledger import Ledger, write_ledger
from baro.data.rows import Unusable
from baro.declared import ConstitutionFile, Model, Records
from baro.errors import MAX_ERROR_FRACTION, DataError
from baro.files import saving
from baro.functional.repetition import most_common_sentence
from baro.functional.statistics import Interval, wilson_interval
from baro.functional.streams import stream_key
from baro.inputs import open_run, resolve
from baro.methods import stage
from baro.methods.calls import Asked, Calls, Speaker
from baro.methods.critique_items import Item, Step, check_columns, items_of
from baro.records import (
    Answers,
    Conversation,
    Demonstration,
    Prompt,
    Reply,
    content_hash,
    said,
)
from baro.runs import RunDir

log = logging.getLogger("baro")
WARN_COMMON = 0.3  # of the last revisions that share a sentence
FEWEST_COMMON = 20  # revisions of which that is said


class Config(blocks.Config):
    """``baro critique``."""

    constitution: ConstitutionFile = Field(description="the principles: general, medical, or a YAML file")
    prompts: Records | None = Field(None, description="what the policy answers: a run or a file")
    answers: Records | None = Field(
        None, description="answers to revise in place of prompts: a run of generate, a file"
    )
    policy: Model | None = Field(None, description="who answers, and criticises and revises unless others are named")
    critic: ChatModelConfig | None = Field(None, description="who criticises, in place of the policy")
    reviser: ChatModelConfig | None = Field(None, description="who revises, in place of the policy")
    rounds: int = Field(4, ge=1, description="critiques and revisions of each answer, one after another")
    keep: Literal["last", "all"] = Field("last", description="which revisions become demonstrations")
    unfinished: Literal["drop", "keep"] = Field("drop", description="what becomes of revisions that were cut off")
    language: Literal["en", "ko", "auto"] | None = Field(
        None, description="of the constitution's texts; auto: Korean where a prompt has Hangul; its own unless given"
    )
    sampling: blocks.SamplingConfig = blocks.SamplingConfig(max_new_tokens=512)
    max_error_fraction: float = Field(
        MAX_ERROR_FRACTION, ge=0, le=1, description="share of failed answers above which the run stops"
    )
    seed: int = Field(0, ge=0, description="seed of the principles and of the sampling")
    limit: int | None = Field(None, ge=1, description="only so many rows, the first ones; all unless given")
    encoding: str = Field("utf-8", description="of a file of text, where it is another: cp949 of a Korean spreadsheet")
    compute: ComputeConfig = ComputeConfig()

    @model_validator(mode="after")
    def _principles_can_be_read(self) -> Config:
        check_constitution(self.constitution, self.language)
        return self

    @model_validator(mode="after")
    def _somebody_speaks(self) -> Config:
        if (self.prompts is None) == (self.answers is None):
            raise ValueError("give either prompts (the policy answers them first) or answers (which were drawn before)")
        if self.policy is None:
            roles = {
                "prompts": self.prompts is not None,
                "critic": self.critic is None,
                "reviser": self.reviser is None,
            }
            needed = [name for name, is_needed in roles.items() if is_needed]
            if needed:
                why = "prompts are answered by it" if needed[0] == "prompts" else f"{needed[0]} is not given"
                raise ValueError(f"policy is missing, and {why}; give policy: MODEL")
        elif self.prompts is None and self.critic is not None and self.reviser is not None:
            raise ValueError("policy has nothing to do beside answers, critic and reviser; leave it out")
        return self


def run(config: Config, out: Path | str | None = None) -> RunDir:
    """Criticise and revise, write ``records.jsonl`` and ``steps.jsonl``, and return the run directory."""
    run = open_run("critique", config, out)
    if run.finished:
        return run
    ledger, items = read_items(config)
    total = len(items) * (2 * config.rounds + (config.answers is None))
    with progress_bar("critique", total) as show:
        calls = Calls(run, len(items), "answers", config.max_error_fraction, show)
        Rounds(config, calls, run).go(items)
    _account(run, config, ledger, items)
    records = [one for item in items if not item.error for one in demonstrations(item, config.keep)]
    with saving(run.records):
        write_rows(run.path / "steps.jsonl", [item.row() for item in items])
        write_records(run.records, records)
    found = figures(items, len(records), len(calls.failed), config.rounds)
    _tell_boilerplate(items)
    stage.write_figures(run, found)
    run.finish("finished")
    return run


def read_items(config: Config) -> tuple[Ledger, list[Item]]:
    """What there is to revise: each prompt once, and each of its different answers."""
    value, want = (config.prompts, Prompt) if config.answers is None else (config.answers, (Answers, Demonstration))
    assert value is not None
    loaded = read_records(resolve(value, "records"), want, Reading(encoding=config.encoding))
    log.info("%s", loaded.description)
    ledger, items, seen = Ledger(loaded.name), [], set()
    for number, (key, record) in enumerate(loaded):
        if config.limit is not None and number >= config.limit:
            break
        if isinstance(record, Unusable):
            (ledger.pass_over if record.expected else ledger.drop)(key, record.reason, record.sentence)
            continue
        if not record.prompt:
            ledger.drop(key, "no prompt", "has no prompt, and an answer is revised as the answer to something")
            continue
        for item in items_of(key, record):
            if item.name in seen:
                ledger.pass_over(item.key, "repeated", "stands there before, and is revised once")
            else:
                items.append(item)
            seen.add(item.name)
    if not items:
        ledger.check(0.0)
    check_columns(loaded.name, items)
    return ledger, items


class Rounds:
    """All items through their rounds, breadth first, so that a model gets many conversations at once."""

    def __init__(self, config: Config, calls: Calls, run: RunDir) -> None:
        self.config, self.calls, self._run = config, calls, run
        self.constitution = load_constitution(config.constitution, config.language)
        self.params = config.sampling.params()
        self._speakers: dict[str, Speaker] = {}

    def go(self, items: Sequence[Item]) -> None:
        """Give each item its steps, or the reason why it was given up."""
        if self.config.answers is None:
            replies = self._ask("policy", items, "answer", 0, lambda item: item.prompt)
            for item, reply in replies:
                item.answer = reply.text
        for number in range(1, self.config.rounds + 1):
            self._round(items, number)

    def _round(self, items: Sequence[Item], number: int) -> None:
        drawn = {item.name: self.constitution.draw(self.config.seed, item.name, number) for item in items}

        def criticise(item: Item) -> Conversation:
            return critique_request(self.constitution, drawn[item.name], item.prompt, item.current)

        critiques = {
            item.name: reply.text or "" for item, reply in self._ask("critic", items, "critique", number, criticise)
        }

        def revise(item: Item) -> Conversation:
            by: Principle = drawn[item.name]
            return revision_request(self.constitution, by, item.prompt, item.current, critiques[item.name])

        for item, reply in self._ask("reviser", items, "revision", number, revise):
            assert reply.text is not None
            item.steps.append(Step(drawn[item.name].name, critiques[item.name], reply.text))

    def _ask(
        self, role: str, items: Sequence[Item], what: str, number: int, conversation: Callable[[Item], Conversation]
    ) -> list[tuple[Item, Reply]]:
        """The replies to the items that are still there; those without one are given up."""
        left = [item for item in items if not item.error]
        asked = [
            Asked(conversation(item), item.key, stream_key("critique", self.config.seed, item.name, number, what))
            for item in left
        ]
        replies = [one[0] for one in self.calls.chat(self._speaker(role), asked, self.params)]
        called = what if number == 0 else f"{what} of round {number}"
        for item, reply in zip(left, replies, strict=True):
            if reply.text is None:
                item.reason, item.error = "failed", f"the {called} failed: {reply.error}"
            elif what == "revision" and not reply.finished and self.config.unfinished == "drop":
                limit = self.config.sampling.max_new_tokens
                item.reason = "cut off"
                item.error = f"the {called} was cut off after sampling.max_new_tokens ({limit}); raise it, or say " + (
                    "unfinished: keep"
                )
        return [(item, reply) for item, reply in zip(left, replies, strict=True) if not item.error]

    def _speaker(self, role: str) -> Speaker:
        """Who speaks in a role; equal configs are one model."""
        named = {"critic": self.config.critic, "reviser": self.config.reviser}.get(role)
        own = named or ChatModelConfig(model=self.config.policy)
        identity = content_hash(blocks.identity(own))
        if identity not in self._speakers:
            model = load_chat_model(own, compute=self.config.compute, run=self._run)
            self._speakers[identity] = Speaker(model, identity)
        return self._speakers[identity]


def _account(run: RunDir, config: Config, ledger: Ledger, items: Sequence[Item]) -> None:
    for item in items:
        if item.error:
            ledger.drop(item.key, item.reason, item.error)
        else:
            ledger.keep()
    key = "prompts" if config.answers is None else "answers"
    write_ledger(run.path, key, str(getattr(config, key)), ledger)
    Console(stderr=True).print(ledger.summary())
    if not ledger.kept:
        run.finish("stopped")
        first = next(item for item in items if item.error)
        raise DataError(f"{ledger.name}: no revision is left; the first: {first.key}: {first.error}")


def demonstrations(item: Item, keep: Literal["last", "all"]) -> list[Demonstration]:
    """The last revision, or each different one, in the order in which they were written."""
    texts = [step.revision for step in item.steps]
    kept = list(dict.fromkeys(texts)) if keep == "all" else texts[-1:]
    return [Demonstration(item.prompt, said(text), item.extra) for text in kept]


def figures(items: Sequence[Item], written: int, failed: int, rounds: int) -> dict[str, Interval | float]:
    """For figures.json; of each round the share of answers that it changed, and of those that share a sentence."""
    whole = [item for item in items if not item.error]
    n = len(whole)
    found: dict[str, Interval | float] = {
        "demonstrations": float(written),
        "steps": float(sum(len(item.steps) for item in items)),
        "failures": wilson_interval(failed, len(items)),
        "changed_fraction": wilson_interval(sum(item.current != item.answer for item in whole), n),
    }
    for k in range(rounds):
        before = [item.answer if k == 0 else item.steps[k - 1].revision for item in whole]
        changed = sum(item.steps[k].revision != text for item, text in zip(whole, before, strict=True))
        found[f"changed_fraction/round_{k + 1}"] = wilson_interval(changed, n)
    texts = [[item.answer or "" for item in whole], *([i.steps[k].revision for i in whole] for k in range(rounds))]
    for k, round_ in enumerate(texts):
        found[f"common_sentence/round_{k}"] = wilson_interval(most_common_sentence(round_).texts, n)
    return found


def _tell_boilerplate(items: Sequence[Item]) -> None:
    last = [item.current for item in items if not item.error]
    found = most_common_sentence(last)
    if len(last) >= FEWEST_COMMON and found.texts > WARN_COMMON * len(last):
        log.warning(
            "%d of %d last revisions hold the sentence %r; a model that learns from them will say it everywhere: take "
            "fewer rounds, other principles, or another reviser",
            *(found.texts, len(last), found.sentence),
        )
