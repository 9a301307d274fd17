"""report.html, a page that is complete in itself, and report.json beside it, from the run directories of a pipeline.

Both are a function of the runs alone: the same runs give the same bytes. The page loads nothing and runs one script,
its own: a content security policy in its head names that script's hash and forbids everything else.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from os.path import relpath
from pathlib import Path
from string import Template
from typing import Any

from baro.errors import ConfigError
from baro.evaluate.answers import rollouts_section, samples_section
from baro.evaluate.constraint_section import constraint_section
from baro.evaluate.critique_section import critique_section
from baro.evaluate.curves import curves_section
from baro.evaluate.findings import summary
from baro.evaluate.markup import DASH, Html, duration_words, element, finite, joined, text
from baro.evaluate.provenance import figures_section, ledger_section, lineage_section, notes_section
from baro.evaluate.results import evaluation_sections, reward_section, summary_section
from baro.evaluate.solved_section import solved_section
from baro.evaluate.stages import Stage, parents_of, read_stages
from baro.evaluate.words import WORDS, Language, Words
from baro.files import write_atomic

FORMAT = 1
"""Of report.json."""


def build_report(
    runs: Sequence[Path], out: Path, *, title: str, names: Mapping[str, str] | None = None, language: Language = "en"
) -> Path:
    """Write report.html and report.json into ``out`` and return the page's path.

    runs: the stages' run directories, in the order in which they are to be told. names: what a run, named by its path,
    is called; its folder's name otherwise. Files and figures that a run does not have are left out. Raises RunError for
    what is not a run directory, DataError for a file in it that cannot be read, ConfigError if ``out`` cannot be made.
    """
    stages = read_stages(runs, names or {})
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{out}: cannot be a folder for the report ({error.strerror}); choose another --out"
        ) from None
    summed_up = report_json(stages, out, title=title, language=language)
    encoded = json.dumps(_plain(summed_up), ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    # half a surrogate pair becomes its JSON escape, which it also was in the file that it came from
    write_atomic(out / "report.json", encoded.encode("utf-8", "backslashreplace"))
    write_atomic(out / "report.html", page(stages, title=title, language=language))
    return out / "report.html"


# --- report.json ------------------------------------------------------------------------------------------------------


def report_json(stages: Sequence[Stage], out: Path, *, title: str, language: Language) -> dict[str, Any]:
    """Every figure with its stage, what the page says in words, and the lineage. Paths are relative to the report."""
    figures = [
        {"stage": stage.name, **figure._asdict()} for stage in stages for figure in (*stage.figures, *stage.cost)
    ]
    findings = [finding._asdict() for finding in summary(stages, WORDS[language])]
    lineage = [_lineage(stage, stages, out) for stage in stages]
    return {
        "format": FORMAT,
        "title": title,
        "language": language,
        "summary": findings,
        "figures": figures,
        "lineage": lineage,
    }


def _lineage(stage: Stage, stages: Sequence[Stage], out: Path) -> dict[str, Any]:
    parents = [parent.name if isinstance(parent, Stage) else parent for parent in parents_of(stage, stages)]
    keys = ("verb", "status", "seed", "started", "finished", "inputs", "environment", "config")
    told = {key: stage.manifest.get(key) for key in keys}
    return {"stage": stage.name, "path": relpath(stage.path, out), "parents": parents, **told}


def _plain(value: Any) -> Any:
    """Values that are JSON for every reader: a number that is not finite is null."""
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


# --- report.html ------------------------------------------------------------------------------------------------------


def page(stages: Sequence[Stage], *, title: str, language: Language) -> str:
    """The whole page."""
    words = WORDS[language]
    wins, frontier, controls = evaluation_sections(stages, words)
    sections = {
        "wins": wins,
        "frontier": frontier,
        "controls": controls,
        "solved": solved_section(stages, words),
        "constraint": constraint_section(stages, words),
        "reward": reward_section(stages, words),
        "samples": samples_section(stages, words),
        "critiques": critique_section(stages, words),
        "curves": curves_section(stages, words),
        "rollouts": rollouts_section(stages, words),
        "ledger": ledger_section(stages, words),
        "lineage": lineage_section(stages, words),
        "figures": figures_section(stages, words),
        "notes": notes_section(words),
    }
    shown = {name: section for name, section in sections.items() if section}
    folder = files("baro.evaluate")
    script = folder.joinpath("report.js").read_text("utf-8")
    return Template(folder.joinpath("report.html").read_text("utf-8")).substitute(
        language=language,
        title=text(title),
        style=folder.joinpath("report.css").read_text("utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        facts=_facts(stages, words),
        theme_label=text(words["theme_label"]),
        theme_dark=text(words["theme_dark"]),
        theme_light=text(words["theme_light"]),
        contents=_contents(shown, words),
        summary=summary_section(stages, words),
        sections=joined(shown.values(), "\n"),
        footer=text(words["made_by"].format(version=_version())),
    )


def _facts(stages: Sequence[Stage], words: Words) -> Html:
    """One line under the title: how much this is, from which seeds, how long it took and when it was done."""
    seeds = sorted({str(stage.manifest["seed"]) for stage in stages if stage.manifest.get("seed") is not None})
    times = [stage.seconds for stage in stages if stage.seconds is not None]
    ended = max((str(stage.manifest["finished"]) for stage in stages if stage.manifest.get("finished")), default=None)
    facts = [
        words["stages_count"].format(n=len(stages)),
        f"{words['seed']} {', '.join(seeds)}" if seeds else None,
        duration_words(sum(times), words) if times else None,
        ended[:10] if ended else None,
    ]
    return joined((fact for fact in facts if fact), " · ")


def _contents(sections: Mapping[str, Html], words: Words) -> Html:
    links = [element("li", element("a", words[_heading(name)], href=f"#{name}")) for name in sections]
    return element("nav", element("ul", *links), aria_label=words["contents"])


def _heading(name: str) -> str:
    return {"figures": "all_figures"}.get(name, name)


def _version() -> str:
    try:
        return version("baro")
    except PackageNotFoundError:
        return DASH
