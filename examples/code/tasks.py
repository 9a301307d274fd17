"""MBPP's problems as tasks, and what the verifier is audited on: two stages of pipeline.yaml from outside the package.

A stage is a Config and a function that returns a run directory.
"""

import re

from baro import config as blocks
from baro.data.files import write_rows
from baro.data.formats import read_records
from baro.declared import Records
from baro.inputs import open_run, resolve
from baro.records import Prompt


class Config(blocks.Config):
    """``do: examples.code.tasks:run``, and ``:audited``."""

    prompts: Records


def run(config, out=None):
    """Write each problem as a question with its first test, which names the function, and its solution in a block."""
    return written(config, out, "tasks", task)


def audited(config, out=None):
    """Write each solution, known to be right, and one that returns the same in a list, known to be wrong."""
    return written(config, out, "audited", right_and_wrong)


def written(config, out, name, rows_of):
    """A run directory with ``records.jsonl``: the rows that each problem makes."""
    run = open_run(name, config, out)
    if not run.finished:
        problems = read_records(resolve(config.prompts, "records"), Prompt).records
        write_rows(run.records, [row for one in problems for row in rows_of(one)])
        run.finish()
    return run


def task(problem):
    """``prompt`` and ``completion``; the columns with the tests stay beside them."""
    question = f"{problem.prompt[-1].content}\nThe function passes this test:\n{problem.extra['test_list'][0]}"
    return [problem.extra | {"prompt": question, "completion": fenced(problem.extra["code"])}]


def right_and_wrong(problem):
    """Two completions of a problem, and whether they are right."""
    code, tests = problem.extra["code"], " ".join(problem.extra["test_list"])
    name = next(one for one in re.findall(r"^def +(\w+)", code, re.M) if re.search(rf"\b{one}\b", tests))
    wrong = f"{code}\n\nright = {name}\n\ndef {name}(*given):\n    return [right(*given)]"
    kept = problem.extra | {"prompt": problem.prompt[-1].content}
    return [kept | {"completion": fenced(one), "known": one is code} for one in (code, wrong)]


def fenced(code):
    """A block of Python."""
    return f"```python\n{code.strip()}\n```"
