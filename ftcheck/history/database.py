"""The history's file: SQLite, opened with its schema, or refused in one sentence.

One file serves many processes: a session writes once, in one transaction, and waits for others that write. Values are
bound, never put into SQL text.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Final

from ftcheck.errors import HistoryError, shown

APPLICATION: Final = 0x66746368
"""`ftch`: what tells a history from other people's databases (PRAGMA application_id)."""

WAIT: Final = 30.0
"""Seconds to wait for another process that writes."""

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """CREATE TABLE sessions (
            id INTEGER PRIMARY KEY,
            time INTEGER NOT NULL,  -- seconds since 1970, UTC
            commit_id TEXT NOT NULL,
            branch TEXT NOT NULL,
            dirty INTEGER NOT NULL,
            ftcheck TEXT NOT NULL
        )""",
        """CREATE TABLE cases (
            id INTEGER PRIMARY KEY,
            suite TEXT NOT NULL,
            name TEXT NOT NULL,
            device TEXT NOT NULL,  -- cpu, cuda or mps
            UNIQUE (suite, name, device)
        )""",
        # What runs were made with is the same for most results.
        "CREATE TABLE environments (id INTEGER PRIMARY KEY, content TEXT NOT NULL UNIQUE)",
        # Sessions in a row that found the same are one row: from first_session to last_session.
        """CREATE TABLE results (
            id INTEGER PRIMARY KEY,
            case_id INTEGER NOT NULL REFERENCES cases,
            first_session INTEGER NOT NULL REFERENCES sessions,
            last_session INTEGER NOT NULL REFERENCES sessions,
            sessions INTEGER NOT NULL,
            verdict TEXT NOT NULL,
            accepted INTEGER NOT NULL,
            examples INTEGER NOT NULL,
            seeds TEXT NOT NULL,  -- JSON
            train_keys TEXT NOT NULL,  -- beginnings of the runs' keys, with a blank between them
            predict_keys TEXT NOT NULL,
            environment INTEGER NOT NULL REFERENCES environments
        )""",
        "CREATE INDEX results_of_case ON results (case_id, id)",
        """CREATE TABLE metrics (
            result INTEGER NOT NULL REFERENCES results,
            name TEXT NOT NULL,
            value REAL,  -- NULL: NaN
            low REAL,
            high REAL,
            per_seed TEXT NOT NULL,  -- JSON
            signature TEXT NOT NULL,
            greater_is_better INTEGER NOT NULL,
            gate TEXT,  -- the worst verdict of its gates
            baseline REAL,
            anchor REAL,
            drifted INTEGER NOT NULL,
            PRIMARY KEY (result, name)
        ) WITHOUT ROWID""",
    ),
)
"""For each version of the schema the statements that make it of the one before (PRAGMA user_version counts them)."""


@contextmanager
def opened(path: Path, *, writes: bool, wal: bool = False) -> Iterator[sqlite3.Connection]:
    """The database at `path` in one transaction that ends with the block; `writes`: made where there is none.

    `wal`: readers don't wait for the writer, which takes a local disk. Raises HistoryError: the file can't be used, is
    no history, or one of a newer ftcheck.
    """
    try:
        if writes:
            path.parent.mkdir(parents=True, exist_ok=True)
        elif not path.is_file():
            raise HistoryError(f"there is no history {shown(path, 300)} yet: a session of pytest begins it")
        with closing(sqlite3.connect(path, timeout=WAIT, isolation_level=None)) as connection:
            connection.execute("BEGIN")  # so that what is read is of one moment
            old = _version(connection, path) < len(MIGRATIONS)
            connection.execute("COMMIT")
            if wal:
                with suppress(sqlite3.OperationalError):  # another process has it open: a later session turns it on
                    connection.execute("PRAGMA journal_mode = WAL")
                    connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("BEGIN IMMEDIATE" if writes or old else "BEGIN")
            try:
                _migrate(connection, path)
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
    except (sqlite3.Error, UnicodeDecodeError, MemoryError) as error:
        raise HistoryError(f"the history {shown(path, 300)} can't be used: {shown(error)}") from None
    except OSError as error:
        raise HistoryError(f"the history {shown(path, 300)} can't be used: {error.strerror or error}") from None


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """Of the schema, from 1; 0 for an empty database. Raises HistoryError for one that isn't a history of ours: a view
    or a virtual table in the place of a table would have code of the file's run."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    schema = _schema(connection)
    if application != APPLICATION and (schema or application or version):
        raise HistoryError(f"{shown(path, 300)} is a database of something else than ftcheck: name another file")
    if not 0 <= version <= len(MIGRATIONS):
        raise HistoryError(
            f"the history {shown(path, 300)} has schema {version}, this version of ftcheck reads up to "
            f"{len(MIGRATIONS)}: update ftcheck, or name another file"
        )
    if schema != _made_by(MIGRATIONS[:version]):
        raise HistoryError(f"the history {shown(path, 300)} has tables that ftcheck did not make: name another file")
    return int(version)


def _schema(connection: sqlite3.Connection) -> frozenset[tuple[str, ...]]:
    """What there is in a database: kind, name, table and statement of each; not what `ANALYZE` adds."""
    found = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_stat%'")
    return frozenset(found)


@cache
def _made_by(migrations: tuple[tuple[str, ...], ...]) -> frozenset[tuple[str, ...]]:
    """The schema that these make."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in (statement for statements in migrations for statement in statements):
            connection.execute(statement)
        return _schema(connection)


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the schema up to date; whoever came first did it for all."""
    version = _version(connection, path)
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            connection.execute(statement)
    if version < len(MIGRATIONS):
        connection.execute(f"PRAGMA application_id = {APPLICATION:d}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS):d}")
