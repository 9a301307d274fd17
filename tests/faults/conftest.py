"""A small project to break things in: a base model, data files, and a way to run `baro` there in a forked process."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from forks import BARO, Fork, Forks

from baro.data.new_tokenizer import train_tokenizer
from baro.data.template import Template
from baro.models.load import Architecture, new_policy, save_policy

WORDS = ["red", "green", "blue", "black", "white", "brown", "grey", "pink"]
PROMPTS = [f"Name the colour {word}." for word in WORDS]


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> str:
        """Its sentence, without the word in front and what was said before it; a traceback stays visible."""
        start = max(self.err.find("error: "), 0) if "Traceback" not in self.err else 0
        return self.err[start:].removeprefix("error: ").rstrip("\n")


class Running:
    """A command that was started."""

    def __init__(self, fork: Fork) -> None:
        self.fork, self.pid = fork, fork.pid

    def wait(self) -> Said:
        """Its end. Until it is waited for, its pid is nobody else's, so that it may be killed at any time."""
        return Said(self.fork.wait(), self.fork.output, self.fork.errors)


class Commands:
    """Runs `baro` in forks, with the project as its working directory."""

    def __init__(self, project: Path) -> None:
        self.project = project
        (project / "logs").mkdir()
        self.forks = Forks(project / "logs", ["faults.imported"], COLUMNS="200", BARO_CACHE=str(project / "cache"))

    def start(self, *arguments: object, first: str = "", env: Mapping[str, str] | None = None) -> Running:
        """Begin a command; ``first`` is a program that runs before it."""
        program = f"exec({first!r}, {{}})\n{BARO}"
        return Running(self.forks.start(program, *arguments, cwd=self.project, **(env or {})))

    def __call__(self, *arguments: object, **options: Any) -> Said:
        """Run a command to its end."""
        return self.start(*arguments, **options).wait()


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base model, demonstrations, preferences, thumbs, prompts, and the module of a reward function."""
    folder = tmp_path_factory.mktemp("project")
    demonstrations = [{"prompt": p, "completion": f"It is {w}."} for p, w in zip(PROMPTS, WORDS, strict=True)]
    pairs = [
        {"prompt": prompt, "chosen": f"It is {word}.", "rejected": f"Not {other}"}
        for prompt, word in zip(PROMPTS, WORDS, strict=True)
        for other in WORDS[:3]
    ]
    write_rows(folder / "demonstrations.jsonl", demonstrations)
    write_rows(folder / "preferences.jsonl", pairs)
    thumbs = [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for i, row in enumerate(pairs)
        for side in (("chosen", "rejected") if i % 3 else ("chosen",))
    ]
    write_rows(folder / "thumbs.jsonl", thumbs)
    judged = [
        {"prompt": row["prompt"], "responses": [row["chosen"], row["rejected"]], "unsafe": [0, [1, 0.75, None][i % 3]]}
        | {"safety_ranks": [1, 2], "severity": [0, 1 + i % 3], "categories": [[], [["lie", "theft"][i % 2]]]}
        for i, row in enumerate(pairs)
    ]
    alone = [{"prompt": f"Say {i}.", "responses": [f"It is {i}."], "unsafe": [i % 2]} for i in range(8)]
    write_rows(folder / "safety.jsonl", [*judged, *alone])
    write_rows(folder / "prompts.jsonl", [{"prompt": prompt} for prompt in PROMPTS])
    (folder / "length_reward.py").write_text(
        "def odd(prompts, completions, completion_ids, **columns):\n"
        "    return [len(ids) % 2 for ids in completion_ids]\n"
        "def short(prompts, completions, completion_ids, **columns):\n"
        "    return [-0.1 * len(completion) for completion in completions]\n"
        "def words(prompts, completions, completion_ids, **columns):\n"
        "    return [float(completion.count(' ')) for completion in completions]\n"
    )
    texts = [f"User: {row['prompt']}\nAssistant: {row['completion']}" for row in demonstrations] * 3
    template = Template(train_tokenizer(texts, 280), "plain")
    shape = Architecture(hidden_size=16, layers=2, heads=2, max_positions=96, intermediate_size=24)
    save_policy(new_policy(shape, vocabulary=template.vocabulary, special=template.special, seed=0), folder / "base")
    template.save(folder / "base")
    return folder


@pytest.fixture(scope="session")
def baro(project: Path) -> Iterator[Commands]:
    """Runs the command line in the project's folder."""
    commands = Commands(project)
    yield commands
    commands.forks.close()


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
