"""A verifier on a file of completions: a score or an error for each, and of known verdicts how often it is wrong.

    false positives:  of the completions that are known to be wrong, the share that it accepts (a score of 1 or more)
    false negatives:  of those that are known to be right, the share that it does not accept

Both with Wilson's interval; what could not be looked at is in neither, and counted beside them. A file without
completions has its rows' own answers looked at.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from baro import config as blocks
from baro.bar import in_parts
from baro.data.cells import empty, truth
from baro.data.formats import read_records
from baro.data.layouts import Reading
from baro.data.ledger import Ledger, write_ledger
from baro.data.rows import Unusable
from baro.declared import Records
from baro.errors import DataError, RewardError, check_failures
from baro.functional.statistics import Interval, wilson_interval
from baro.inputs import open_run, resolve
from baro.methods import stage
from baro.records import Answers, Demonstration, Prompt, Record, Rollout, Thumb, completions_of, said
from baro.reward_config import ScoredBy
from baro.rewards.own_data import try_on_own_data
from baro.rewards.verified import Verified
from baro.rewards.verifiers import VerifierReward, load_verifier
from baro.rows import JsonLines
from baro.runs import RunDir
from baro.verifier_config import VerifierConfig

log = logging.getLogger("baro")
CHUNK = 64
Tell = Callable[[Mapping[str, Any]], None]
KNOWN = ("known", "is_correct", "label")
"""Columns that may say whether a completion is right; the first that a row has is taken."""
SHOWN = 10


class Config(blocks.Config):
    """``baro verify``."""

    file: Records = Field(description="rows with completions, or rows that say what is right: a run or a file")
    verifier: VerifierConfig = Field(description="the name of a verifier, or a block with its name and its options")
    audit: bool = Field(False, description="compare with what rows know: a column known, is_correct or label")
    encoding: str = Field("utf-8", description="of a file of text, where it is another: cp949 of a Korean spreadsheet")
    ignore: list[str] = Field([], description="columns that judge the rows and are to be left aside")


@dataclass(frozen=True)
class Line:
    """One completion of the file: where it stands, what is looked at, and whether it is known to be right."""

    place: dict[str, Any]
    rollout: Rollout | None  # None: the row cannot be used, and ``reason`` says why
    known: bool | None = None
    reason: str = ""
    own: bool = False  # it is what the row itself says is right


def run(config: Config, out: Path | str | None = None, tell: Tell = lambda row: None) -> RunDir:
    """Write ``verified.jsonl``, a row for each completion in the file's order; the same call returns what is finished.

    ``tell`` is called with each row. RewardError where more than 5% have no score; the rows are written before that.
    """
    run = open_run("verify", config, out)
    if run.finished:
        for row in JsonLines(run.path / "verified.jsonl").read():
            tell(row)
        return _told(run)
    reward = load_verifier(config.verifier, name=config.verifier.name)
    lines = _read(config, run, reward)
    _try(config, reward.name, lines)
    found = _written(run, lines, reward, config.audit, tell)
    if not all(one.own for one in lines):
        _tell_sameness(reward.name, found)
    stage.write_figures(run, figures(lines, found, audit=config.audit))
    if config.audit:
        _tell_differences(lines, found)
    failed = [one.error for one in found if one.error is not None]
    try:
        check_failures(failed, len(found), reward.name, "completions", "each stands in verified.jsonl; ")
    except RewardError:
        run.finish("stopped")
        raise
    run.finish("finished")
    return _told(run)


def _told(run: RunDir) -> RunDir:
    """Say the figures."""
    for one in json.loads((run.path / "figures.json").read_bytes()):
        log.info("%s: %.4f (%.4f to %.4f, n = %d)", *(one[key] for key in ("name", "value", "low", "high", "n")))
    return run


def _read(config: Config, run: RunDir, reward: VerifierReward) -> list[Line]:
    """Every completion of the file, with an account of its rows."""
    reading = Reading(ignore=tuple(config.ignore), encoding=config.encoding)
    loaded = read_records(resolve(config.file, "records"), (Thumb, Answers, Demonstration, Prompt), reading)
    log.info("%s", loaded.description)
    if loaded.converted:
        raise DataError(
            f"{config.file}: holds other judgments than right or wrong ({loaded.description}); write its completions "
            "into a file of their own, or name the column that judges in ignore"
        )
    ledger, lines = Ledger(loaded.name), []
    for key, record in loaded:
        if isinstance(record, Unusable):
            ledger.drop(key, record.reason, record.sentence)
            lines.append(Line({"row": key}, None, reason=record.sentence))
            continue
        ledger.keep()
        lines += list(_lines(key, record, reward))
    write_ledger(run.path, "file", config.file, ledger)
    if not lines:
        raise DataError(f"{config.file}: holds no row; give a file with at least one")
    if config.audit and not any(one.known is not None for one in lines):
        raise DataError(f"{config.file}: no row has a verdict; an audit needs a column {', '.join(KNOWN)}")
    return lines


def _lines(key: str, record: Record, reward: VerifierReward) -> Iterator[Line]:
    named = [name for name in ("id", "task_id") if name in record.extra][:1]
    place = {"row": key} | ({"id": record.extra[named[0]]} if named else {})
    known = _known(key, record)
    if isinstance(record, Prompt):
        own = reward.verifier.right(record.extra)
        rollout = None if own is None else Rollout(record.prompt, said(own), extra=record.extra)
        yield Line(place, rollout, known, "the row has no completion, and does not say what is right", own=True)
        return
    rollouts = completions_of(record)
    for i, rollout in enumerate(rollouts, start=1):
        yield Line(place | ({"completion": i} if len(rollouts) > 1 else {}), rollout, known)


def _known(key: str, record: Record) -> bool | None:
    """What the row says of its completion; DataError where that is neither true nor false."""
    if isinstance(record, Thumb):
        return record.label
    column = next((name for name in KNOWN if not empty(record.extra.get(name))), None)
    if column is None:
        return None
    value = truth(record.extra[column])
    if value is None:
        raise DataError(
            f"{key}: column {column!r} is {record.extra[column]!r}; true or 1 (right), false or 0 is needed"
        )
    return value


def _try(config: Config, name: str, lines: Sequence[Line]) -> None:
    """Each prompt's own answer, once."""
    rows = {str(one.place["row"]): one.rollout for one in lines if one.rollout is not None}
    prompts = [Prompt(rollout.prompt, rollout.extra) for rollout in rows.values()]
    try_on_own_data({name: ScoredBy(verifier=config.verifier)}, prompts, list(rows))


def _written(run: RunDir, lines: Sequence[Line], reward: VerifierReward, audit: bool, tell: Tell) -> list[Verified]:
    """What is found of each line, written and told as it is found."""
    path = run.path / "verified.jsonl"
    path.unlink(missing_ok=True)  # of a run that was killed
    file, found = JsonLines(path), []
    for part in in_parts(lines, CHUNK, reward.name):
        checked = iter(reward.check([one.rollout for one in part if one.rollout is not None]))
        for line in part:
            one = Verified(None, error=line.reason) if line.rollout is None else next(checked)
            found.append(one)
            verdict = {"error": one.error} if one.score is None else {"score": one.score, "reason": one.reason}
            known = {"known": line.known} if audit and line.known is not None else {}
            row = {**line.place, **verdict, **known, "seconds": round(one.seconds or 0.0, 6)}
            file.append(row)
            tell(row)
    return found


def figures(lines: Sequence[Line], found: Sequence[Verified], *, audit: bool) -> dict[str, Interval | float]:
    """For figures.json: the shares accepted and not scored; of an audit how often it was wrong, each way."""
    scored = [one for one in found if one.score is not None]
    told: dict[str, Interval | float] = {"errors": wilson_interval(len(found) - len(scored), len(found))}
    if scored:
        told["accepted"] = wilson_interval(sum(map(accepts, scored)), len(scored))
    if audit:
        both = [(line.known, accepts(one)) for line, one in zip(lines, found, strict=True) if one.score is not None]
        for name, truth_, wrongly in (("false_positives", False, True), ("false_negatives", True, False)):
            said_ = [accepted for known, accepted in both if known is truth_]
            if said_:
                told[name] = wilson_interval(said_.count(wrongly), len(said_))
    return told


def accepts(one: Verified) -> bool:
    """Whether a completion counts as right."""
    return one.score is not None and one.score >= 1


def _tell_sameness(name: str, found: Sequence[Verified]) -> None:
    scores = [one.score for one in found if one.score is not None]
    if len(set(scores)) == 1 and len(scores) > 1:
        log.warning(
            "%s: every one of %d completions that have a score has %g, so that it tells none from another; if they "
            "differ in what they say, look whether the verifier and its options fit them",
            *(name, len(scores), scores[0]),
        )


def _tell_differences(lines: Sequence[Line], found: Sequence[Verified]) -> None:
    """The first rows of which the verifier says another thing than is known, and how many there are."""
    unlike = [
        (line, one)
        for line, one in zip(lines, found, strict=True)
        if line.known is not None and one.score is not None and accepts(one) != line.known
    ]
    for line, one in unlike[:SHOWN]:
        known = "right" if line.known else "wrong"
        log.warning("%s: is known to be %s, and the score is %g: %s", line.place["row"], known, one.score, one.reason)
    unsaid = sum(line.known is None for line in lines)
    log.info("%d of %d completions differ from what is known of them", len(unlike), len(lines) - unsaid)
    if unsaid:
        log.warning("%d completions have no verdict, and are in neither rate", unsaid)
