"""The documents say what the code does: commands that run, names that are logged, defaults that hold, links that lead.

The code blocks of the READMEs are run as a new user would, in a folder of their own, with fewer steps. Both give the
same commands, so of the Korean one only the pipeline is run, on its own files.
"""

import functools
import itertools
import json
import logging
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pydantic_core import PydanticUndefined
from test_architecture import LAYERS
from typer.testing import CliRunner

from baro import cli
from baro import config as blocks
from baro.chat_config import ServerConfig
from baro.compute import ComputeConfig, LoraConfig
from baro.judge_config import PairJudgeConfig, RubricConfig
from baro.online_config import RolloutConfig
from baro.pipeline import load_pipeline
from baro.verbs import VERBS
from baro.verifier_config import VERIFIERS

ROOT = Path(__file__).parents[1]
READMES = {"en": ROOT / "README.md", "ko": ROOT / "README.ko.md"}
PAIRS = [
    (ROOT / "docs" / name, ROOT / "docs" / "ko" / name)
    for name in (
        "design.md",
        "metrics.md",
        "defaults.md",
        "parity.md",
        "data.md",
        "speed.md",
        "feedback.md",
        "mutants.md",
        "rewards.md",
        "constitution.md",
    )
]
DOCUMENTS = sorted(
    path
    for folder in (ROOT, *(ROOT / name for name in ("docs", "tests", "examples", "benchmarks")))
    for path in (folder.glob("*.md") if folder == ROOT else folder.rglob("*.md"))
)
SHORTER = [
    *(f"stages.{name}.trainer.epochs=0.2" for name in ("base", "sft", "reward", "dpo")),
    "stages.ppo.trainer.steps=1",
    "stages.ppo.accept_weak_reward_model=true",  # so few steps may make no good one
    "stages.ppo.rollout={prompts: 8, completions: 2, epochs: 1, minibatches: 2}",
    "stages.evaluation.limit=12",
]
UNSEEN = {"skipped_step", "<policy>/loss"}  # documented, and never logged by a healthy run in one process
UNSEEN |= {
    f"eval/{name}" for name in ("score/<name>", "win_rate", "tokens", "finished_fraction")
}  # test_held_out_answers.py
UNSEEN |= {
    f"<policy>/{name}/<reward>" for name in ("accuracy", "pass_at_<k>", "maj_at_<n>", "unsolved_fraction")
}  # tests/evaluate/test_solved.py
UNSEEN |= {"accepted", "false_positives", "false_negatives"}  # test_verify.py
UNSEEN |= {"demonstrations", "steps", "failures", "changed_fraction", "changed_fraction/round_<k>"}  # test_critique.py
UNSEEN |= {"common_sentence/round_<k>"}
UNSEEN |= {
    *("left_preferred/one_order", "same_position", "option_mass", "sampled_verdicts", "agreement", "thumbs"),
    "agreement/<model>",
}  # test_label_by_principles.py
UNSEEN |= {"loss/ptx"}  # test_ppo_parts.py
UNSEEN |= {
    "loss/kl",
    "objective/tied_fraction",
    "objective/learned_fraction",
    "objective/draws",
    "objective/skipped_fraction",
    "sampler/gap",
    "sampler/gated_fraction",
}  # test_grpo.py
UNSEEN |= {
    "loss/cost_value",
    "objective/costs",
    "objective/cost/<name>",
    *(f"constraint/{name}" for name in ("mean_cost", "cost_low", "cost_high", "lambda", "over_limit_fraction")),
}  # test_safe_ppo.py
UNSEEN |= {
    "sign_accuracy",
    *(f"cost/{name}" for name in ("unsafe", "safe")),
    *(f"loss/{name}" for name in ("ranking", "sign")),
    *(f"cost_model/{name}" for name in ("accuracy", "sign_accuracy", "balanced_accuracy", "auroc", "ece", "undecided")),
    *(f"cost_model/{name}" for name in ("recall_unsafe", "recall_safe", "vote_agreement", "vote_ceiling", "weak")),
    *(f"cost_model/{name}_by_category/<name>" for name in ("accuracy", "sign_accuracy")),
    *(f"cost_model/mean_cost/{name}" for name in ("unsafe", "safe")),
    *(f"baseline/{name}" for name in ("longer_is_unsafer", "length_auroc", "all_safe")),
}  # test_cost.py
SHARED = {
    "trainer": blocks.TrainerConfig,
    "rollout": RolloutConfig,
    "sampling": blocks.SamplingConfig,
    "data": blocks.DataConfig,
    "lora": LoraConfig,
    "compute": ComputeConfig,
}


def code(path: Path, language: str) -> list[str]:
    """A document's code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)


def headings(path: Path) -> list[str]:
    without_code = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^#{1,6} .*$", without_code, re.MULTILINE)


def tables(path: Path) -> list[list[str]]:
    """The cells of every row of a document's tables, without their heads."""
    rows, before = [], ""
    for line in path.read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] if line.startswith("|") else []
        if cells and before.startswith("|") and not re.fullmatch(r"[|\-]+", line):
            rows.append(cells)
        before = line
    return rows


def commands(path: Path) -> list[list[str]]:
    """Every ``baro`` command of a document's shell blocks, as arguments."""
    lines = [line for block in code(path, "bash") for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("baro ")]


# ------------------------------------------------------------------------------------------------- links and pairs


def anchor(heading: str) -> str:
    """A heading as the anchor that code hosts make of it."""
    text = heading.lstrip("#").strip().lower().replace("`", "")
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        name, _, fragment = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), f"{path.name}: {link} leads nowhere"
        if fragment:
            assert fragment in {anchor(heading) for heading in headings(target)}, f"{path.name}: no heading {link}"


@pytest.mark.parametrize("page", ["docs/models.md", "docs/ko/models.md"])
def test_the_versions_that_are_promised_are_those_that_ran(page):
    ran = [row[:2] for row in tables(ROOT / page) if re.fullmatch(r"\d+\.\d+\.\d+", row[0])]
    promised = (ROOT / "pyproject.toml").read_text()
    for name, versions in zip(("torch", "transformers"), zip(*ran, strict=True), strict=True):
        minors = sorted(int(version.split(".")[1]) for version in versions)
        major = versions[0].split(".")[0]
        assert f'"{name}>={major}.{minors[0]},<{major}.{minors[-1] + 1}"' in promised
    assert set(re.findall(r"^(?:torch|transformers)==(.*)$", (ROOT / "constraints.txt").read_text(), re.M)) == set(
        ran[0]
    )


@pytest.mark.parametrize(("english", "korean"), [tuple(READMES.values()), *PAIRS], ids=lambda p: p.name)
def test_both_languages_say_as_much(english, korean):
    levels = [[heading.split()[0] for heading in headings(path)] for path in (english, korean)]
    assert levels[0] == levels[1]
    for language in ("bash", "json", "python", "yaml", ""):
        assert len(code(english, language)) == len(code(korean, language))
    rows = [[len(row) for row in tables(path)] for path in (english, korean)]
    assert rows[0] == rows[1]
    named = [[row[0] for row in tables(path) if re.fullmatch(r"(`[^`]+`(, )?)+", row[0])] for path in (english, korean)]
    assert named[0] == named[1]


def test_both_readmes_give_the_same_commands_and_pipeline():
    assert commands(READMES["en"]) == commands(READMES["ko"])
    assert [yaml.safe_load(text) for text in code(READMES["en"], "yaml")] == [
        yaml.safe_load(text) for text in code(READMES["ko"], "yaml")
    ]


def verbs() -> Iterator[str]:
    """What can be typed after ``baro``."""
    for name, command in typer.main.get_command(cli.app).commands.items():
        inner = getattr(command, "commands", None)
        yield from (name,) if inner is None else (f"{name} {one}" for one in inner)


@pytest.mark.parametrize("path", READMES.values(), ids=lambda p: p.name)
def test_every_verb_is_in_the_readme(path):
    missing = [verb for verb in verbs() if f"`baro {verb}`" not in path.read_text()]
    assert not missing


# ----------------------------------------------------------------------------------------- files and names of the code

PACKAGE = ROOT / "src" / "baro"
NAMING = sorted(
    path for path in DOCUMENTS if path.parent in (ROOT, ROOT / "docs", ROOT / "docs" / "ko", ROOT / "tests")
)
OTHERS_FILES = {"make_files.py", "kindness.py", "utils.py"}  # a reader's own, and one that must not be


def named_files(text: str) -> set[str]:
    """Every path of a Python file, and every folder of the sources or tests, that a text has in backticks."""
    inside = [word for span in re.findall(r"`([^`\n]+)`", text) for word in span.split()]
    return {word for word in inside if re.fullmatch(r"[\w/.-]+\.py|(src|tests|examples|benchmarks)/[\w/-]+", word)}


@pytest.mark.parametrize("path", NAMING, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_that_a_document_names_exist(path):
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    below = {"src/baro/" + one.relative_to(PACKAGE).as_posix() for one in PACKAGE.rglob("*.py")}
    for name in named_files(text) - OTHERS_FILES:
        found = any((folder / name).exists() for folder in (ROOT, PACKAGE, path.parent))
        assert found or ("/" not in name and any(one.endswith("/" + name) for one in below)), f"no file {name}"


@pytest.mark.parametrize("path", NAMING, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_and_names_that_a_document_names_exist(path):
    for name in set(re.findall(r"\b(?:baro|benchmarks)(?:\.\w+)+(?::\w+)?", path.read_text())):
        if (ROOT / name).exists() or name.endswith((".yaml", ".md", ".toml", ".py")):
            continue
        dotted, _, attribute = name.partition(":")
        file = (PACKAGE.parent if name.startswith("baro") else ROOT).joinpath(*dotted.split("."))
        if not (file.is_dir() or file.with_suffix(".py").is_file()):
            file, attribute = file.parent, file.name
        source = file.with_suffix(".py") if file.with_suffix(".py").is_file() else file / "__init__.py"
        assert source.is_file(), f"no module {name}"
        assert not attribute or re.search(rf"\b{attribute}\b", source.read_text()), f"{source.name} has no {attribute}"


@pytest.mark.parametrize("path", NAMING, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_name_said_to_be_in_a_file_is_made_there(path):
    text = path.read_text()
    english = re.findall(r"`(\w+)` (?:of|in) `([\w/.]+\.py)`", text)
    korean = [(name, file) for file, name in re.findall(r"`([\w/.]+\.py)`의 `(\w+)`", text)]
    for name, file in english + korean:
        source = next(one for one in (ROOT / file, PACKAGE / file) if one.is_file())
        made = re.search(rf"^ *((class|def) {name}\b|{name}\b(: [^=\n]+)?( =|$))", source.read_text(), re.MULTILINE)
        assert made, f"{name} is not made in {file}"


def typed(path: Path) -> list[list[str]]:
    """Every command line of a document, in its shell blocks and in backticks, as words."""
    text = path.read_text()
    lines = [line for block in code(path, "bash") for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))
    return [line.partition(" #")[0].split() for line in lines if line.startswith(("baro ", "pytest ", "python -m "))]


@functools.cache
def command_line() -> Any:
    return typer.main.get_command(cli.app)


def flags(words: list[str]) -> set[str]:
    return {word.partition("=")[0] for word in words if re.fullmatch(r"--[a-z][\w-]*(=.*)?", word)}


@pytest.mark.parametrize("path", NAMING, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_that_a_document_gives_exist(path):
    """The verb or module, its flags, and the tests that a figure is said to come from."""
    for words in typed(path):
        line = " ".join(words)
        if words[0] == "baro":
            command, rest = command_line(), words[1:]
            while rest and rest[0] in getattr(command, "commands", ()):
                command, rest = command.commands[rest[0]], rest[1:]
            known = {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
            placed = not rest or not hasattr(command, "commands") or not rest[0].islower()
            assert placed or rest[0].startswith("-"), f"no verb: {line}"
            assert flags(rest) <= known | {"--help"}, f"unknown flags: {line}"
        elif words[0] == "python" and words[2].startswith("benchmarks."):
            module = words[2].replace(".", "/")
            sources = [one.read_text() for one in ROOT.glob(f"{module}*.py")]
            assert (ROOT / f"{module}.py").is_file(), f"no module: {line}"
            assert all(any(f'"{flag}"' in source for source in sources) for flag in flags(words)), f"flags: {line}"
        for word in words[1:]:
            assert not word.startswith("tests/") or (ROOT / word.partition("::")[0]).exists(), f"no test: {line}"


def test_the_layers_of_contributing_are_those_that_are_checked():
    block = re.search(
        r"^## Layers\n.*?^```\n(.*?)^```$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert block
    shown = [line.partition("  ")[0].split() for line in block.group(1).splitlines()]
    rank = {name: number for number, layer in enumerate(LAYERS) for name in layer if name != "__main__"}
    assert sorted(name for line in shown for name in line) == sorted(rank)
    numbers = [[rank[name] for name in line] for line in shown]
    assert all(min(above) > max(below) for above, below in itertools.pairwise(numbers))


# ------------------------------------------------------------------------------------------------ the README is run


@pytest.fixture(scope="module", params=["en", pytest.param("ko", marks=pytest.mark.slow)])
def run_of_readme(request, tmp_path_factory):
    """A folder in which everything that a README says was done, with fewer steps; and what its commands printed."""
    folder = tmp_path_factory.mktemp(f"readme-{request.param}")
    readme, log, printed = READMES[request.param], logging.getLogger("baro"), []
    make_files, judge = code(readme, "python")
    before = (log.handlers, log.level, log.propagate, list(sys.path))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("BARO_CACHE", str(folder / "cache"))
        (folder / "make_files.py").write_text(make_files)
        (folder / "kindness.py").write_text(judge)
        (folder / "mine.yaml").write_text("\n".join(code(readme, "yaml")))
        runpy.run_path("make_files.py")
        with_votes(Path("preferences.jsonl"), Path("votes.jsonl"))
        everything = [*commands(readme), *more_commands()]
        for arguments in everything if request.param == "en" else [one for one in everything if one[0] == "run"]:
            shorter = [part for one in SHORTER for part in ("--set", one)] if arguments[0] == "run" else []
            done = CliRunner().invoke(cli.app, [*arguments, *shorter])
            printed.append((arguments, done))
        yield folder, printed
    log.handlers, log.level, log.propagate, sys.path[:] = before
    sys.modules.pop("kindness", None)


def with_votes(pairs: Path, out: Path) -> None:
    """The same pairs, each of which one of five raters judged the other way round; and longer, shorter, equal sides."""
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    for i, row in enumerate(rows):
        row |= {"p_chosen": 0.8, ("chosen", "rejected", "none")[i % 3]: "Hello, hello, hello, hello, hello, my friend!"}
        row.pop("none", None)
    out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def more_commands() -> list[list[str]]:
    """What the README leaves out and the tables of metrics must hold."""
    best = ["--set", "best_of={n: 2, by: runs/mine/reward}", "--baseline-pairs", "preferences.jsonl"]
    one_step = ["--set", "trainer.steps=1"]
    where = ["--pairs", "preferences.jsonl", "--prompts", "prompts.jsonl", "--limit", "8"]
    ensemble = ["model=runs/mine/sft", "preferences=votes.jsonl", "members=2", "data.max_dropped_fraction=1"]
    ensemble += ["trainer={steps: 2, batch_size: 8, held_out_fraction: 0.3}"]
    worst = ["policy=runs/mine/sft", "prompts=prompts.jsonl", "rewards=[{by: runs/ensemble, combine: worst}]"]
    worst += ["accept_weak_reward_model=true", "rollout={prompts: 4, epochs: 1, minibatches: 1}", "trainer.steps=1"]
    worst += ["sampling.max_new_tokens=8"]
    return [
        ["reward", *(part for one in ensemble for part in ("--set", one)), "--out", "runs/ensemble"],
        ["ppo", *(part for one in worst for part in ("--set", one)), "--out", "runs/worst"],
        ["label", "runs/answers", "--by", "runs/ensemble", "--out", "runs/ensemble-labels"],
        ["label", "runs/answers", "--by", "runs/mine/reward", "--as", "ranks", "--out", "runs/ranks"],
        ["evaluate", "runs/mine/dpo", "--against", "runs/mine/sft", *where, *best, "--out", "runs/controls"],
        ["kto", *one_step, "--set", "policy=runs/mine/sft", "--set", "thumbs=preferences.jsonl", "--out", "runs/kto"],
    ]


def test_the_readme_can_be_followed(run_of_readme):
    folder, printed = run_of_readme
    for arguments, done in printed:
        assert done.exit_code == 0, f"baro {' '.join(arguments)}: {done.exception!r}\n{done.stderr[-1000:]}"
        if arguments[:2] != ["data", "check"]:
            assert (folder / done.stdout.strip().splitlines()[-1]).is_dir()
    pipelines = [done for arguments, done in printed if arguments[0] == "run"]
    assert "there was nothing to do" in pipelines[-1].stderr
    assert (folder / "runs" / "mine" / "report" / "report.html").stat().st_size > 10_000


def test_the_examples_of_files_are_what_the_code_makes(run_of_readme):
    folder, _ = run_of_readme
    readme = READMES["ko" if "ko" in folder.name else "en"]
    shown = [json.loads(line) for line in code(readme, "json")[0].splitlines()]
    made = ["demonstrations.jsonl", "preferences.jsonl", "prompts.jsonl"]
    for row, name in zip(shown, made, strict=True):
        rows = [json.loads(line) for line in (folder / name).read_text().splitlines()]
        assert row.keys() == rows[0].keys()
        assert row["prompt"] in {one["prompt"] for one in rows}


def test_yaml_of_the_readme_loads(run_of_readme, monkeypatch):
    folder, _ = run_of_readme
    monkeypatch.chdir(folder)
    for text in code(READMES["en"], "yaml"):
        stages = load_pipeline(yaml.safe_load(text)).stages
        assert [stage.name for stage in stages][-1] == "report"


def test_what_the_readme_says_of_python_is_there():
    names = re.search(r"from baro import ([\w, ]+);", READMES["en"].read_text()).group(1)
    for name in names.split(", "):
        assert getattr(__import__("baro"), name)


# --------------------------------------------------------------------------------------------------------- metrics


def documented_metrics(path: Path) -> dict[str, str]:
    """Every documented name with the pattern that it stands for: ``<x>`` is one part of a name."""
    names = [name for row in tables(path) for name in re.findall(r"`([^`]+)`", row[0])]
    return {name: re.sub(r"<[^>]+>", "[^/]+", name) for name in names if name != "eval/<metric>"}


def logged_metrics(folder: Path) -> set[str]:
    """Every name in metrics.jsonl and figures.json below a folder, ``eval/`` left out."""
    found = set()
    for path in folder.rglob("metrics.jsonl"):
        found |= {name.removeprefix("eval/") for line in path.read_text().splitlines() for name in json.loads(line)}
    for path in folder.rglob("figures.json"):
        found |= {figure["name"] for figure in json.loads(path.read_text())}
    return found


def test_every_logged_metric_is_documented_and_the_other_way_round(run_of_readme):
    folder, printed = run_of_readme
    logged, documented = logged_metrics(folder / "runs"), documented_metrics(PAIRS[1][0])
    unknown = {name for name in logged if not any(re.fullmatch(one, name) for one in documented.values())}
    assert not unknown, "not in docs/metrics.md"
    assert "logps/chosen" in logged
    if any(arguments[0] == "label" for arguments, _ in printed):
        stale = {name for name, one in documented.items() if not any(re.fullmatch(one, name_) for name_ in logged)}
        assert stale <= UNSEEN, "in docs/metrics.md, and never logged"


def test_metrics_of_both_languages_are_the_same():
    assert list(documented_metrics(PAIRS[1][0])) == list(documented_metrics(PAIRS[1][1]))


# -------------------------------------------------------------------------------------------------------- defaults


def leaves(config: type[blocks.Config], made: blocks.Config | None = None, prefix: str = "") -> Iterator[tuple]:
    """(dotted key, default, description) of every key that is no block; PydanticUndefined where one must be given."""
    for name, field in config.model_fields.items():
        default = getattr(made, name) if made else field.get_default(call_default_factory=True, validated_data={})
        if isinstance(default, blocks.Config):
            yield from leaves(type(default), default, f"{prefix}{name}.")
        elif (
            default is PydanticUndefined
            and isinstance(block := field.annotation, type)
            and issubclass(block, blocks.Config)
        ):
            yield from leaves(block, None, f"{prefix}{name}.")  # a block that must be given has defaults too
        else:
            yield f"{prefix}{field.alias or name}", default, field.description


def expected_defaults() -> list[tuple[str, str, str]]:
    """(verb, key, default) in the order of the table: shared blocks, then what a verb adds or changes."""
    shared = {key: value for name, one in SHARED.items() for key, value, _ in leaves(one, None, f"{name}.")}
    shared = {key: value for key, value in shared.items() if value is not PydanticUndefined}
    rows: list[tuple[str, str, Any]] = [("–", key, value) for key, value in shared.items()]
    for verb, one in VERBS.items():
        for key, value, _ in leaves(one.load()[0]):
            changed = key not in shared or shared[key] != value
            if changed and value is not PydanticUndefined and value not in (None, [], {}):
                rows.append((verb, key, value))
    for one in VERIFIERS:
        own = {key: value for key, value, _ in leaves(one)}
        told = {key: value for key, value in own.items() if value is not PydanticUndefined and value is not None}
        name = told.pop("name")
        rows += [(f"verifier {name}", key, value) for key, value in told.items()]
    for name, block in {"rubric": RubricConfig, "judge": PairJudgeConfig, "server": ServerConfig}.items():
        told = {key: value for key, value, _ in leaves(block)}
        rows += [(name, key, value) for key, value in told.items() if value not in (PydanticUndefined, None)]
    return [(verb, key, json.dumps(value)) for verb, key, value in rows]


@pytest.mark.parametrize("path", PAIRS[2], ids=["en", "ko"])
def test_defaults_are_the_codes_and_have_a_source(path):
    rows = tables(path)
    assert [(verb, key.strip("`"), value.strip("`")) for verb, key, value, _ in rows] == expected_defaults()
    assert all(source for *_, source in rows)


@pytest.mark.parametrize("verb", VERBS)
def test_every_key_has_a_description(verb):
    undescribed = [key for key, _, description in leaves(VERBS[verb].load()[0]) if not description]
    assert not undescribed
