"""What ``feedback:PROJECT`` stands for where a stage takes records: the labels of a project as a file.

The file's name has the hash of its content, so what a run has read stays as it was while people go on judging.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from baro.errors import ConfigError
from baro.feedback import rows, schema
from baro.feedback.database import Store
from baro.feedback.derive import votes_of
from baro.feedback.exports import BUILDERS, lines_of, source_of
from baro.feedback.ids import new_id
from baro.feedback.project import Project, get_project
from baro.feedback.rows import ExportSettings, Source, texts_of
from baro.feedback.safety_rows import safety_rows
from baro.feedback.withdrawn import withdrawn_at

log = logging.getLogger("baro")
FORMS: Mapping[str, list[tuple[str, dict[str, Any]]]] = {
    "pairs": [("pairs", {"of": of}) for of in ("pairs", "helpful", "rankings", "edits")],
    "safer": [("pairs", {"of": "safer"})],
    "ranks": [("ranks", {})],
    "thumbs": [("kto", {})],
    "safety": [("safety", {})],
    "scores": [("criteria", {})],
    "demonstrations": [("edits", {}), ("pairs", {}), ("ranks", {}), ("kto", {})],
}
"""What may be asked for, and the layouts that hold it. One layout's rows are put together, whatever they are made of;
of several layouts the first with rows is taken, and what the others hold is said."""
BUILT = {**BUILDERS, "safety": safety_rows}
UNJUDGED = ("prompts", "answers")
FORM_OF = {
    "pair": "pairs",
    "rank": "ranks",
    "thumb": "thumbs",
    "safety": "safety",
    "criteria": "scores",
    "edit": "demonstrations",
}
"""What a project gives that is asked for nothing in particular: the form of most of its judgments."""


def records_file(
    where: str | Path,
    project_name: str,
    form: str = "auto",
    *,
    watermark: int | None = None,
    folder: Path | None = None,
) -> Path:
    """The labels up to the watermark, else the newest, as JSON Lines in ``folder``, else in the store's folder.

    ConfigError for a form that is none, and where there is no such judgment yet.
    """
    if form not in ("auto", *FORMS, *UNJUDGED):
        known = ", ".join((*FORMS, *UNJUDGED))
        raise ConfigError(f"feedback:{project_name}/{form}: write one of {known} behind the slash, or nothing")
    store = Store.open(where)
    try:
        with store.read() as connection:
            project = get_project(connection, project_name)
            form = most_judged(connection, project, watermark) if form == "auto" else form
            found = rows_of(connection, project, form, ExportSettings(watermark=watermark))
    finally:
        store.close()
    if not found:
        raise ConfigError(f"feedback:{project_name}: holds no {form} yet; let people judge, or name another project")
    if folder is None and store.is_postgres:
        raise ConfigError(f"feedback:{project_name}: a PostgreSQL store needs a folder for the records that are read")
    return _written((folder or Path(where)) / "records", f"{project.name}-{form}", lines_of(found))


def most_judged(connection: Connection, project: Project, watermark: int | None = None) -> str:
    """The form of the kind of task that people judged most, up to the watermark."""
    given = votes_of(connection, project.id, watermark).judgments
    kinds = Counter(one.task.kind for one in given if one.role in ("vote", "adjudication"))
    return FORM_OF[max(kinds, key=lambda kind: (kinds[kind], kind))] if kinds else "pairs"


def rows_of(connection: Connection, project: Project, form: str, settings: ExportSettings) -> list[rows.Row]:
    """The rows of a form; empty where nobody judged anything of it."""
    if form in UNJUDGED:
        return list(_unjudged(connection, project, with_answers=form == "answers"))
    source, found = source_of(connection, project, settings), dict[str, list[rows.Row]]()
    for layout, given in FORMS[form]:
        chosen = ExportSettings.model_validate(settings.model_dump() | given)
        built = BUILT[layout](replace(source, settings=chosen))
        if left := ", ".join(f"{n} {why}" for why, n in sorted(built.dropped.items()) if n):
            log.info("feedback:%s/%s: left out of the layout %s: %s", project.name, form, layout, left)
        found.setdefault(layout, []).extend(row for _, row in built.rows)
    first, *others = [layout for layout, given in found.items() if given] or [FORMS[form][0][0]]
    for layout in others:
        log.warning("feedback:%s/%s: %d rows of the layout %s, while %d of %s are left out: ask for them by their form",
                    project.name, form, len(found[first]), first, len(found[layout]), layout)  # fmt: skip
    return _alike(found[first])


def _alike(found: Sequence[rows.Row]) -> list[rows.Row]:
    """Rows of several kinds of task as those of one file: the same columns, and all prompts texts or all messages."""
    columns = dict.fromkeys(name for row in found for name in row)
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    if all(isinstance(row["prompt"], str) for row in found):
        roles = {}

    def written(name: str, value: Any) -> Any:
        return [{"role": roles[name], "content": value}] if name in roles and isinstance(value, str) else value

    return [{name: written(name, row.get(name)) for name in columns} for row in found]


def _written(folder: Path, name: str, lines: bytes) -> Path:
    path = folder / f"{name}-{hashlib.sha256(lines).hexdigest()[:16]}.jsonl"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = folder / f".{path.name}.{new_id()}"
        partial.write_bytes(lines)
        partial.replace(path)
    return path


def _unjudged(connection: Connection, project: Project, *, with_answers: bool) -> Iterator[rows.Row]:
    """A project's prompts, or the prompts with all their answers by models."""
    texts = texts_of(connection, project.id)
    write_prompt = rows.prompt_writer(
        Source(votes_of(connection, project.id, 0), texts, ExportSettings()), list(texts.prompts)
    )
    response, gone = schema.response, withdrawn_at(connection, project.id)
    query = select(response.c.id, response.c.prompt_id, response.c.finished).where(response.c.author == "model")
    answers: dict[str, list[tuple[str, bool]]] = {}
    for row in connection.execute(query.order_by(response.c.id)):
        if row.id not in gone.removed:
            answers.setdefault(row.prompt_id, []).append((row.id, row.finished))
    for prompt in sorted(texts.prompts):
        if gone.covers("", prompt, (), None):
            continue
        row = {"prompt": write_prompt(prompt), "prompt_id": prompt}
        if not with_answers:
            yield row
        elif prompt in answers:
            found = [texts.responses[one].text for one, _ in answers[prompt]]
            ids, ended = [one for one, _ in answers[prompt]], [finished for _, finished in answers[prompt]]
            yield row | {"responses": found, "finished": ended, "response_ids": ids}
