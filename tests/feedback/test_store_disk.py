"""A disk that is full, a file that may not be written or is damaged, and backups while people work."""

import os
import random
import resource
import shutil
import sqlite3
import stat
import tempfile
import threading
from pathlib import Path

import pytest
from feedback.store_work import any_answer, broken, set_up, submission, work
from sqlalchemy import event, func, select

from baro.errors import BackendError, ConfigError
from baro.feedback import assign, judge, schema
from baro.feedback.database import FILE, Store


@pytest.fixture
def folder(sqlite_template, tmp_path):
    shutil.copy(sqlite_template, tmp_path / FILE)
    return tmp_path


def counts(store):
    with store.read() as connection:
        assert broken(connection) == []
        return {
            name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for name, table in schema.metadata.tables.items()
        }


@pytest.mark.parametrize("how", ["no more pages", "no more bytes"])
def test_a_full_disk_stores_all_of_an_answer_or_nothing(folder, how, monkeypatch):
    store = Store.open(folder)
    made, raters = store.write(lambda c: set_up(c, prompts=60, raters=1, overlap=1))
    lease = store.write(lambda c: assign.claim(c, raters[0], made))
    before = counts(store)
    if how == "no more pages":
        limit = "PRAGMA max_page_count = 1"  # SQLite takes the size that the file has
        event.listen(store._writer, "connect", lambda connection, _: connection.execute(limit))
        store._writer.dispose()
    else:  # Python ignores SIGXFSZ, and so a write beyond the limit fails as on a full disk
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        size = max(one.stat().st_size for one in folder.iterdir())
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20_000, hard))
    given = submission(lease, "key-full", any_answer("pair", 2, random.Random(0)), comment="long " * 30_000)
    submit = lambda: store.write(lambda c: judge.submit(c, lease.assignment_id, raters[0].id, given))  # noqa: E731
    try:
        for _ in range(3):
            with pytest.raises(BackendError, match=r"cannot be used now: (database or disk is full|disk I/O)"):
                submit()
        assert counts(store) == before
    finally:
        if how == "no more bytes":
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    store.close()
    store = Store.open(folder)
    assert submit().new  # the disk has room again, and the same attempt goes through
    assert counts(store) == before | {"judgment": 1, "judged_pair": 1, "event": before["event"] + 1}
    store.check()
    store.close()


def test_a_store_that_may_not_be_written(forks, sqlite_template):
    """As another user, since root may write anything."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(sqlite_template, folder / FILE)
        (folder / FILE).chmod(0o444)
        folder.chmod(0o555)
        program = (
            "import os, sys\n"
            "from baro.errors import BackendError\n"
            "from baro.feedback.database import Store\n"
            "from baro.feedback.project import create_project\n"
            "if os.geteuid() == 0: os.setuid(65534)\n"
            "try: Store.open(sys.argv[1]).write(lambda c: create_project(c, 'name'))\n"
            "except BackendError as error: print(error)\n"
        )
        done = forks.start(program, name)
        assert done.wait() == 0, done.errors
        folder.chmod(0o755)
    assert "the database cannot be used now: " in done.output
    assert "readonly" in done.output or "unable to open" in done.output


def test_files_are_for_their_owner_only(tmp_path):
    store = Store.open(tmp_path / "new", create=True)
    backup = store.backup(tmp_path / "copy.db")
    modes = [stat.S_IMODE(one.stat().st_mode) for one in (tmp_path / "new", *(tmp_path / "new").iterdir(), backup)]
    store.close()
    assert modes == [0o700, *[0o600] * (len(modes) - 1)]


def test_a_file_that_is_none(tmp_path):
    (tmp_path / FILE).write_bytes(b"this is no database, but a text of some length\n" * 100)
    with pytest.raises(BackendError, match=r"is damaged \(file is not a database\); restore the last backup"):
        Store.open(tmp_path)


def test_a_damaged_file_is_named(folder):
    store = Store.open(folder)
    store.write(lambda c: set_up(c, prompts=200))
    store.check()
    store.close()
    path = folder / FILE
    content = bytearray(path.read_bytes())
    for page in range(20, len(content) // 4096 - 2):
        content[page * 4096 + 100 : page * 4096 + 3000] = os.urandom(2900)
    path.write_bytes(content)
    with pytest.raises(BackendError, match=r"the database is damaged .*; restore the last backup"):
        Store.open(folder).check()


@pytest.mark.parametrize("damage", [b"CREATE \x99ABLE member", b"CREATE TXBLE member"], ids=["no text", "a text"])
def test_damaged_tables_are_named_whatever_sqlite_finds_there(folder, damage):
    """SQLite quotes the first word that it cannot read, and Python cannot decode a sentence with such a byte."""
    Store.open(folder).close()
    path = folder / FILE
    content = path.read_bytes()
    assert b"CREATE TABLE member" in content
    path.write_bytes(content.replace(b"CREATE TABLE member", damage))
    with pytest.raises(BackendError, match=r"the database is damaged .*; restore the last backup"):
        Store.open(folder).check()


def test_a_lost_row_is_named(folder):
    Store.open(folder).close()
    with sqlite3.connect(folder / FILE) as connection:
        connection.execute("INSERT INTO member VALUES ('no project', 'no rater', 'rater')")
    connection.close()
    store = Store.open(folder)
    with pytest.raises(BackendError, match=r"a row of member refers to a row of (project|rater) that is not there"):
        store.check()
    store.close()


def test_a_file_that_was_taken_away(folder):
    """It is missed, and not made anew without its rows."""
    store = Store.open(folder)
    store.close()
    for one in folder.iterdir():
        one.unlink()
    with pytest.raises(BackendError, match="unable to open database file"):
        store.write(set_up)
    assert not list(folder.iterdir())
    store.close()


def test_backups_while_people_work(folder, tmp_path):
    store = Store.open(folder)
    made, raters = store.write(lambda c: set_up(c, prompts=150, raters=2, overlap=2))
    at_work = []

    def person(who):
        draw, turn = random.Random(who), 0
        while work(store, raters[who], made, draw, f"key-{who}-{turn:06d}") is not None:
            turn += 1
        at_work.append(who)

    threads = [threading.Thread(target=person, args=(who,)) for who in range(2)]
    for one in threads:
        one.start()
    seen = []
    for turn in range(4):
        copied = tmp_path / f"copy-{turn}"
        copied.mkdir()
        store.backup(copied / FILE)
        copy = Store.open(copied)
        copy.check()
        seen.append(counts(copy)["judgment"])
        copy.close()
    for one in threads:
        one.join()
    assert sorted(at_work) == [0, 1]
    assert seen == sorted(seen)
    assert seen[0] < counts(store)["judgment"] == 300
    with pytest.raises(ConfigError, match="a backup never overwrites a file"):
        store.backup(tmp_path / "copy-0" / FILE)
    with pytest.raises(BackendError, match=r"the backup was not made: .*No such file or directory"):
        store.backup(tmp_path / "nowhere" / "copy.db")
    assert not list(tmp_path.glob("**/*.partial"))
    store.close()


def test_reads_see_one_state(store):
    """Of the whole database, whatever is written meanwhile."""
    made, raters = store.write(lambda c: set_up(c, prompts=3))
    with store.read() as connection:
        first = connection.execute(select(func.count()).select_from(schema.assignment)).scalar_one()
        store.write(lambda c: assign.claim(c, raters[0], made))
        assert connection.execute(select(func.count()).select_from(schema.assignment)).scalar_one() == first == 0


def test_addresses_that_are_none(tmp_path):
    for address, sentence in (
        ("mysql://somebody@somewhere/else", "mysql://...: give a folder, or a URL that begins postgresql://"),
        ("postgresql://host:port/name", "the store's address is no URL"),
        ("postgresql://nobody@/nothing?host=/nowhere", "the database cannot be used now: "),
    ):
        with pytest.raises((ConfigError, BackendError)) as refused:
            Store.open(address)
        assert sentence in str(refused.value)
    (tmp_path / "file").write_text("")
    with pytest.raises(BackendError, match="no store can be made here"):
        Store.open(tmp_path / "file" / "store", create=True)


def test_a_password_is_never_said():
    with pytest.raises(BackendError) as refused:
        Store.open("postgresql://somebody:hunter2@/nothing?host=/nowhere")
    assert "hunter2" not in str(refused.value)
