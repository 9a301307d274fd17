"""New stores and old ones: the tables are what schema.py says, and no upgrade touches a row.

A revision is frozen when it is released, with a small database of its time in stores/REVISION.json. The next revision
needs its file there, written by `write_rows` below, and REVISIONS in migrate.py: every test here then covers it.
"""

import hashlib
import json
import sqlite3
import time
from pathlib import Path

import pytest
import sqlalchemy
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from feedback.store_work import any_answer, set_up, submission, task_of
from sqlalchemy import inspect, select, text

from baro.errors import ConfigError
from baro.feedback import ask, assign, criteria, database, gold, judge, migrate, people, project, schema, withdrawals
from baro.feedback.database import FILE, Store
from baro.feedback.redaction import redact
from baro.feedback.triggers import trigger_statements

STORES = Path(__file__).with_name("stores")
THROWAWAY = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "9999", "{head}", None, None


def upgrade():
    with op.batch_alter_table("task") as task:
        task.add_column(sa.Column("colour", sa.Text(), nullable=False, server_default="red"))
        task.create_check_constraint("colour", "colour <> ''")
    with op.batch_alter_table("project", recreate="auto") as project:
        project.alter_column("name", type_=sa.String(200), existing_nullable=False)
"""


def empty_at(address, revision, *, more=()):
    """A store whose tables are at a revision, without a row."""
    store = Store._postgres(address, 2) if "://" in address else Store._sqlite(Path(address), create=True)
    store.rebuild(lambda connection: command.upgrade(migrate.alembic_config(connection, more), revision))
    return store


@pytest.fixture
def nowhere(database, request, tmp_path):
    """Where a store may be made."""
    return str(tmp_path) if database == "sqlite" else request.getfixturevalue("postgres_url")


def reflected(connection):
    found = sqlalchemy.MetaData()
    found.reflect(connection)
    return {name: table for name, table in found.tables.items() if name != migrate.VERSION_TABLE}


def read_rows(connection, columns=None):
    """Every row of every table; ``columns``: only these, {table: names}."""
    rows = {}
    for name, table in reflected(connection).items():
        wanted = [table.c[one] for one in (columns or {}).get(name, table.c.keys())]
        rows[name] = [dict(row) for row in connection.execute(select(*wanted)).mappings()]
    return rows


def write_rows(connection, rows):
    """Fill empty tables, those that others refer to first."""
    metadata = sqlalchemy.MetaData()
    metadata.reflect(connection)
    for table in metadata.sorted_tables:
        if rows.get(table.name):
            for row in sorted(rows[table.name], key=lambda row: row.get("created_ms", 0)):
                nulls = {key: sqlalchemy.null() for key, value in row.items() if value is None}  # not JSON's null
                connection.execute(table.insert().values(**row | nulls))


def checksums(rows):
    """Of each table, whatever the order of its rows."""
    lines = {name: sorted(json.dumps(row, sort_keys=True) for row in table) for name, table in rows.items()}
    return {name: (len(one), hashlib.sha256("\n".join(one).encode()).hexdigest()) for name, one in lines.items()}


def populate(store):
    """A row in every table, so that a later revision that forgets one is found out."""

    def everything(connection):
        made = {}
        for kind in schema.KINDS:
            answers = 4 if kind == "rank" else 2
            made[kind], raters = set_up(connection, kind, kind=kind, prompts=2, answers=answers, raters=2)
            project.publish_guideline(connection, made[kind], "ko", f"# {kind} 지침", "test")
            scale = {"en": {"name": "Clear", "anchors": ["no"] * 5}}
            criteria.set_criteria(
                connection, made[kind], [{"key": "clear", "labels": scale, "low": 1, "high": 5}], "test"
            )
            _judge_all(connection, made[kind], raters)
        settler = people.Rater(people.add_rater(connection, made["pair"].id, role="adjudicator"), "", "ko")
        people.redeem(connection, people.invite(connection, settler.id))
        task_id = connection.execute(select(schema.task.c.id).where(schema.task.c.kind == "pair")).scalars().first()
        lease = assign.lease_to_adjudicate(connection, task_id, settler, made["pair"])
        choice = {"kind": "pair", "choice": {"outcome": "tie"}}
        assign.save_draft(connection, lease.assignment_id, settler.id, lease.secret, 0, choice)
        given = submission(lease, "settled-1", choice)
        judge.adjudicate(connection, lease.assignment_id, settler.id, given, "ambiguous", "both are fine")
        ask.select(connection, made["pair"], "pair", 1, policy="random")
        gold.add_gold(connection, made["pair"], task_id, {"kind": "pair", "choice": {"outcome": "tie"}}, "test")
        row = {"id": "E", "project_id": made["pair"].id, "layout": "pairs", "settings": {"a": [1]}, "watermark": 3}
        row |= {"rows": 2, "dropped": {"tie": 1}, "sha256": "0", "created_ms": 1, "created_by": "test"}
        connection.execute(schema.export.insert().values(**row))

    store.write(everything)
    rank = store.write(lambda connection: project.get_project(connection, "rank"))
    with store.read() as connection:
        prompts = list(
            connection.execute(select(schema.prompt.c.id).where(schema.prompt.c.project_id == rank.id)).scalars()
        )
    store.write(lambda connection: withdrawals.withdraw_prompts(connection, rank, prompts[:1], "test"))
    redact(store, prompts[1], "somebody asked for it", "test")


def _judge_all(connection, made, raters):
    import random

    draw = random.Random(0)
    for rater in raters:
        while (lease := assign.claim(connection, rater, made)) is not None:
            task, items = task_of(connection, lease.assignment_id)
            given = submission(lease, f"key-{lease.assignment_id}", any_answer(task.kind, items, draw))
            judge.submit(connection, lease.assignment_id, rater.id, given)


def test_the_revisions_are_those_of_the_scripts():
    scripts = ScriptDirectory.from_config(migrate.alembic_config(None))
    assert [one.revision for one in scripts.walk_revisions()][::-1] == migrate.REVISIONS
    assert scripts.get_heads() == [migrate.REVISIONS[-1]]


def triggers(connection):
    """Their names and words."""
    if connection.dialect.name == "sqlite":
        found = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"))
    else:
        found = connection.execute(text("SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal"))
    return {row[0]: " ".join(row[1].split()) for row in found}


def constraints(connection):
    """What Alembic does not compare: checks, and the conditions of partial indexes."""
    found = {}
    for name in reflected(connection):
        inspector = inspect(connection)
        found[name] = {(one["name"], one["sqltext"]) for one in inspector.get_check_constraints(name)}
    if connection.dialect.name == "sqlite":
        rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"))
    else:
        rows = connection.execute(text("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"))
    indexes = {row[0]: " ".join(row[1].split()) for row in rows if migrate.VERSION_TABLE not in row[0]}
    return found, indexes


def test_migrated_tables_are_those_of_the_schema(nowhere, database, tmp_path, request):
    store = Store.open(nowhere, create=True)
    with store.read() as connection:
        options = {"compare_type": True, "compare_server_default": True, "version_table": migrate.VERSION_TABLE}
        # Alembic cannot compare an index that goes down; `constraints` does, word for word
        options["include_object"] = lambda _, name, *__: name != "ix_task_queue"
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, schema.metadata) == []
        migrated = (triggers(connection), *constraints(connection))
    assert migrated[0]
    store.close()
    if database == "sqlite":
        (tmp_path / "direct").mkdir()
        direct = Store._sqlite(tmp_path / "direct", create=True)
    else:
        cluster = request.getfixturevalue("postgres")
        cluster.run("CREATE DATABASE baro_direct")
        request.addfinalizer(lambda: cluster.run("DROP DATABASE baro_direct WITH (FORCE)"))
        direct = Store._postgres(cluster.url("baro_direct"), 2)

    def work(connection):
        schema.metadata.create_all(connection)
        for statement in trigger_statements("postgresql" if direct.is_postgres else "sqlite"):
            connection.execute(text(statement))
        assert migrated == (triggers(connection), *constraints(connection))

    direct.write(work)
    direct.close()


def test_a_store_is_made_once_and_keeps_its_secret(nowhere):
    seeds = []
    for _ in range(2):
        store = Store.open(nowhere, create=True)
        with store.read() as connection:
            seeds.append(connection.execute(select(schema.meta.c.value)).scalar_one())
        store.close()
    assert seeds[0] == seeds[1]
    assert not list(Path(nowhere).glob("*-0001-*.db"))


MAKE = """
import os
from baro.feedback.database import Store
print("ready", flush=True)
while not os.path.exists(sys.argv[2]):
    pass
Store.open(sys.argv[1], create=True).close()
"""


def test_two_make_a_store_at_once(forks, nowhere, tmp_path):
    children = [forks.start(MAKE, nowhere, tmp_path / "go") for _ in range(2)]
    while not all(one.output for one in children):
        time.sleep(0.005)
    (tmp_path / "go").touch()
    assert [one.wait() for one in children] == [0, 0], [one.errors for one in children]


def test_wal_mode_is_asked_for_again_while_another_gives_it(monkeypatch):
    class Refuses:
        asked = 0

        def execute(self, statement):
            self.asked += 1
            if self.asked < 4:
                error = sqlite3.OperationalError("database is locked")
                error.sqlite_errorcode = code
                raise error

    monkeypatch.setattr(database.time, "sleep", lambda _: None)
    code, busy = sqlite3.SQLITE_BUSY, Refuses()
    database._use_wal(busy)
    assert busy.asked == 4
    code, broken = sqlite3.SQLITE_IOERR, Refuses()
    with pytest.raises(sqlite3.OperationalError):
        database._use_wal(broken)
    assert broken.asked == 1


def test_no_store(nowhere):
    with pytest.raises(ConfigError, match="holds no feedback yet; `baro feedback create NAME` starts"):
        Store.open(nowhere)


def test_a_newer_store_is_refused(address):
    store = Store.open(address)
    store.write(lambda connection: connection.execute(text(f"UPDATE {migrate.VERSION_TABLE} SET version_num = '0400'")))
    store.close()
    with pytest.raises(
        ConfigError, match=r"newer Baro .its tables are at revision '0400', this Baro's at '0001'.; upgrade"
    ):
        Store.open(address)


@pytest.mark.parametrize("revision", migrate.REVISIONS)
def test_rows_survive_the_upgrade(revision, nowhere):
    old = empty_at(nowhere, revision)
    rows = json.loads((STORES / f"{revision}.json").read_text(encoding="utf-8"))
    old.write(lambda connection: write_rows(connection, rows))
    old.close()
    store = Store.open(nowhere)
    with store.read() as connection:
        columns = {name: list(table[0]) for name, table in rows.items() if table}
        assert checksums(read_rows(connection, columns)) == checksums(rows)
        assert all(rows.values()), "every table of an old store has a row"
    store.check()
    store.close()


def test_an_upgrade_backs_up_and_keeps_every_row(nowhere, database, monkeypatch, tmp_path_factory):
    """With a revision that copies tables which others refer to."""
    store = Store.open(nowhere, create=True)
    populate(store)
    with store.read() as connection:
        before = read_rows(connection)
        columns = {name: table.c.keys() for name, table in reflected(connection).items()}
        old_triggers = triggers(connection)
    assert all(before.values())
    folder = tmp_path_factory.mktemp("revisions")
    (folder / "9999_throwaway.py").write_text(THROWAWAY.format(head=migrate.REVISIONS[-1]))
    monkeypatch.setattr(migrate, "REVISIONS", [*migrate.REVISIONS, "9999"])
    backup = migrate.bring_up_to_date(store, create=False, more=[folder])
    with store.read() as connection:
        assert migrate.version(connection) == "9999"
        assert checksums(read_rows(connection, columns)) == checksums(before)
        assert set(connection.execute(text("SELECT colour FROM task")).scalars()) == {"red"}
        assert triggers(connection) == old_triggers
    assert migrate.bring_up_to_date(store, create=False, more=[folder]) is None
    store.check()
    store.close()
    monkeypatch.undo()
    if database == "sqlite":
        assert backup.parent == Path(nowhere)
        assert backup.stat().st_mode & 0o777 == 0o600
        (Path(nowhere) / "old").mkdir()
        backup.rename(Path(nowhere) / "old" / FILE)
        old = Store.open(Path(nowhere) / "old")
        with old.read() as connection:
            assert checksums(read_rows(connection)) == checksums(before)
        old.close()
    else:
        assert backup is None


def test_a_failing_upgrade_changes_nothing(nowhere, monkeypatch, tmp_path_factory):
    store = Store.open(nowhere, create=True)
    populate(store)
    with store.read() as connection:
        before, words = read_rows(connection), constraints(connection)
    folder = tmp_path_factory.mktemp("revisions")
    failing = THROWAWAY.format(head=migrate.REVISIONS[-1]) + "    raise OSError('in the middle')\n"
    (folder / "9999_throwaway.py").write_text(failing)
    monkeypatch.setattr(migrate, "REVISIONS", [*migrate.REVISIONS, "9999"])
    with pytest.raises(OSError, match="in the middle"):
        migrate.bring_up_to_date(store, create=False, more=[folder])
    with store.read() as connection:
        assert migrate.version(connection) == "0001"
        assert checksums(read_rows(connection)) == checksums(before)
        assert constraints(connection) == words
    store.close()
