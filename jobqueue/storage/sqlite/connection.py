"""The one thread that speaks to the file, its transactions, and what their failures mean."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from jobqueue.errors import JobQueueError, StorageError, StorageUnavailable
from jobqueue.storage.forking import Handle
from jobqueue.storage.sqlite.schema import BUSY_SECONDS, WAL_BYTES, connect, open_file

_log: Final = logging.getLogger(__name__)
_T = TypeVar("_T")

_BUSY_MS: Final = int(BUSY_SECONDS * 1000)
_FIRST_PAUSE_SECONDS: Final = 0.0002
_LAST_PAUSE_SECONDS: Final = 0.004
_PATIENCE: Final = 0.01
"""Seconds, for each :data:`WAL_BYTES` of log, that writers are held up to let readers end."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """What a verb works with: the open transaction, and the time that holds for all of it."""

    sql: sqlite3.Connection
    now_ms: int


Work: TypeAlias = Callable[[Transaction], _T]


class Connection:
    """Runs transactions, one after the other, in a thread of its own.

    Args:
        path: The file.
        clock: Gives milliseconds since the epoch; asked once a transaction, when it has its lock.
        on_commit: Called in that thread after a transaction that may have changed something.
    """

    def __init__(self, path: str, clock: Callable[[], int], on_commit: Callable[[], None]) -> None:
        self._path = path
        self._clock = clock
        self._on_commit = on_commit
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="jobqueue-sqlite")
        self._handle = Handle(self._open)
        self._closed = False
        self._checkpoint_at = WAL_BYTES
        self._sql: sqlite3.Connection
        self._copier: sqlite3.Connection

    async def open(self) -> None:
        try:
            await self.run(lambda: None)
        except BaseException:
            self._executor.submit(self._handle.close)
            self._executor.shutdown(wait=False)
            raise

    async def close(self, before: Callable[[], None], last: Sequence[Work[None]]) -> None:
        """End what is under way, then let go of everything.

        Args:
            before: Called in the thread.
            last: Transactions, run if they can be.
        """

        def close() -> None:
            try:
                before()
                for work in last:
                    self._write_if_possible(work)
            finally:
                self._handle.close()

        self._closed = True
        if self._handle.inherited:
            return
        end = self._executor.submit(close)
        try:
            await asyncio.wrap_future(end)
        finally:
            self._executor.shutdown(wait=end.done())

    async def read(self, work: Work[_T]) -> _T:
        """Run ``work`` on one consistent view of the file."""
        return await self.run(lambda: self._read(work))

    async def write(self, work: Work[_T], *, unless: Work[_T | None] | None = None) -> _T:
        """Run ``work`` in a transaction that is kept whole or not at all.

        Args:
            work: Reads and writes.
            unless: Reads first; when it has an answer, there is nothing to write and no lock taken.
        """
        return await self.run(lambda: self._write(work, unless))

    async def run(self, call: Callable[[], _T]) -> _T:
        """Run ``call`` in the thread. A cancelled caller does not stop it half-way."""
        if self._handle.inherited:
            raise StorageError(
                f"{self._path} was opened before this process was forked: make a new queue here"
            )
        if self._closed:
            raise StorageError(f"{self._path} was closed")
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, self._run, call)
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def wal_bytes(self) -> int:
        """Size of the write-ahead log."""
        try:
            return os.stat(f"{self._path}-wal").st_size
        except OSError:
            return 0

    def checkpoint(self, patience: float = 0.0) -> None:
        """Copy the log into the file, so that the next commit starts the log anew.

        SQLite up to 3.51.2 can corrupt a file when a checkpoint and a commit of two connections
        meet (the "WAL-reset bug"), and most Pythons come with one of those. So nobody's commit
        checkpoints by itself, and the copying runs while this connection holds the write lock.

        Args:
            patience: Seconds to wait, with the lock, for those who read from the log.

        Source: https://www.sqlite.org/wal.html#walresetbug
        """
        self._lock()
        try:
            give_up_at = time.monotonic() + patience / 2
            while not (copied := self._copy()) and time.monotonic() < give_up_at:
                time.sleep(_FIRST_PAUSE_SECONDS)
            if copied:
                # Who begins now reads the file alone; those before have this long to end.
                time.sleep(patience / 2)
        finally:
            self._sql.execute("ROLLBACK")

    def _copy(self) -> bool:
        """Copy what readers of an old view allow; whether that was all."""
        busy, log, copied = self._copier.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return not busy and log == copied

    def vacuum(self, pages: int) -> None:
        """Cut up to so many unused pages off the file, in a transaction of its own."""
        # Steps once for each page, which execute() would not.
        self._sql.executescript(f"PRAGMA incremental_vacuum({int(pages)})")
        self._committed()

    def trim_log(self) -> None:
        """Give the log's space back to the file system, as far as nobody is reading it."""
        self.checkpoint()
        self._sql.execute("PRAGMA journal_size_limit = 0")
        try:
            # The first commit after a whole checkpoint is the one that cuts the log.
            self._write(_touch, None)
        finally:
            self._sql.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")

    def _open(self) -> ExitStack:
        with ExitStack() as opened:
            self._sql = opened.enter_context(closing(open_file(self._path)))
            self._copier = opened.enter_context(closing(connect(self._path)))
            return opened.pop_all()

    def _run(self, call: Callable[[], _T]) -> _T:
        with self._handle:
            return call()

    def _read(self, work: Work[_T]) -> _T:
        self._sql.execute("BEGIN")
        try:
            return work(Transaction(self._sql, self._clock()))
        finally:
            self._end("COMMIT")

    def _write(self, work: Work[_T], unless: Work[_T | None] | None) -> _T:
        if unless is not None:
            answer = self._read(unless)
            if answer is not None:
                return answer
        self._lock()
        try:
            answer = work(Transaction(self._sql, self._clock()))
            self._sql.execute("COMMIT")
        except BaseException:
            self._end("ROLLBACK")
            raise
        self._committed()
        return answer

    def _lock(self) -> None:
        """Begin a transaction with the write lock.

        SQLite's own waiting sleeps longer and longer, up to a tenth of a second: whoever has just
        come gets the lock before those who have waited, some for seconds.
        """
        give_up_at = time.monotonic() + BUSY_SECONDS
        pause = _FIRST_PAUSE_SECONDS
        while not self._try_to_lock(time.monotonic() > give_up_at):
            self._handle.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(2 * pause, _LAST_PAUSE_SECONDS)

    def _try_to_lock(self, last_try: bool) -> bool:
        self._sql.execute("PRAGMA busy_timeout = 0")
        try:
            self._sql.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if last_try or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            return False
        finally:
            self._sql.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        return True

    def _committed(self) -> None:
        self._on_commit()
        size = self.wal_bytes()
        if size <= self._checkpoint_at:
            if size <= WAL_BYTES:
                self._checkpoint_at = WAL_BYTES
            return
        # While somebody reads an old view, a checkpoint cannot empty the log: then not every time,
        # but if somebody always does, with the more patience the larger the log has become.
        self._checkpoint_at = size + max(size, WAL_BYTES) // 4
        patience = 0.0 if size < 2 * WAL_BYTES else min(_PATIENCE * size / WAL_BYTES, 1.0)
        # The verb has been committed: what follows must not make it look failed.
        try:
            self.checkpoint(patience)
        except sqlite3.Error as error:
            _log.warning("cannot checkpoint %s now: %s", self._path, error)

    def _end(self, statement: str) -> None:
        # After some failures SQLite has already rolled back by itself.
        if self._sql.in_transaction:
            self._sql.execute(statement)

    def _write_if_possible(self, work: Work[None]) -> None:
        try:
            with self._handle:
                self._write(work, None)
        except (sqlite3.Error, JobQueueError) as error:
            _log.warning("cannot tidy up in %s: %s", self._path, error)

    def _explain(self, error: sqlite3.Error) -> StorageError:
        """What is beyond this library's power, and may pass, is "unavailable"."""
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
            return StorageUnavailable(
                f"{self._path} is locked by other processes for more than {BUSY_SECONDS:g} s"
            )
        if code == sqlite3.SQLITE_CANTOPEN:
            return StorageUnavailable(f"{self._path} cannot be opened: {error}")
        if code == sqlite3.SQLITE_FULL:
            return StorageUnavailable(
                f"{self._path}: the disk is full; nothing was changed. Make room and try again"
            )
        if code == sqlite3.SQLITE_IOERR:
            # It may have been the last step of a commit, which the next one to open the file finds.
            return StorageUnavailable(
                f"{self._path} cannot be read or written ({error.sqlite_errorname}): see whether "
                "its disk is full, over a quota or broken, and try again"
            )
        return StorageError(f"{self._path}: {error}; nothing was changed")


def _touch(tx: Transaction) -> None:
    version = tx.sql.execute("PRAGMA user_version").fetchone()[0]
    tx.sql.execute(f"PRAGMA user_version = {int(version)}")
