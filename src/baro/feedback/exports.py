"""Exports: a folder with rows, the same rows as Parquet, a dataset card, and export.json with everything counted.

The same judgments (up to a watermark) with the same settings are the same files, byte for byte; so nothing in them
tells the time of the export, only that of the last judgment. Parquet keeps to this for one version of pyarrow.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select

from baro.errors import ConfigError
from baro.feedback import rows, schema
from baro.feedback.card import card, iso, row_schema
from baro.feedback.cells import csv_of
from baro.feedback.coefficients import scales_agreement
from baro.feedback.database import Store, log_event
from baro.feedback.derive import votes_of
from baro.feedback.facts import fact_rows, facts_of
from baro.feedback.ids import new_id, now_ms, sha256
from baro.feedback.labels import votes_that_count
from baro.feedback.panel import CHOSEN, only_random, policies_of
from baro.feedback.pku import pku_rows
from baro.feedback.project import Project
from baro.feedback.refusals import Refused
from baro.feedback.reliability import left_out
from baro.feedback.rows import Built, ExportSettings, Source, texts_of
from baro.feedback.scales import first_votes

FORMAT = 1  # of export.json
PREVIEWED = 20
BUILDERS: dict[str, Callable[[Source], Built]] = {
    "pairs": rows.pair_rows,
    "trl": rows.trl_rows,
    "openrlhf": rows.openrlhf_rows,
    "hh": rows.transcript_rows,
    "ranks": rows.rank_rows,
    "kto": rows.thumb_rows,
    "pku": pku_rows,
    "criteria": rows.criteria_rows,
    "edits": rows.edit_rows,
}
LAYOUTS = (*BUILDERS, "facts")
Settings = ExportSettings | Mapping[str, Any]


def preview(connection: Connection, project: Project, layout: str, settings: Settings) -> dict[str, Any]:
    """The first rows, how many there are, and what would be left out."""
    _, built = built_export(connection, project, layout, _checked(settings))
    return {
        "rows": [row for _, row in built.rows[:PREVIEWED]],
        "count": len(built.rows),
        "dropped": dict(built.dropped),
    }


def write(
    store: Store, project: Project, layout: str, settings: Settings, folder: Path, actor: str
) -> dict[str, Any]:  # fmt: skip
    """Write an export into a new folder inside ``folder``, and enter it in the store.

    The name is chosen here. Refused when there is no row; ConfigError when ``folder`` is no folder, or a link.
    """
    checked = _checked(settings)
    with store.read() as connection:
        source, built = built_export(connection, project, layout, checked)
        if not built.rows:
            left_out = "; left out: " * bool(built.dropped) + ", ".join(
                f"{n} {why}" for why, n in built.dropped.items()
            )
            raise Refused("invalid", f"there is no row to export yet{left_out}", dropped=dict(built.dropped))
        about = _about(connection, project, layout, source, built)
    made = new_id()
    name = f"{project.name}-{layout}-{made}"
    digest = _write_folder(folder, name, _files(about, built, source))
    watermark, count, dropped = source.votes.watermark, len(built.rows), dict(built.dropped)

    def enter(connection: Connection) -> None:
        row = {"id": made, "project_id": project.id, "layout": layout, "settings": about["settings"], "rows": count}
        row |= {"watermark": watermark, "dropped": dropped, "sha256": digest, "created_ms": now_ms()}
        connection.execute(insert(schema.export).values(**row, created_by=actor))
        log_event(connection, actor, "export", "export", made, {"layout": layout, "rows": count})

    store.write(enter)
    return {"id": made, "folder": str(folder / name), "rows": count, "dropped": dropped, "sha256": digest}


def _checked(settings: Settings) -> ExportSettings:
    return settings if isinstance(settings, ExportSettings) else ExportSettings.model_validate(settings)


def built_export(
    connection: Connection, project: Project, layout: str, settings: ExportSettings
) -> tuple[Source, Built]:
    """The rows of a layout, with what they were made of; nothing is written."""
    if layout not in LAYOUTS:
        raise Refused("invalid", f"there is no layout {layout!r}; give one of {', '.join(LAYOUTS)}")
    source = source_of(connection, project, settings)
    if layout == "facts":
        built = fact_rows(source, facts_of(connection, project.id, source.votes.watermark))
    else:
        built = BUILDERS[layout](source)
    return source, Built(built.rows, Counter({name: n for name, n in sorted(built.dropped.items()) if n}))


def source_of(connection: Connection, project: Project, settings: ExportSettings) -> Source:
    """What rows are made of; ``of`` and ``expand`` of the settings make no difference to it."""
    votes = votes_that_count(votes_of(connection, project.id, settings.watermark), settings.labels)
    return Source(votes, texts_of(connection, project.id), settings)


# --------------------------------------------------------------------------------------------------- what the card says


def _about(connection: Connection, project: Project, layout: str, source: Source, built: Built) -> dict[str, Any]:
    votes, settings = source.votes, source.settings
    event = schema.event
    at = connection.execute(
        select(event.c.at_ms).where(event.c.id <= votes.watermark).order_by(event.c.id.desc()).limit(1)
    ).scalar_one_or_none()
    counted = [one for one in votes.judgments if one.role != "gold"]
    roles = Counter(one.role for one in counted)
    about: dict[str, Any] = {"format": FORMAT, "project": project.name, "layout": layout}
    about |= {"settings": settings.model_dump(mode="json") | {"watermark": votes.watermark}}
    about |= {"label_function": settings.labels.name, "watermark": votes.watermark, "at": iso(at or 0)}
    about |= {"rows": {side: len(part) for side, part in _sides(built, source).items()}}
    about |= {"dropped": dict(built.dropped), "judgments": dict(sorted(roles.items()))}
    about |= {"raters": len({one.rater_id for one in counted}), "prompts": len({prompt for prompt, _ in built.rows})}
    if layout == "kto":
        up = sum(row["label"] for _, row in built.rows)
        about["thumbs"] = {"up": up, "down": len(built.rows) - up}
    without = left_out(votes, settings.labels.min_reliability)
    about["raters_left_out"] = [
        {"reliability": round(one.value, 6), "right": one.right, "n": one.n, "by": one.by} for one in without.values()
    ]
    about |= {"agreement": scales_agreement(votes), "guidelines": _guidelines(connection, source)}
    about |= {"policies": policies_of(votes), "votes_beyond": len(votes.judgments) - len(first_votes(votes).judgments)}
    if set(about["policies"]) & set(CHOSEN):
        about["agreement_random"] = scales_agreement(only_random(votes))
    return about | {"schema": row_schema(built.rows[0][1], layout)}


def _guidelines(connection: Connection, source: Source) -> list[dict[str, Any]]:
    table = schema.guideline
    used = Counter(one.guideline_id for one in source.votes.judgments if one.role != "gold")
    found = connection.execute(select(table).where(table.c.project_id == source.votes.project_id))
    listed = [
        {"version": row.version, "lang": row.lang, "sha256": row.sha256, "judgments": used[row.id]}
        for row in found
        if used[row.id]
    ]
    return sorted(listed, key=lambda one: (one["version"], one["lang"]))


def _sides(built: Built, source: Source) -> dict[str, list[rows.Row]]:
    """All rows as ``data``, or split by the prompts' hashes: a prompt never changes sides as more is judged."""
    share = source.settings.held_out
    if not share:
        return {"data": [row for _, row in built.rows]}
    sides: dict[str, list[rows.Row]] = {"train": [], "held_out": []}
    for prompt, row in built.rows:
        drawn = int(sha256(f"held_out\n{source.texts.prompts[prompt].sha256}")[:16], 16) / 2**64
        sides["held_out" if drawn < share else "train"].append(row)
    return {side: part for side, part in sides.items() if part}


# --------------------------------------------------------------------------------------------------------------- files


def _files(about: dict[str, Any], built: Built, source: Source) -> dict[str, bytes]:
    """Every file's name and content."""
    settings, files = source.settings, {}
    for side, part in _sides(built, source).items():
        lines = lines_of(part)
        files[f"{side}.jsonl" + (".gz" if settings.gzip else "")] = _zipped(lines) if settings.gzip else lines
        files[f"{side}.parquet"] = _parquet(part)
        files |= {f"{side}.csv": csv_of(list(part[0]), [list(row.values()) for row in part])} if settings.csv else {}
    about["files"] = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    files["README.md"] = card(about, settings.lang).encode()
    files["export.json"] = (json.dumps(about, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()
    return files


def lines_of(part: Sequence[rows.Row]) -> bytes:
    """JSON Lines."""
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in part).encode()


def _zipped(content: bytes) -> bytes:
    """Without the time and the name that gzip would put in."""
    return gzip.compress(content, mtime=0)


def _parquet(part: Sequence[rows.Row]) -> bytes:
    import pyarrow as arrow
    from pyarrow import parquet

    sink = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(list(part)), sink, compression="zstd")
    return sink.getvalue()


def _write_folder(folder: Path, name: str, files: Mapping[str, bytes]) -> str:
    """Write the files into ``folder/name``, which appears whole or not at all; the digest of all of them.

    No link is followed and nothing that exists is opened: every name is made new, relative to its open folder.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = f".{name}.partial"
    with _opened(folder) as inside:
        os.mkdir(partial, 0o700, dir_fd=inside)
        try:
            with _opened(partial, inside) as fresh:
                for file, content in files.items():
                    _write_new(file, content, fresh)
                os.fsync(fresh)
            os.rename(partial, name, src_dir_fd=inside, dst_dir_fd=inside)
            os.fsync(inside)
        except BaseException:
            _remove(partial, inside, files)
            raise
    digests = sorted((file, hashlib.sha256(content).hexdigest()) for file, content in files.items())
    return hashlib.sha256("".join(f"{digest}  {file}\n" for file, digest in digests).encode()).hexdigest()


@dataclass
class _opened:
    """A folder by its file descriptor; ConfigError for a link or a file."""

    path: Path | str
    inside: int | None = None

    def __enter__(self) -> int:
        try:
            self.descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=self.inside)
        except OSError as error:
            raise ConfigError(f"{self.path}: exports need a folder, and no link to one ({error.strerror})") from error
        return self.descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)


def _write_new(name: str, content: bytes, inside: int) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=inside)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _remove(partial: str, inside: int, files: Mapping[str, bytes]) -> None:
    with suppress(OSError, ConfigError):
        with _opened(partial, inside) as fresh:
            for file in files:
                with suppress(FileNotFoundError):
                    os.unlink(file, dir_fd=fresh)
        os.rmdir(partial, dir_fd=inside)


# ----------------------------------------------------------------------------------------------------------- listing


def listed(connection: Connection, project: Project) -> list[dict[str, Any]]:
    """The exports of a project, newest first."""
    table = schema.export
    found = connection.execute(select(table).where(table.c.project_id == project.id).order_by(table.c.id.desc()))
    return [row._asdict() for row in found]
