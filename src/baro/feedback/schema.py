"""The tables of people's feedback: facts, which are only ever added, and the little that changes while people work.

Facts      prompt response guideline judgment judged_* adjudication withdrawal redaction draw event: triggers refuse
           UPDATE and DELETE; only while redaction.py removes a text may the columns of REDACTED change
Changing   project task rater invite session assignment draft export

A table of judgments names its responses by (task_id, response_id), a foreign key into the task's own items, so that the
database itself refuses a verdict about another task's answer. Ids are ULIDs; times are UTC milliseconds of the
server's clock (``*_ms``); hashes of content and tokens are SHA-256 in hex.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    text,
)  # fmt: skip

from baro.feedback.columns import metadata, ms, one_of, partial, ref
from baro.feedback.schema_judged import judged_edit as judged_edit
from baro.feedback.schema_judged import judged_pair as judged_pair
from baro.feedback.schema_judged import judged_rank as judged_rank
from baro.feedback.schema_judged import judged_safety as judged_safety
from baro.feedback.schema_judged import judged_score as judged_score
from baro.feedback.schema_judged import judged_thumb as judged_thumb

KINDS = ("pair", "rank", "thumb", "safety", "criteria", "edit")
REASONS = ("ambiguous", "guideline_gap", "rater_error", "subjective")  # why raters disagreed
ROLES = ("rater", "adjudicator", "manager")
GIVEN_UP = ("expired", "released")  # states of an assignment after which its rater may get the task again
# Of partial indexes; a query repeats them word for word, since no planner sees through a bound value:
QUEUED, LEASED, KEPT = "open AND NOT withdrawn AND places > 0", "state = 'leased'", f"state NOT IN {GIVEN_UP}"
APPEND_ONLY = (
    "prompt", "response", "guideline", "judgment", "judged_pair", "judged_rank", "judged_thumb", "judged_safety",
    "judged_score", "judged_edit", "adjudication", "withdrawal", "redaction", "draw", "event",
)  # fmt: skip
REDACTED = {  # the columns that hold what people and models wrote
    "prompt": ("messages", "extra"), "response": ("text",), "judgment": ("comment",), "judged_thumb": ("reasons",),
    "judged_edit": ("critique", "spans"), "adjudication": ("note",), "event": ("details",),
}  # fmt: skip
STATES = ("open", "paused", "ended")  # of a project

meta = Table("meta", metadata, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))

project = Table(
    "project",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("settings", JSON, nullable=False),  # settings.ProjectSettings
    Column("state", Text, nullable=False, default="open"),  # paused: nothing is handed out; ended: for good
    ms("created_ms"),
    one_of("state", STATES),
)

guideline = Table(
    "guideline",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", ref("project"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("lang", Text, nullable=False),
    Column("body", Text, nullable=False),  # Markdown
    Column("sha256", Text, nullable=False),
    ms("created_ms"),
    Column("event_id", Integer, ForeignKey("event.id"), nullable=False, unique=True),  # its publication
    UniqueConstraint("project_id", "version", "lang"),
)

criterion = Table(
    "criterion",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", ref("project"), nullable=False),
    Column("key", Text, nullable=False),
    Column("labels", JSON, nullable=False),  # {"en": {"name": ..., "anchors": [one for each score]}, "ko": ...}
    Column("low", Integer, nullable=False),
    Column("high", Integer, nullable=False),
    Column("weight", Float, nullable=False),
    Column("position", Integer, nullable=False),
    UniqueConstraint("project_id", "key"),
    CheckConstraint("low < high", name="scale"),
)

prompt = Table(
    "prompt",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", ref("project"), nullable=False),
    Column("messages", JSON, nullable=False),  # [{"role": ..., "content": ...}]
    Column("sha256", Text, nullable=False),  # of the messages
    Column("source", Text, nullable=False),
    Column("extra", JSON, nullable=False),  # the row's other columns
    ms("created_ms"),
    UniqueConstraint("project_id", "sha256"),
)

generation = Table(  # who wrote an answer; nothing of this ever reaches a rater
    "generation",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", ref("project"), nullable=False),
    Column("model", Text, nullable=False),
    Column("settings", JSON, nullable=False),
    ms("created_ms"),
)

response = Table(
    "response",
    metadata,
    Column("id", Text, primary_key=True),
    Column("prompt_id", ref("prompt"), nullable=False),
    Column("generation_id", ref("generation"), nullable=True),
    Column("author", Text, nullable=False),
    Column("rater_id", ref("rater"), nullable=True),  # the author of an edit
    Column("parent_id", ref("response"), nullable=True),  # what was edited
    Column("sample_index", Integer, nullable=True),
    Column("text", Text, nullable=False),
    Column("finished", Boolean, nullable=False),
    Column("sha256", Text, nullable=False),
    ms("created_ms"),
    UniqueConstraint("prompt_id", "generation_id", "sample_index"),
    one_of("author", ("model", "human")),
    Index(None, "prompt_id"),
    partial("ix_response_rater_id", "rater_id", where="rater_id IS NOT NULL"),
)

task = Table(
    "task",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", ref("project"), nullable=False),
    Column("prompt_id", ref("prompt"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("overlap", Integer, nullable=False),  # judgments wanted
    Column("first_overlap", Integer, nullable=False),  # of these, wanted whatever the first ones say
    Column("places", Integer, nullable=False),  # overlap less the leased and submitted assignments
    Column("priority", Integer, nullable=False),
    Column("order_key", Text, nullable=False),  # a fixed random order among tasks of one priority
    Column("open", Boolean, nullable=False),
    Column("withdrawn", Boolean, nullable=False, default=False),  # what the newest facts of `withdrawal` say
    Column("is_gold", Boolean, nullable=False),
    Column("gold_answer", JSON(none_as_null=True), nullable=True),  # {}: withdrawn
    Column("repeat_of", ref("task"), nullable=True),  # shown to one rater a second time, sides swapped
    Column("reserved_for", ref("rater"), nullable=True),
    Column("again_of", ref("task"), nullable=True),  # asked once more, under a newer guideline
    Column("policy", Text, nullable=False),  # how it was selected: random, margin, disagreement, imported
    Column("score", Float, nullable=True),  # the selection's score
    Column("propensity", Float, nullable=False),  # the probability with which it was selected
    ms("created_ms"),
    one_of("kind", KINDS),
    CheckConstraint("overlap >= 1", name="overlap"),
    CheckConstraint("first_overlap BETWEEN 1 AND overlap", name="first_overlap"),
    CheckConstraint("places BETWEEN 0 AND overlap", name="places"),
    CheckConstraint("is_gold = (gold_answer IS NOT NULL)", name="gold"),
    partial("ix_task_queue", "project_id", text("priority DESC"), "order_key", where=QUEUED),
    Index(None, "prompt_id"),
    Index(None, "reserved_for"),
    partial("ix_task_again_of", "again_of", where="again_of IS NOT NULL"),
)  # fmt: skip

task_item = Table(
    "task_item",
    metadata,
    Column("task_id", ref("task"), primary_key=True),
    Column("slot", Integer, primary_key=True),
    Column("response_id", ref("response"), nullable=False),
    UniqueConstraint("task_id", "response_id"),
    CheckConstraint("slot BETWEEN 0 AND 8", name="slot"),
    Index(None, "response_id"),
)

draw = Table(  # of each round of selecting, what it drew: a task that it made, or one that was there
    "draw",
    metadata,
    Column("event_id", Integer, ForeignKey("event.id"), primary_key=True),
    Column("task_id", ref("task"), primary_key=True),
    Column("policy", Text, nullable=False),
    Column("score", Float, nullable=True),
    Column("propensity", Float, nullable=False),
    one_of("policy", ("random", "margin", "disagreement")),
    CheckConstraint("propensity > 0 AND propensity <= 1", name="propensity"),
    Index(None, "task_id"),
)

rater = Table(
    "rater",
    metadata,
    Column("id", Text, primary_key=True),
    Column("pseudonym", Text, nullable=False, unique=True),
    Column("lang", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("manages_all", Boolean, nullable=False),  # a manager of every project, of those to come too
    ms("created_ms"),
)

member = Table(  # who works on what, and as what
    "member",
    metadata,
    Column("project_id", ref("project"), primary_key=True),
    Column("rater_id", ref("rater"), primary_key=True),
    Column("role", Text, nullable=False),
    one_of("role", ROLES),
)

invite = Table(
    "invite",
    metadata,
    Column("token_sha256", Text, primary_key=True),
    Column("rater_id", ref("rater"), nullable=False),
    ms("created_ms"),
    ms("expires_ms"),
    ms("used_ms", optional=True),
)

session = Table(
    "session",
    metadata,
    Column("token_sha256", Text, primary_key=True),
    Column("rater_id", ref("rater"), nullable=False),
    Column("kind", Text, nullable=False),
    ms("created_ms"),
    ms("expires_ms"),
    ms("revoked_ms", optional=True),
    one_of("kind", ("browser", "api")),
    Index(None, "rater_id"),
)

# ---------------------------------------------------------------------------------------------------------- judgments

assignment = Table(
    "assignment",
    metadata,
    Column("id", Text, primary_key=True),
    Column("task_id", ref("task"), nullable=False),
    Column("rater_id", ref("rater"), nullable=False),
    Column("purpose", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("display_order", JSON, nullable=False),  # display_order[position on the screen] = slot
    Column("lease_sha256", Text, nullable=False),
    Column("guideline_id", ref("guideline"), nullable=True),  # what was on screen when it was handed out
    ms("leased_ms"),
    ms("expires_ms"),
    ms("closed_ms", optional=True),
    Column("skip_reason", Text, nullable=True),
    one_of("purpose", ("judge", "adjudicate")),
    # extra: submitted after the lease had expired and every place was taken; counted as a vote, holds no place
    one_of("state", ("leased", "submitted", "extra", "skipped", "expired", "released")),
    UniqueConstraint("id", "task_id", "rater_id"),
    partial("uq_assignment_one_each", "task_id", "rater_id", unique=True, where=KEPT),
    partial("ix_assignment_leased", "expires_ms", where=LEASED),
    Index(None, "task_id"),
    Index(None, "rater_id", "state"),
)  # fmt: skip

judgment = Table(
    "judgment",
    metadata,
    Column("id", Text, primary_key=True),
    Column("assignment_id", Text, nullable=False),
    Column("task_id", Text, nullable=False),
    Column("rater_id", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("action", Text, nullable=False),
    Column("idempotency_key", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("guideline_id", ref("guideline"), nullable=True),
    Column("ui_version", Text, nullable=False),
    ms("opened_ms"),
    ms("submitted_ms"),
    Column("active_ms", Integer, nullable=True),  # as the browser measured it: with a hand on the page
    Column("visible_ms", Integer, nullable=True),  # with the page in sight
    Column("changes", Integer, nullable=False),
    Column("confidence", Integer, nullable=True),
    Column("comment", Text, nullable=False),
    Column("flags", JSON, nullable=False),  # [{"response_id": ..., "flag": "harmful" | "personal" | "broken"}]
    Column("event_id", Integer, ForeignKey("event.id"), nullable=False, unique=True),
    ForeignKeyConstraint(
        ["assignment_id", "task_id", "rater_id"], ["assignment.id", "assignment.task_id", "assignment.rater_id"]
    ),
    UniqueConstraint("assignment_id", "revision"),
    UniqueConstraint("id", "task_id"),
    one_of("action", ("submit", "revise", "retract")),
    one_of("kind", KINDS),
    CheckConstraint("revision >= 1 AND (action = 'submit') = (revision = 1)", name="revision"),
    CheckConstraint("confidence BETWEEN 1 AND 5", name="confidence"),
    Index(None, "task_id"),
    Index(None, "rater_id"),
)


adjudication = Table(
    "adjudication",
    metadata,
    Column("judgment_id", ref("judgment"), primary_key=True),  # the adjudicator's own judgment
    Column("task_id", ref("task"), nullable=False),
    Column("reason", Text, nullable=False),
    Column("note", Text, nullable=False),
    one_of("reason", REASONS),
    Index(None, "task_id"),
)

withdrawal = Table(  # what counts no more from this event on, or again: a task, or a prompt with all its tasks
    "withdrawal",
    metadata,
    Column("id", Text, primary_key=True),
    Column("event_id", Integer, ForeignKey("event.id"), nullable=False),
    Column("project_id", ref("project"), nullable=False),
    Column("task_id", ref("task"), nullable=True),
    Column("prompt_id", ref("prompt"), nullable=True),
    Column("withdrawn", Boolean, nullable=False),
    CheckConstraint("(task_id IS NULL) <> (prompt_id IS NULL)", name="of"),
    Index(None, "project_id", "event_id"),
)

redaction = Table(  # whose text was overwritten, for ever
    "redaction",
    metadata,
    Column("event_id", Integer, ForeignKey("event.id"), primary_key=True),
    Column("project_id", ref("project"), nullable=False),
    Column("entity", Text, nullable=False),
    Column("entity_id", Text, nullable=False),
    Column("why", Text, nullable=False),
    one_of("entity", ("prompt", "response", "judgment", "skip")),
    Index(None, "project_id"),
)

draft = Table(  # what somebody is writing; If-Match by version
    "draft",
    metadata,
    Column("assignment_id", ref("assignment"), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("answer", JSON, nullable=False),
    ms("updated_ms"),
)

event = Table(
    "event",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),  # ascends in the order of commits: a watermark
    ms("at_ms"),
    Column("actor", Text, nullable=False),  # a rater's id, or "command line"
    Column("action", Text, nullable=False),
    Column("entity", Text, nullable=False),
    Column("entity_id", Text, nullable=False),
    Column("details", JSON, nullable=False),
    sqlite_autoincrement=True,
)

export = Table(
    "export",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", ref("project"), nullable=False),
    Column("layout", Text, nullable=False),
    Column("settings", JSON, nullable=False),
    Column("watermark", Integer, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("dropped", JSON, nullable=False),  # rows left out, by reason
    Column("sha256", Text, nullable=False),
    ms("created_ms"),
    Column("created_by", Text, nullable=False),
)
