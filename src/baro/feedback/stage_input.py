"""What ``feedback:PROJECT`` stands for where a stage takes records: the labels of a project as a file.

The file's name has the hash of its content, so what a run has read stays as it was while people go on judging.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from baro.errors import ConfigError
from baro.feedback import rows, schema
from baro.feedback.database import Store
from baro.feedback.derive import votes_of
from baro.feedback.exports import built_export, lines_of
from baro.feedback.ids import new_id
from baro.feedback.project import Project, get_project
from baro.feedback.rows import ExportSettings, Source, texts_of

FORMS: Mapping[str, list[tuple[str, dict[str, Any]]]] = {
    "pairs": [("pairs", {"of": of}) for of in ("pairs", "helpful", "rankings", "edits")],
    "safer": [("pairs", {"of": "safer"})],
    "ranks": [("ranks", {})],
    "thumbs": [("kto", {})],
    "safety": [("pku", {})],
    "scores": [("criteria", {})],
    "demonstrations": [("edits", {}), ("pairs", {}), ("ranks", {}), ("kto", {})],
}
"""What may be asked for, and the layouts that hold it; the first with rows is taken."""
UNJUDGED = ("prompts", "answers")
FORM_OF = {
    "pair": "pairs",
    "rank": "ranks",
    "thumb": "thumbs",
    "safety": "pairs",
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
            form = most_judged(connection, project) if form == "auto" else form
            found = rows_of(connection, project, form, ExportSettings(watermark=watermark))
    finally:
        store.close()
    if not found:
        raise ConfigError(f"feedback:{project_name}: holds no {form} yet; let people judge, or name another project")
    if folder is None and store.is_postgres:
        raise ConfigError(f"feedback:{project_name}: a PostgreSQL store needs a folder for the records that are read")
    return _written((folder or Path(where)) / "records", f"{project.name}-{form}", lines_of(found))


def most_judged(connection: Connection, project: Project) -> str:
    """The form of the kind of task that people judged most."""
    kinds = Counter(one.task.kind for one in votes_of(connection, project.id).judgments)
    return FORM_OF[max(kinds, key=lambda kind: (kinds[kind], kind))] if kinds else "pairs"


def rows_of(connection: Connection, project: Project, form: str, settings: ExportSettings) -> list[rows.Row]:
    """The rows of a form; empty where nobody judged anything of it."""
    if form in UNJUDGED:
        return list(_unjudged(connection, project, with_answers=form == "answers"))
    for layout, given in FORMS[form]:
        chosen = ExportSettings.model_validate(settings.model_dump() | given)
        _, built = built_export(connection, project, layout, chosen)
        if built.rows:
            return [row for _, row in built.rows]
    return []


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
    response = schema.response
    query = select(response.c.id, response.c.prompt_id, response.c.finished).where(response.c.author == "model")
    answers: dict[str, list[tuple[str, bool]]] = {}
    for row in connection.execute(query.order_by(response.c.id)):
        answers.setdefault(row.prompt_id, []).append((row.id, row.finished))
    for prompt in sorted(texts.prompts):
        row = {"prompt": write_prompt(prompt), "prompt_id": prompt}
        if not with_answers:
            yield row
        elif prompt in answers:
            found = [texts.responses[one].text for one, _ in answers[prompt]]
            ids, ended = [one for one, _ in answers[prompt]], [finished for _, finished in answers[prompt]]
            yield row | {"responses": found, "finished": ended, "response_ids": ids}
