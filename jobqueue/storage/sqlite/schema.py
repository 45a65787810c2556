"""The file: how it is created, opened and told from somebody else's."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from typing import Final

from jobqueue.errors import ConfigurationError, StorageUnavailable
from jobqueue.storage.sqlite.tables import SCHEMA_VERSION, TABLES, UPGRADES

APPLICATION_ID: Final = 0x4A4F4251
"""``JOBQ``: stands in the file's header and says whose file it is."""
OLDEST_SQLITE: Final = (3, 35)
BUSY_SECONDS: Final = 10.0
"""How long a statement waits for other processes before it is ``StorageUnavailable``."""
WAL_BYTES: Final = 4 * 1024 * 1024
"""Size of the write-ahead log at which it is copied into the file."""
CACHE_KIB: Final = 16 * 1024
"""Pages kept in memory by each connection, at most: ids in no order touch the whole index."""


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
            for statement in TABLES:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        else:
            for older in range(version, SCHEMA_VERSION):
                for statement in UPGRADES[older]:
                    connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {max(version, SCHEMA_VERSION)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _foreign(path: str) -> ConfigurationError:
    return ConfigurationError(f"{path} is not a job queue: name another file, or a new one")
