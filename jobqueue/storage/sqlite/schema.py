"""The file: its tables, how it is created, and how it is told from somebody else's."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from typing import Final

from jobqueue.errors import ConfigurationError, StorageUnavailable

APPLICATION_ID: Final = 0x4A4F4251
"""``JOBQ``: stands in the file's header and says whose file it is."""
SCHEMA_VERSION: Final = 2
OLDEST_SQLITE: Final = (3, 35)
BUSY_SECONDS: Final = 10.0
"""How long a statement waits for other processes before it is ``StorageUnavailable``."""
WAL_BYTES: Final = 4 * 1024 * 1024
"""Size of the write-ahead log at which it is copied into the file."""
CACHE_KIB: Final = 16 * 1024
"""Pages kept in memory by each connection, at most: ids in no order touch the whole index."""

# What changes often (the job) is apart from what is large and never changes (its spec), so that a
# change of state writes a page or two whatever the size of the payload. A queue's row is never
# deleted: its fence must not repeat. `place` orders what is ready, and what is due at one time.
_TABLES: Final = (
    """CREATE TABLE queues (
        key INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        fence INTEGER NOT NULL DEFAULT 0,
        head INTEGER NOT NULL DEFAULT 0,
        tail INTEGER NOT NULL DEFAULT 0
    )""",
    """CREATE TABLE jobs (
        key INTEGER PRIMARY KEY,
        queue INTEGER NOT NULL,
        id TEXT NOT NULL,
        name TEXT NOT NULL,
        state TEXT NOT NULL,
        place INTEGER NOT NULL,
        due_ms INTEGER NOT NULL DEFAULT 0,
        fence INTEGER NOT NULL DEFAULT 0,
        settled_fence INTEGER NOT NULL DEFAULT 0,
        attempt INTEGER NOT NULL DEFAULT 0,
        worker TEXT NOT NULL DEFAULT '',
        leased_until_ms INTEGER NOT NULL DEFAULT 0,
        enqueued_ms INTEGER NOT NULL,
        started_ms INTEGER NOT NULL DEFAULT 0,
        finished_ms INTEGER NOT NULL DEFAULT 0,
        expires_ms INTEGER NOT NULL DEFAULT 0,
        ttl_ms INTEGER NOT NULL,
        request TEXT NOT NULL,
        reply_to BLOB,
        cancel_value BLOB,
        cancel_request TEXT NOT NULL DEFAULT '',
        value BLOB NOT NULL DEFAULT x''
    )""",
    "CREATE UNIQUE INDEX jobs_by_id ON jobs (queue, id)",
    "CREATE INDEX jobs_ready ON jobs (queue, place) WHERE state = 'queued'",
    """CREATE INDEX jobs_delayed ON jobs (queue, due_ms, place, state)
        WHERE state IN ('scheduled', 'retrying')""",
    """CREATE INDEX jobs_leased ON jobs (queue, leased_until_ms, fence)
        WHERE state = 'running'""",
    """CREATE INDEX jobs_ended ON jobs (queue, expires_ms, state)
        WHERE state IN ('completed', 'failed', 'cancelled')""",
    "CREATE TABLE specs (job INTEGER PRIMARY KEY, spec BLOB NOT NULL)",
    """CREATE TRIGGER jobs_deleted AFTER DELETE ON jobs BEGIN
        DELETE FROM specs WHERE job = old.key;
    END""",
    # token and taken name the worker's last claim, for a caller that did not hear the answer.
    """CREATE TABLE workers (
        queue INTEGER NOT NULL,
        worker TEXT NOT NULL,
        alive_until_ms INTEGER NOT NULL,
        token TEXT NOT NULL DEFAULT '',
        taken BLOB NOT NULL DEFAULT x'',
        PRIMARY KEY (queue, worker)
    ) WITHOUT ROWID""",
    # AUTOINCREMENT: a reader remembers how far it has read, so a number must not come twice.
    """CREATE TABLE messages (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        queue INTEGER NOT NULL,
        topic TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        body BLOB NOT NULL
    )""",
    "CREATE INDEX messages_by_topic ON messages (queue, topic, seq)",
    """CREATE TABLE listeners (
        queue INTEGER NOT NULL,
        address TEXT NOT NULL,
        until_ms INTEGER NOT NULL,
        PRIMARY KEY (queue, address)
    ) WITHOUT ROWID""",
)

# By the schema that a file has: what makes it one of the next.
_UPGRADES: Final = {1: "ALTER TABLE jobs ADD COLUMN cancel_request TEXT NOT NULL DEFAULT ''"}


def connect(path: str) -> sqlite3.Connection:
    """A connection with this storage's settings, for use in one thread at a time."""
    connection = sqlite3.connect(
        path,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        cached_statements=256,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        connection.execute(f"PRAGMA cache_size = {-CACHE_KIB}")
        connection.execute("PRAGMA trusted_schema = OFF")
    except BaseException:
        connection.close()
        raise
    return connection


def open_file(path: str) -> sqlite3.Connection:
    """Open the file, and create it with its tables when there is none.

    Raises:
        ConfigurationError: SQLite is too old, or the path cannot be, or is not, this library's.
        StorageUnavailable: The file is there but cannot be opened now.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise ConfigurationError(
            f"SQLite {sqlite3.sqlite_version} is too old: use a Python that comes with "
            f"{'.'.join(map(str, OLDEST_SQLITE))} or later"
        )
    try:
        _create(path)
        connection = connect(path)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
            raise _foreign(path) from error
        raise
    return connection


def _create(path: str) -> None:
    # A process that closes any descriptor of a file drops all its locks on it, those of SQLite's
    # connections included. So the file is only ever opened here when it is new; and nobody else in
    # this process is connecting meanwhile, since handles are opened one after the other.
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if os.path.isdir(path):
            raise ConfigurationError(f"{path} is a folder: name a file in it") from None
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigurationError(
            f"cannot create {path}: make the folder {os.path.dirname(path)} first"
        ) from error
    except PermissionError as error:
        raise ConfigurationError(
            f"cannot create {path}: this user may not write to {os.path.dirname(path)}"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.EROFS, errno.EINVAL):
            raise ConfigurationError(f"cannot create {path}: {error.strerror}") from error
        raise StorageUnavailable(f"cannot create {path}: {error.strerror}") from error


def _prepare(connection: sqlite3.Connection, path: str) -> None:
    application, version, tables = _identity(connection)
    if (application, version) == (0, 0):
        if tables:
            raise _foreign(path)
        # Has an effect only before the first page is written, which the journal mode does.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    elif application != APPLICATION_ID:
        raise _foreign(path)
    elif version > SCHEMA_VERSION:
        raise ConfigurationError(
            f"{path} was written by a newer version of this library (schema {version}, this one "
            f"knows {SCHEMA_VERSION}): upgrade it here too"
        )
    if _use_wal(connection) != "wal":
        raise ConfigurationError(
            f"{path} cannot be shared by processes (no write-ahead log): use a local file system"
        )
    if version < SCHEMA_VERSION:
        _bring_up_to_date(connection)


def _identity(connection: sqlite3.Connection) -> tuple[int, int, int]:
    # One view of the file: another process may be creating the tables just now.
    connection.execute("BEGIN")
    try:
        return (
            connection.execute("PRAGMA application_id").fetchone()[0],
            connection.execute("PRAGMA user_version").fetchone()[0],
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0],
        )
    finally:
        connection.execute("COMMIT")


def _use_wal(connection: sqlite3.Connection) -> str:
    # SQLite does not wait for others here: two processes that create one file at the same time
    # would see "locked".
    give_up_at = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > give_up_at:
                raise
            time.sleep(0.005)


def _bring_up_to_date(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have been faster.
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            for statement in _TABLES:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        else:
            for older in range(version, SCHEMA_VERSION):
                connection.execute(_UPGRADES[older])
        connection.execute(f"PRAGMA user_version = {max(version, SCHEMA_VERSION)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _foreign(path: str) -> ConfigurationError:
    return ConfigurationError(f"{path} is not a job queue: name another file, or a new one")
