"""What a manager puts into the store: projects, prompts, answers, tasks, guidelines and criteria.

Every function works inside the caller's transaction. What is there already is never added twice: a prompt is known by
the hash of its messages, a response by its text within the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import comb
from random import Random
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import ColumnElement, Connection, func, insert, select, update

from baro.errors import ConfigError
from baro.feedback import ids, schema
from baro.feedback.answers import MAX_TEXT, AnyAnswer
from baro.feedback.criteria import check_there_are_some
from baro.feedback.database import COMMAND_LINE, check_text, for_update, json_text, log_event
from baro.feedback.ids import content_sha256, looks_like_id, new_id, sha256
from baro.feedback.left_out import LeftOut, left_out, too_few_answers
from baro.feedback.people import check_lang
from baro.feedback.refusals import Refused
from baro.feedback.settings import ProjectSettings
from baro.feedback.withdrawn import Withdrawn, may_be_asked, withdrawn_at
from baro.records import Conversation

ITEMS = {"pair": (2, 2), "rank": (2, 9), "thumb": (1, 9), "safety": (2, 2), "criteria": (1, 9), "edit": (1, 1)}
"""How many responses a task of each kind may show."""
CHUNK = 500  # prompts that are worked on at once
MOST_PER_PROMPT = 1000  # tasks of one prompt that are made at once


@dataclass(frozen=True)
class Added:
    """What was made. ``refused``: the prompts of which nothing was, and why."""

    added: int = 0
    known: int = 0  # there already
    refused: list[LeftOut] = field(default_factory=list)


@dataclass(frozen=True)
class Project:
    """A project as the other functions take it."""

    id: str
    name: str
    settings: ProjectSettings


def create_project(
    connection: Connection, name: str, settings: ProjectSettings | None = None, actor: str = COMMAND_LINE
) -> Project:
    """A new project; ConfigError if the name is taken or no good in a path or an address."""
    good = 1 <= len(name) <= 100 and all(letter.isalnum() or letter in "-_." for letter in name)
    if not good or name.startswith("."):
        raise ConfigError(f"{name[:100]!r}: a project's name is made of at most 100 letters, digits, '-', '_' and '.'")
    if looks_like_id(name):
        raise ConfigError(f"{name}: looks like an id, and would be taken for one; choose another name")
    if connection.execute(select(schema.project.c.id).where(schema.project.c.name == name)).first():
        raise ConfigError(f"{name}: there is a project of this name already; choose another")
    made = Project(new_id(), name, settings or ProjectSettings())
    connection.execute(
        insert(schema.project).values(
            id=made.id, name=name, settings=made.settings.model_dump(mode="json"), created_ms=ids.now_ms()
        )
    )
    log_event(connection, actor, "create", "project", made.id)
    return made


def get_project(connection: Connection, name: str) -> Project:
    """A project by its name, and never by an id; Refused where there is none."""
    return _project(connection, schema.project.c.name == name, f"there is no project {name!r}")


def project_by_id(connection: Connection, project_id: str) -> Project:
    """A project by its id; Refused where there is none."""
    return _project(connection, schema.project.c.id == project_id, f"there is no project with the id {project_id!r}")


def _project(connection: Connection, here: ColumnElement[bool], missing: str) -> Project:
    row = connection.execute(select(schema.project).where(here)).first()
    if row is None:
        raise Refused("not_found", missing)
    return Project(row.id, row.name, ProjectSettings.model_validate(row.settings))


def change_settings(connection: Connection, project: Project, given: Mapping[str, Any], actor: str) -> ProjectSettings:
    """New settings from now on; tasks that exist keep the overlap that they were made with."""
    table = schema.project
    row = connection.execute(for_update(connection, select(table).where(table.c.id == project.id), of=table)).one()
    settings = ProjectSettings.model_validate(row.settings | dict(given))
    saved = settings.model_dump(mode="json")
    connection.execute(update(schema.project).where(schema.project.c.id == project.id).values(settings=saved))
    log_event(connection, actor, "settings", "project", project.id, dict(given))
    return settings


# ------------------------------------------------------------------------------------------------ prompts and answers


def plain_messages(turns: Conversation) -> list[dict[str, str]]:
    """A conversation as JSON."""
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def add_prompt(
    connection: Connection, project_id: str, turns: Conversation, source: str, extra: Mapping[str, Any] | None = None
) -> tuple[str, bool]:
    """The id of a prompt, and whether it is new."""
    messages = plain_messages(turns)
    json_text([messages, extra])  # refused here, so that an import can name the row and go on
    digest = content_sha256(messages)
    table = schema.prompt
    known = connection.execute(
        select(table.c.id).where(table.c.project_id == project_id, table.c.sha256 == digest)
    ).scalar_one_or_none()
    if known is not None:
        return known, False
    made = new_id()
    row = {"id": made, "project_id": project_id, "messages": messages, "sha256": digest, "source": source}
    connection.execute(insert(table).values(**row, extra=dict(extra or {}), created_ms=ids.now_ms()))
    return made, True


def add_generation(connection: Connection, project_id: str, model: str, settings: Mapping[str, Any]) -> str:
    """Who writes the answers that follow; the same model with the same settings is one generation."""
    table = schema.generation
    same = select(table).where(table.c.project_id == project_id, table.c.model == model)
    for row in connection.execute(same):
        if content_sha256(row.settings) == content_sha256(settings):
            return str(row.id)
    made = new_id()
    row = {"id": made, "project_id": project_id, "model": model, "settings": dict(settings)}
    connection.execute(insert(table).values(**row, created_ms=ids.now_ms()))
    return made


def add_response(
    connection: Connection, prompt_id: str, generation_id: str | None, answer: str, *, finished: bool = True
) -> tuple[str, bool]:
    """The id of an answer to a prompt, and whether its text is new there. An answer without a model is a person's."""
    check_text(answer)
    table = schema.response
    digest = sha256(answer)
    query = select(table.c.id, table.c.sha256, table.c.generation_id).where(table.c.prompt_id == prompt_id)
    there = connection.execute(query.order_by(table.c.id)).all()
    for row in there:
        if row.sha256 == digest:
            return row.id, False
    index = sum(row.generation_id == generation_id for row in there)
    made = new_id()
    values = {"id": made, "prompt_id": prompt_id, "generation_id": generation_id, "text": answer, "sha256": digest}
    values |= {"author": "model" if generation_id else "human", "finished": finished, "created_ms": ids.now_ms()}
    connection.execute(insert(table).values(**values, sample_index=index if generation_id else None))
    return made, True


# -------------------------------------------------------------------------------------------------------------- tasks


def add_task(
    connection: Connection,
    project: Project,
    kind: str,
    prompt_id: str,
    response_ids: Sequence[str],
    *,
    overlap: int | None = None,
    priority: int = 0,
    gold: Mapping[str, Any] | None = None,
    policy: str = "random",
    score: float | None = None,
    propensity: float = 1.0,
) -> str:
    """One task. ``gold``: the known answer, in the words of answers.py with slots for positions."""
    checked_size(kind, len(response_ids))
    if not may_be_asked(connection, prompt_id, response_ids):
        what = "its prompt is withdrawn, or a text of it was removed"
        raise Refused("conflict", f"no task can be made of this: {what}", reason="withdrawn")
    texts = _texts(connection, project.id, prompt_id, response_ids)
    if len(set(texts)) < len(texts):
        raise Refused("invalid", "two responses of the task have the same text, which nobody can tell apart")
    if gold is not None:
        _check_gold(kind, gold, len(response_ids))
    prompt = connection.execute(select(schema.prompt.c.sha256).where(schema.prompt.c.id == prompt_id)).scalar_one()
    shown = [prompt, *map(sha256, texts)]
    wanted = {"overlap": overlap, "priority": priority, "gold": gold, "propensity": propensity}
    new = _task_row(project, kind, prompt_id, shown, **wanted)  # type: ignore[arg-type]
    connection.execute(insert(schema.task).values(**new | {"policy": policy, "score": score}))
    connection.execute(insert(schema.task_item), _item_rows(new["id"], response_ids))
    return str(new["id"])


def _task_row(
    project: Project,
    kind: str,
    prompt_id: str,
    shown: Sequence[str],
    *,
    overlap: int | None,
    priority: int,
    propensity: float,
    gold: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A task. ``shown``: the hashes of its prompt and answers, from which follows when it is handed out."""
    made, wanted = new_id(), project.settings.overlap if overlap is None else overlap
    if not 1 <= wanted <= 50:
        raise Refused("invalid", f"a task wants 1 to 50 judgments, not {wanted}")
    if abs(priority) > 1_000_000:
        raise Refused("invalid", "a priority lies between -1,000,000 and 1,000,000")
    row = {"id": made, "project_id": project.id, "prompt_id": prompt_id, "kind": kind, "overlap": wanted}
    row |= {"first_overlap": wanted}
    # A task with a known answer is handed out apart from the queue, to each rater once: it has no places.
    row |= {
        "places": 0 if gold else wanted,
        "priority": priority,
        "order_key": content_sha256([kind, *shown]),
        "open": True,
    }
    row |= {"is_gold": gold is not None, "gold_answer": dict(gold) if gold else None, "policy": "random"}
    return row | {"score": None, "propensity": propensity, "created_ms": ids.now_ms()}


def _item_rows(task_id: str, response_ids: Sequence[str]) -> list[dict[str, Any]]:
    return [{"task_id": task_id, "slot": slot, "response_id": one} for slot, one in enumerate(response_ids)]


def checked_size(kind: str, size: int | None) -> int:
    """How many responses a task shows, if its kind may show so many."""
    if kind not in ITEMS:
        raise Refused("invalid", f"{kind!r} is no kind of task; give one of {', '.join(ITEMS)}")
    least, most = ITEMS[kind]
    wanted = (4 if kind == "rank" else least) if size is None else size
    if not least <= wanted <= most:
        shows = str(least) if least == most else f"{least} to {most}"
        raise Refused("invalid", f"a task of kind {kind} shows {shows} responses, not {wanted}")
    return wanted


def _check_gold(kind: str, gold: Mapping[str, Any], items: int) -> None:
    try:
        answer: Any = TypeAdapter(AnyAnswer).validate_json(json_text(dict(gold)))
    except ValidationError as error:
        raise Refused("invalid", f"the known answer is none: {error.errors()[0]['msg']}") from error
    problems = answer.problems(items)
    if answer.kind != kind:
        problems = [f"the task is of kind {kind}, the known answer of kind {answer.kind}"]
    if problems:
        raise Refused("invalid", problems[0], problems=problems)


def _texts(connection: Connection, project_id: str, prompt_id: str, response_ids: Sequence[str]) -> list[str]:
    table = schema.response
    query = select(table.c.id, table.c.prompt_id, table.c.text).join(schema.prompt)
    found = connection.execute(query.where(table.c.id.in_(response_ids), schema.prompt.c.project_id == project_id))
    rows = {row.id: row for row in found}
    for one in response_ids:
        if one not in rows or rows[one].prompt_id != prompt_id:
            raise Refused("invalid", f"response {one} is no answer to prompt {prompt_id}")
    return [rows[one].text for one in response_ids]


def make_tasks(
    connection: Connection,
    project: Project,
    kind: str,
    *,
    per_prompt: int = 1,
    size: int | None = None,
    overlap: int | None = None,
    priority: int = 0,
    seed: int = 0,
    prompts: Sequence[str] | None = None,
    actor: str = COMMAND_LINE,
) -> Added:
    """Random tasks from the answers that are there: up to ``per_prompt`` sets of ``size`` answers of each prompt.

    A set of answers that is a task of this kind already is not made again. Prompts with too few different answers are
    named in ``refused``.
    """
    size = checked_size(kind, size)
    if not 1 <= per_prompt <= MOST_PER_PROMPT:
        raise Refused("invalid", f"each prompt may get 1 to {MOST_PER_PROMPT} tasks at once, not {per_prompt}")
    if kind == "criteria":
        check_there_are_some(connection, project)
    table = schema.prompt
    there = connection.execute(select(table.c.id, table.c.sha256).where(table.c.project_id == project.id))
    chosen, here = None if prompts is None else set(prompts), {row.id: row.sha256 for row in there}
    refused = left_out("not_here", sorted((chosen or set()) - set(here)))
    gone = withdrawn_at(connection, project.id)
    wanted = sorted(one for one in here if chosen is None or one in chosen)
    refused += left_out("withdrawn", [one for one in wanted if gone.covers("", one, (), None)])
    wanted = [one for one in wanted if not gone.covers("", one, (), None)]
    added, known = 0, 0
    for start in range(0, len(wanted), CHUNK):
        tasks, items, too_few = [], [], {}
        chunk = wanted[start : start + CHUNK]
        have = _sets(connection, chunk, kind)
        for prompt_id, answers in _answers(connection, chunk, gone).items():
            if len(answers) < size:
                too_few[prompt_id] = len(answers)
                continue
            propensity = min(1.0, per_prompt / comb(len(answers), size))
            for one in _draw(list(answers), size, per_prompt, Random(f"{seed} {here[prompt_id]}")):
                if frozenset(one) in have:
                    known += 1
                    continue
                shown = [here[prompt_id], *(answers[response_id] for response_id in one)]
                row = _task_row(
                    project, kind, prompt_id, shown, overlap=overlap, priority=priority, propensity=propensity
                )
                tasks.append(row)
                items += _item_rows(row["id"], one)
        if tasks:
            connection.execute(insert(schema.task), tasks)
            connection.execute(insert(schema.task_item), items)
        added += len(tasks)
        refused += too_few_answers(connection, too_few, kind, size)
    log_event(connection, actor, "tasks", "project", project.id, {"kind": kind, "added": added})
    return Added(added, known, refused)


def _answers(connection: Connection, prompts: Sequence[str], gone: Withdrawn) -> dict[str, dict[str, str]]:
    """Each prompt's responses with the hashes of their texts, in the order of these; of equal texts the first.

    Without those whose text was removed.
    """
    table = schema.response
    query = select(table.c.prompt_id, table.c.id, table.c.sha256).where(table.c.prompt_id.in_(prompts))
    texts: dict[str, dict[str, str]] = {one: {} for one in prompts}
    for prompt_id, response_id, digest in connection.execute(query.order_by(table.c.sha256, table.c.id)):
        if response_id not in gone.removed:
            texts[prompt_id].setdefault(digest, response_id)
    return {prompt_id: {one: digest for digest, one in found.items()} for prompt_id, found in texts.items()}


def _draw(answers: Sequence[str], size: int, count: int, random: Random) -> list[tuple[str, ...]]:
    """Different sets of answers, each as probable as any other, without listing them all where they are many."""
    if comb(len(answers), size) <= 5 * MOST_PER_PROMPT:
        every = list(combinations(answers, size))
        return random.sample(every, min(count, len(every)))
    drawn: dict[frozenset[str], tuple[str, ...]] = {}
    while len(drawn) < count:
        one = random.sample(answers, size)
        drawn.setdefault(frozenset(one), tuple(one))
    return list(drawn.values())


def _sets(connection: Connection, prompts: Sequence[str], kind: str) -> set[frozenset[str]]:
    """The sets of answers that tasks of this kind show already."""
    task, item = schema.task, schema.task_item
    query = select(item.c.task_id, item.c.response_id).join(task)
    shown: dict[str, set[str]] = {}
    for task_id, response_id in connection.execute(query.where(task.c.prompt_id.in_(prompts), task.c.kind == kind)):
        shown.setdefault(task_id, set()).add(response_id)
    return {frozenset(one) for one in shown.values()}


# ---------------------------------------------------------------------------------------------------------- guidelines


def publish_guideline(connection: Connection, project: Project, lang: str, body: str, actor: str) -> str:
    """The next version in a language; earlier ones stay. Returns its id. The same text again is no new version."""
    table = schema.guideline
    check_lang(lang)
    if not 1 <= len(body) <= MAX_TEXT:
        raise Refused("invalid", f"a guideline has 1 to {MAX_TEXT:,} characters, and this one {len(body):,}")
    newest = latest_guideline(connection, project.id, lang)
    if newest is not None and newest.lang == lang and newest.sha256 == sha256(body):
        return str(newest.id)
    here = (table.c.project_id == project.id) & (table.c.lang == lang)
    version = (connection.execute(select(func.max(table.c.version)).where(here)).scalar_one() or 0) + 1
    made = new_id()
    event_id = log_event(connection, actor, "publish", "guideline", made, {"version": version, "lang": lang})
    row = {"id": made, "project_id": project.id, "version": version, "lang": lang, "body": body, "event_id": event_id}
    connection.execute(insert(table).values(**row, sha256=sha256(body), created_ms=ids.now_ms()))
    return made


def latest_guideline(connection: Connection, project_id: str, lang: str) -> Any | None:
    """The newest guideline in a language, else in any."""
    table = schema.guideline
    rows = connection.execute(select(table).where(table.c.project_id == project_id).order_by(table.c.event_id)).all()
    in_lang = [row for row in rows if row.lang == lang]
    return (in_lang or rows or [None])[-1]
