"""The store of people's feedback: one SQLite file, or a PostgreSQL database by URL.

SQLite runs in WAL mode with synchronous=FULL, so that what was committed survives a power cut; every transaction that
writes begins with BEGIN IMMEDIATE, since one that reads first and then writes fails under load. PostgreSQL runs in READ
COMMITTED with row locks; deadlocks and lost races are tried again. Texts that only one of them could hold are refused.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy
from sqlalchemy import Connection, Engine, event, insert, select, text, update
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError, StatementError
from sqlalchemy.pool import QueuePool

from baro.errors import BackendError, BaroError, ConfigError
from baro.feedback import ids, schema
from baro.feedback.refusals import Refused

Result = TypeVar("Result")
FILE = "feedback.db"  # inside a store's folder
BUSY_MS = 20_000  # how long a writer waits for another
POOL = 8  # connections of one process to PostgreSQL, which takes 100 in all unless told otherwise
RETRIES = 5  # on PostgreSQL: serialization failures, deadlocks, and two who were first
_NOT_UNIQUE = "23505"
_TRY_AGAIN = ("40001", "40P01", _NOT_UNIQUE)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
COMMAND_LINE = "command line"  # who acts where nobody is signed in
_EVENT_LOCK = 0x6261726F  # PostgreSQL: one transaction at a time numbers its events, so ids ascend as they commit


class Store:
    """A database of feedback. ``read()`` for looking, ``write(function)`` for one transaction."""

    def __init__(self, reader: Engine, writer: Engine, where: str, file: Path | None = None):
        self.where, self.file = where, file
        self.is_postgres = writer.dialect.name == "postgresql"
        self._reader, self._writer = reader, writer
        self._turn = threading.Lock()  # writers of one process queue here, and not in SQLite's polling

    @classmethod
    def open(cls, where: str | Path, *, create: bool = False, pool: int | None = None) -> Store:
        """A folder (its file is feedback.db) or ``postgresql://...``; ConfigError where there is none.

        pool: connections to PostgreSQL, 8 unless given. Who needs one more waits for it, for BUSY_MS at most.
        """
        from baro.feedback.migrate import bring_up_to_date

        if pool is not None and "://" not in str(where):
            raise ConfigError(f"{where}: pool is for PostgreSQL; a store in a folder has no such limit, leave it out")
        on_server = "://" in str(where)
        store = cls._postgres(str(where), pool or POOL) if on_server else cls._sqlite(Path(where), create=create)
        try:
            bring_up_to_date(store, create=create)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def _sqlite(cls, folder: Path, *, create: bool) -> Store:
        path = folder / FILE
        if not path.exists() and not create:
            raise ConfigError(f"{folder}: holds no feedback yet; `baro feedback create NAME` starts a project there")
        if create:
            try:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            except OSError as error:
                raise BackendError(f"{folder}: no store can be made here: {error.strerror}") from error
        return cls(_sqlite_engine(path, "BEGIN"), _sqlite_engine(path, "BEGIN IMMEDIATE"), str(folder), path)

    @classmethod
    def _postgres(cls, url: str, pool: int) -> Store:
        try:
            parsed = sqlalchemy.make_url(url)
        except (sqlalchemy.exc.ArgumentError, ValueError):
            raise ConfigError("the store's address is no URL; it goes postgresql://user@host/database") from None
        if parsed.get_backend_name() not in ("postgresql", "postgres"):
            raise ConfigError(f"{parsed.get_backend_name()}://...: give a folder, or a URL that begins postgresql://")
        try:
            engine = _postgres_engine(parsed.set(drivername="postgresql+psycopg"), pool)
        except ModuleNotFoundError as error:
            raise ConfigError("PostgreSQL needs psycopg: pip install 'baro[feedback,postgres]'") from error
        return cls(engine, engine, parsed.render_as_string(hide_password=True))

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only looks; it sees one state of the whole database."""
        with self._said(), self._reader.connect() as connection:
            if self.is_postgres:
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            yield connection

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """Do ``work`` in one transaction and return what it returns, once that is on the disk.

        On PostgreSQL the work is done again after a deadlock or a lost race, so it must have no other effects.
        """
        for attempt in range(RETRIES + 1):
            try:
                with self._said(), self._one_at_a_time(), self._writer.begin() as connection:
                    return work(connection)
            except DBAPIError as error:
                state = getattr(error.orig, "sqlstate", None)
                if state not in _TRY_AGAIN or (attempt == RETRIES and state == _NOT_UNIQUE):
                    raise
                if attempt == RETRIES:
                    raise BackendError(f"{self.where}: too many want to write at once; send it again") from error
                time.sleep(0.01 * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def rebuild(self, work: Callable[[Connection], None]) -> None:
        """Like ``write``, for changes to the tables, which SQLite makes by copying; references are checked last."""
        if self.file is None:
            return self.write(work)
        engine = _sqlite_engine(self.file, "BEGIN IMMEDIATE", foreign_keys=False)
        try:
            with self._said(), engine.begin() as connection:
                work(connection)
                broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
                assert not broken, f"the new tables break references: {broken[:3]}"
        finally:
            engine.dispose()

    def check(self) -> None:
        """Look the whole file over; BackendError if SQLite finds it damaged."""
        if self.is_postgres:
            return
        with self.read() as connection:
            found = [row[0] for row in connection.exec_driver_sql("PRAGMA integrity_check(3)") if row[0] != "ok"]
            lost = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        found += [f"a row of {row[0]} refers to a row of {row[2]} that is not there" for row in lost[:3]]
        if found:
            raise BackendError(f"{self.where}: the database is damaged ({'; '.join(found)}); restore the last backup")

    def forget(self) -> None:
        """Let nothing of what was overwritten stay in SQLite's log; where somebody reads just now, the next time."""
        if self.file is None:
            return
        with self._said(), self._one_at_a_time():
            connection = self._reader.raw_connection()  # a checkpoint is no part of a transaction
        try:
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()

    def backup(self, path: Path) -> Path:
        """A consistent copy while people go on working. SQLite only: PostgreSQL has pg_dump."""
        if self.file is None:
            raise ConfigError("a PostgreSQL store is saved with pg_dump; `baro feedback backup` copies an SQLite store")
        if path.exists():
            raise ConfigError(f"{path}: exists already; a backup never overwrites a file")
        partial = path.with_name(f"{path.name}.partial")
        try:
            partial.unlink(missing_ok=True)
            descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            try:
                self._copy_to(partial)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            partial.rename(path)
        except (OSError, sqlite3.Error) as error:
            partial.unlink(missing_ok=True)
            raise BackendError(f"{path}: the backup was not made: {error}") from error
        return path

    def _copy_to(self, path: Path) -> None:
        with self._said():
            connection = self._reader.raw_connection()
        try:
            connection.cursor().execute("VACUUM INTO ?", (str(path),))
        finally:
            connection.close()

    def close(self) -> None:
        """Let go of every connection."""
        self._reader.dispose()
        self._writer.dispose()

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        if self.is_postgres:
            yield
            return
        with self._turn:
            yield

    @contextmanager
    def _said(self) -> Iterator[None]:
        """What the disk or the server does to us, in a sentence."""
        try:
            yield
        except StatementError as error:
            said = _sentence(self.where, error)
            if said is None:
                raise
            raise said from error
        except UnicodeDecodeError as error:  # sqlite3 quotes what it finds in the file, and fails to
            if self.file is None:
                raise
            raise BackendError(
                f"{self.where}: the database is damaged (its tables are described by no text); restore the last backup"
            ) from error
        except sqlalchemy.exc.TimeoutError as error:
            raise BackendError(f"{self.where}: too many want to use the database at once; try again") from error


def _sentence(where: str, error: StatementError) -> BaroError | None:
    """What to say instead of an error of the database; None for those that are our own mistakes, or tried again."""
    if isinstance(error.orig, BaroError):  # a parameter that was refused while it was made ready
        return error.orig
    ours = not isinstance(error, DBAPIError) or isinstance(error, (IntegrityError, ProgrammingError))
    if ours or getattr(error.orig, "sqlstate", None) in _TRY_AGAIN:
        return None
    what = (str(error.orig).strip() or type(error.orig).__name__).splitlines()[0]
    if isinstance(error, DataError):
        return Refused("invalid", f"the database cannot hold this: {what}")
    if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
        return BackendError(f"{where}: the database is damaged ({what}); restore the last backup")
    return BackendError(
        f"{where}: the database cannot be used now: {what}; what was not acknowledged has to be sent again"
    )


# -------------------------------------------------------------------------------------------------------------- engines


def _sqlite_engine(path: Path, begin: str, *, foreign_keys: bool = True) -> Engine:
    def connect() -> sqlite3.Connection:
        # mode=rw: a file that was taken away is an error, and not a new empty store
        address = f"{path.absolute().as_uri()}?mode=rw"
        return sqlite3.connect(address, uri=True, timeout=BUSY_MS / 1000, check_same_thread=False)

    engine = sqlalchemy.create_engine(
        "sqlite://", creator=connect, poolclass=QueuePool, pool_size=20, max_overflow=40, json_serializer=json_text
    )
    # secure_delete: what a text was is overwritten in the file, too
    pragmas = ("synchronous=FULL", f"foreign_keys={int(foreign_keys)}", "recursive_triggers=ON", "secure_delete=ON")

    @event.listens_for(engine, "connect")
    def _settings(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # sqlite3 would begin transactions of its own
        connection.create_function("baro_redacting", 0, lambda: record.info.get("redacting", False))
        _use_wal(connection)
        for pragma in pragmas:  # recursive_triggers: INSERT OR REPLACE must not delete facts past their triggers
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "before_cursor_execute", _check_parameters)
    return engine


def _use_wal(connection: sqlite3.Connection) -> None:
    """WAL mode. Of two who give it to a new file at once, SQLite refuses one without waiting, or both would wait."""
    until = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.005)


def _postgres_engine(url: sqlalchemy.URL, pool: int) -> Engine:
    given = url.query.get("options", "")
    options = f"{given} -c lock_timeout={BUSY_MS}".strip()
    # No statement is prepared: its plan would be made for the empty tables in which a large import begins, and kept.
    arguments = {"options": options, "prepare_threshold": None}
    engine = sqlalchemy.create_engine(
        url.difference_update_query(["options"]), connect_args=arguments, json_serializer=json_text,
        pool_size=pool, max_overflow=0, pool_timeout=BUSY_MS / 1000, pool_pre_ping=True,
    )  # fmt: skip
    event.listen(engine, "before_cursor_execute", _check_parameters)
    return engine


# -------------------------------------------------------------------------------------------- texts that can be stored

_NUL_IN_JSON = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def check_text(value: str) -> None:
    """Refused for what PostgreSQL or UTF-8 has no place for, on both databases alike."""
    if "\0" in value:
        raise Refused("invalid", "a text holds the character NUL (U+0000), which cannot be stored; remove it")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            half = f"U+{ord(value[error.start]):04X}"
            raise Refused("invalid", f"a text holds half a surrogate pair ({half}), no character; remove it") from None


def json_text(value: Any) -> str:
    """A JSON column's text; Refused for what cannot be stored."""
    try:
        found = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise Refused("invalid", f"this cannot be stored as JSON: {error}") from None
    if _NUL_IN_JSON.search(found):
        check_text("\0")
    check_text(found)
    return found


def _check_parameters(_: Any, __: Any, ___: str, parameters: Any, *____: Any) -> None:
    for row in parameters if isinstance(parameters, list) else [parameters]:
        for value in row.values() if isinstance(row, Mapping) else row or ():
            if isinstance(value, str):
                check_text(value)


# ------------------------------------------------------------------------------------------------ used by every write


def secret_seed(connection: Connection) -> str:
    """The secret that all drawn orders follow from; made once for a database."""
    return str(connection.execute(select(schema.meta.c.value).where(schema.meta.c.key == "secret_seed")).scalar_one())


def make_secret_seed(connection: Connection) -> None:
    """For a new database."""
    connection.execute(insert(schema.meta).values(key="secret_seed", value=ids.new_secret()))


def set_secret_seed(connection: Connection, value: str) -> None:
    """Of a store without people in it: all drawn orders can be had again, and guessed."""
    connection.execute(update(schema.meta).where(schema.meta.c.key == "secret_seed").values(value=value))


def log_event(
    connection: Connection, actor: str, action: str, entity: str, entity_id: str, details: dict[str, Any] | None = None
) -> int:
    """Append to the audit log; returns the event's number, which ascends in the order of commits."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _EVENT_LOCK})
    row = {"at_ms": ids.now_ms(), "actor": actor, "action": action, "entity": entity, "entity_id": entity_id}
    done = connection.execute(insert(schema.event).values(**row, details=details or {}))
    (number,) = done.inserted_primary_key  # type: ignore[misc]
    return int(number)


@contextmanager
def redacting(connection: Connection) -> Iterator[None]:
    """Inside, and in this transaction alone, the triggers let the columns of schema.REDACTED be overwritten."""
    say = text("SELECT set_config('baro.redacting', :value, true)")
    if connection.dialect.name == "postgresql":
        connection.execute(say, {"value": "on"})
    connection.info["redacting"] = True
    try:
        yield
    finally:
        connection.info["redacting"] = False
    if connection.dialect.name == "postgresql":  # after an error the whole transaction is undone, its settings too
        connection.execute(say, {"value": "off"})


def for_update(connection: Connection, query: Any, *, of: Any, skip_locked: bool = False) -> Any:
    """Lock the rows that a query finds, where the database has row locks; SQLite's writer is alone anyway."""
    if connection.dialect.name != "postgresql":
        return query
    # key_share: rows that refer to these may still be added
    return query.with_for_update(of=of, skip_locked=skip_locked, key_share=True)
