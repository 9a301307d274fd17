"""Programs that a completion contains, checked by tests that they never see.

The program is the last fenced block of the completion that is Python or names no language, or the whole completion
where it has no block. What is right stands in the row's columns:

    test, entry_point                               HumanEval: ``check(candidate)``, helpers from the prompt's code
    test_list [, test_setup_code, test_imports]     MBPP: assertions
    input_output, or tests                          whole programs: standard input and the output that is wanted

1 where every test holds, 0 where one does not; an error where the tests themselves cannot run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from baro.records import Rollout
from baro.rewards.sandbox import shared_sandbox
from baro.rewards.sandbox_jobs import Checked, Job, Limits, Outcome, Script
from baro.rewards.verified import Row, Verified
from baro.verifier_config import Code

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})([^\n]*)\n", re.MULTILINE)
_CODE_BEGINS = re.compile(r"^(?:from \w|import \w|def \w|class \w|async def|@\w|[A-Z_]+ *=)", re.MULTILINE)
_PYTHON = ("", "python", "python3", "py")


class CodeVerifier:
    """Runs the program of each completion against its row's tests, in the sandbox."""

    def __init__(self, config: Code) -> None:
        limits = Limits(config.cpu_seconds, config.deadline_seconds, config.memory_mb)
        self.sandbox = shared_sandbox(limits, config.unsafe_local)
        self.sandbox.start()

    def check(self, rollouts: Sequence[Rollout]) -> list[Verified]:
        asked = [_asked(one) for one in rollouts]
        outcomes = iter(self.sandbox.run([job for one in asked if not isinstance(one, str) for job in one[1]]))
        return [
            Verified(None, error=one) if isinstance(one, str) else one[0].judged([next(outcomes) for _ in one[1]])
            for one in asked
        ]

    def right(self, row: Row) -> str | None:
        """The row's own solution, by the names that HumanEval and MBPP give it."""
        found = next((row[name] for name in ("canonical_solution", "code") if isinstance(row.get(name), str)), None)
        return None if found is None else f"```python\n{found}\n```"


def _asked(rollout: Rollout) -> tuple[Problem, list[Job]] | str:
    """What a row wants and the jobs for it, or why it wants nothing that can be run."""
    try:
        problem = problem_of(rollout.extra, rollout.prompt[-1].content if rollout.prompt else "")
    except NoTests as error:
        return str(error)
    return problem, problem.jobs(rollout.text)


class NoTests(Exception):
    """A row whose columns hold no tests; the sentence says what is missing."""


def code_in(text: str) -> str:
    """The last fenced block of Python, or of no language; else the last block; else all of the text.

    A block that is never closed goes to the end.
    """
    blocks: list[tuple[str, str]] = []
    at = 0
    while opened := _FENCE.search(text, at):
        fence, language = opened[1], opened[2].strip().lower()
        closed = re.compile(rf"^ {{0,3}}{re.escape(fence[0])}{{{len(fence)},}}[ \t]*$", re.MULTILINE)
        end = closed.search(text, opened.end())
        blocks.append((language, text[opened.end() : end.start() if end else len(text)]))
        at = end.end() if end else len(text)
    python = [body for language, body in blocks if language in _PYTHON]
    return python[-1] if python else blocks[-1][1] if blocks else text


@dataclass(frozen=True)
class Case:
    """A run of a whole program."""

    given: str
    wanted: str


@dataclass(frozen=True)
class Problem:
    """What a row wants of a program: tests of its functions, or cases of its output."""

    tests: str = ""
    entry_point: str = ""
    helpers: str = ""
    functions: tuple[str, ...] = ()  # of the program, by whatever name
    cases: tuple[Case, ...] = ()

    def jobs(self, completion: str) -> list[Job]:
        """One for tests, one for each case."""
        code = code_in(completion)
        readings = (joined(self.helpers, code), code) if self.helpers else (code,)
        if self.cases:
            return [Script(readings, case.given) for case in self.cases]
        return [Checked(readings, self.tests, self.helpers, self.entry_point, self.functions)]

    def judged(self, outcomes: Sequence[Outcome]) -> Verified:
        """All of them together."""
        failed = next((one.error for one in outcomes if one.error is not None), None)
        if failed is not None:
            return Verified(None, error=failed)
        if not self.cases:
            return Verified(float(outcomes[0].passed is True), outcomes[0].reason)
        wrong = [why for case, one in zip(self.cases, outcomes, strict=True) if (why := _wrong(case, one))]
        right = len(outcomes) - len(wrong)
        reason = f"{right} of {len(outcomes)} cases as wanted" + (f"; the first other: {wrong[0]}" if wrong else "")
        return Verified(float(not wrong), reason)


def joined(prompt: str, code: str) -> str:
    """A prompt's code with what continues it, or with a whole definition that takes the place of its own."""
    return prompt + ("" if prompt.endswith("\n") or code.startswith("\n") else "\n") + code


def problem_of(columns: Mapping[str, Any], prompt: str) -> Problem:
    """From a row's columns, in the layouts that the public data sets have. NoTests where none is there."""
    if "test_list" in columns:
        lines = [*_texts(columns, "test_imports"), *_texts(columns, "test_setup_code"), *_texts(columns, "test_list")]
        right = columns.get("code")  # a solution, as MBPP has it: one problem calls its function sum
        defined = re.findall(r"^def +(\w+)", right, re.MULTILINE) if isinstance(right, str) else []
        used = [name for name in dict.fromkeys(defined) if re.search(rf"\b{name}\b", "\n".join(lines))]
        return Problem(tests="\n".join(lines), functions=tuple(used))
    if "test" in columns:
        entry = columns.get("entry_point")
        if not isinstance(entry, str) or not entry.isidentifier():
            raise NoTests("the row has 'test' and no 'entry_point', the name of the function that is tested")
        code = code_in(prompt)
        code = code[begin.start() :] if (begin := _CODE_BEGINS.search(code)) else ""
        helpers = code if re.search(rf"^\s*(async )?def +{entry}\b", code, re.MULTILINE) else ""
        return Problem("\n".join(_texts(columns, "test")), entry, helpers)
    for name in ("input_output", "tests"):
        if name in columns:
            return Problem(cases=tuple(_cases(columns[name], name)))
    raise NoTests("the row has no tests: no column 'test_list', 'test' with 'entry_point', 'input_output' or 'tests'")


def _texts(columns: Mapping[str, Any], name: str) -> list[str]:
    """A column that holds a text, a list of texts, or nothing."""
    value = columns.get(name)
    found = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(found, list | tuple) or not all(isinstance(one, str) for one in found):
        raise NoTests(f"the row's '{name}' is neither a text nor a list of texts")
    if name in ("test_list", "test") and not any(one.strip() for one in found):
        raise NoTests(f"the row's '{name}' is empty")
    return list(found)


def _cases(value: Any, name: str) -> list[Case]:
    """``{"inputs": [...], "outputs": [...]}`` or ``[{"input": ..., "output": ...}, ...]``, as values or as JSON."""
    wrong = f"the row's '{name}' is neither inputs with outputs nor a list of input and output, all of them texts"
    try:
        value = json.loads(value) if isinstance(value, str) else value
        pairs = (
            list(zip(value["inputs"], value["outputs"], strict=True))
            if isinstance(value, Mapping)
            else [(one["input"], one["output"]) for one in value]
        )
    except (ValueError, TypeError, KeyError):
        raise NoTests(wrong) from None
    if not pairs or not all(isinstance(one, str) for pair in pairs for one in pair):
        raise NoTests(wrong)
    return [Case(given, wanted) for given, wanted in pairs]


def _wrong(case: Case, outcome: Outcome) -> str:
    """Why a case does not count; lines are compared without the blanks at their ends and empty lines at the end."""
    if not outcome.passed:
        return outcome.reason
    if _lines(outcome.output) == _lines(case.wanted):
        return ""
    return f"the output begins {outcome.output[:60]!r}, wanted is {case.wanted[:60]!r}"


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]
