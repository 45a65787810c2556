"""A SQLite file that cannot grow, that somebody else has locked, or that somebody always reads."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from jobqueue import Queue, StorageUnavailable
from jobqueue.states import JobState
from jobqueue.storage.sqlite import SQLiteStorage, connection, schema
from jobqueue.storage.types import Settlement
from tests.support.jobs import QUEUE, WORKER, claim, completed, ids, new_job, only
from tests.support.scripts import ROOT
from tests.support.wait import wait_until

Full: TypeAlias = Callable[[SQLiteStorage], AbstractContextManager[None]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
async def storage(path: Path) -> AsyncGenerator[SQLiteStorage]:
    async with SQLiteStorage(path) as storage:
        yield storage


# -- no room ---------------------------------------------------------------------------------------
# tests/chaos fills a real disk, where one can be mounted. These need no rights at all.


@contextmanager
def _files_of_at_most(size: int) -> Iterator[None]:
    """No file of this process may grow beyond that; a write that would is cut off in the middle."""
    _, most = before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def _log_that_may_not_grow(storage: SQLiteStorage) -> Iterator[None]:
    # In the middle of a page, so that some of what is written arrives.
    with _files_of_at_most(os.stat(f"{storage.url.removeprefix('sqlite:///')}-wal").st_size + 5000):
        yield


@contextmanager
def _no_more_pages(storage: Any) -> Iterator[None]:
    sql: sqlite3.Connection = storage._use()[0]._sql
    most = sql.execute("PRAGMA max_page_count").fetchone()[0]
    sql.execute("PRAGMA max_page_count = 1")  # which means: as many as there are
    try:
        yield
    finally:
        sql.execute(f"PRAGMA max_page_count = {most}")


@pytest.mark.parametrize("full", [_log_that_may_not_grow, _no_more_pages])
async def test_what_does_not_fit_is_refused_as_a_whole(storage: SQLiteStorage, full: Full) -> None:
    large = b"x" * 2_000
    await storage.enqueue(QUEUE, [new_job("first")])
    batch = [new_job(f"job {n}", spec=large) for n in range(100)]
    with full(storage):
        for _ in range(2):
            with pytest.raises(StorageUnavailable, match="full"):
                await storage.enqueue(QUEUE, batch)
            assert await storage.counts(QUEUE) == only(queued=1)
    assert len(await storage.enqueue(QUEUE, batch)) == 100
    assert await storage.counts(QUEUE) == only(queued=101)


async def test_what_was_refused_can_be_repeated(storage: SQLiteStorage) -> None:
    """Claims and outcomes, with the same arguments, as the port says."""
    await storage.enqueue(QUEUE, [new_job("one"), new_job("two")])
    (one,) = await claim(storage, 1)
    settlements = [Settlement("one", one.fence, completed(b"x" * 100_000))]
    with _log_that_may_not_grow(storage):
        with pytest.raises(StorageUnavailable, match="full"):
            await storage.finish(QUEUE, WORKER, settlements)
        with pytest.raises(StorageUnavailable, match="full"):
            await claim(storage, 1, token="t")
            await claim(storage, 1, token="t2")  # the first may still have fitted in
        (found,) = await storage.results(QUEUE, ["one"])
        assert found is not None
        assert found.state is JobState.RUNNING
    assert await storage.finish(QUEUE, WORKER, settlements) == [True]
    assert ids(await claim(storage, 1, token="t")) == ["two"]


async def test_a_worker_goes_on_by_itself_when_there_is_room(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    queue = Queue("q", f"sqlite:///{path}", lease=60)
    running, go_on = asyncio.Event(), asyncio.Event()
    large = "x" * 100_000

    @queue.handler("task")
    async def task(job: Any) -> tuple[int, str]:
        running.set()
        await go_on.wait()
        return job.attempt, large

    async with queue, queue.worker(), SQLiteStorage(path) as other:
        receipt = await queue.enqueue("task", id="one")
        await running.wait()
        with _log_that_may_not_grow(other):
            go_on.set()
            await wait_until(lambda: "cannot settle jobs" in caplog.text)
            with pytest.raises(StorageUnavailable, match="full"):
                await queue.enqueue("task", large)
        assert (await receipt.result(20))[0] == 1
        assert (await queue.enqueue_and_wait("task", wait=20))[0] == 1


async def test_a_file_that_cannot_be_begun_is_begun_later(path: Path) -> None:
    with _files_of_at_most(0), pytest.raises(StorageUnavailable, match="full"):
        await SQLiteStorage(path).open()
    async with SQLiteStorage(path) as storage:
        await storage.enqueue(QUEUE, [new_job("one")])


# -- locked ----------------------------------------------------------------------------------------


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that is frozen in the midst of an enqueue, with the write lock."""
    program = """
        import asyncio, os, signal, sys, time
        from jobqueue.storage.types import (NewJob,)
        from jobqueue.storage.sqlite import SQLiteStorage

        def clock():  # asked when the lock is held
            print("holds", flush=True)
            os.kill(os.getpid(), signal.SIGSTOP)
            return time.time_ns() // 1_000_000

        async def main():
            async with SQLiteStorage(sys.argv[1], clock=clock) as storage:
                await storage.enqueue("q", [NewJob("frozen", "task", b"")])

        asyncio.run(main())
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def _is_frozen(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert await asyncio.to_thread(process.stdout.readline) == "holds\n"
    state = Path(f"/proc/{process.pid}/stat")
    await wait_until(lambda: state.read_text().rpartition(") ")[2].startswith("T"))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="cannot see who is frozen here")
@pytest.mark.parametrize("end", [signal.SIGCONT, signal.SIGKILL])
async def test_others_wait_for_a_frozen_process_and_then_say_so(
    storage: SQLiteStorage,
    holder: subprocess.Popen[str],
    end: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    path: Path,
) -> None:
    await _is_frozen(holder)
    # Long enough to read, too short to be waited for.
    monkeypatch.setattr(connection, "BUSY_SECONDS", 0.2)
    with pytest.raises(StorageUnavailable, match="is locked by other processes"):
        await storage.enqueue(QUEUE, [new_job("refused")])
    assert await storage.counts(QUEUE) == only(), "reading goes on"
    monkeypatch.undo()
    waiting = asyncio.create_task(storage.enqueue(QUEUE, [new_job("patient")]))
    holder.send_signal(end)
    assert len(await waiting) == 1
    assert await asyncio.to_thread(holder.wait) == (0 if end is signal.SIGCONT else -end)
    known = await storage.results(QUEUE, ["frozen", "refused", "patient"])
    assert [each is not None for each in known] == [end is signal.SIGCONT, False, True]
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_file_that_somebody_keeps_for_himself_is_unavailable(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SQLiteStorage(path) as storage:
        await storage.enqueue(QUEUE, [new_job("one")])
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.2)
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("SELECT count(*) FROM jobs").fetchall()
        with pytest.raises(StorageUnavailable, match="is locked by other processes"):
            await SQLiteStorage(path).open()
    async with SQLiteStorage(path) as storage:
        assert await storage.counts(QUEUE) == only(queued=1)


# -- read all the time -----------------------------------------------------------------------------


async def test_the_log_is_begun_anew_though_somebody_always_reads(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (connection, schema):
        monkeypatch.setattr(module, "WAL_BYTES", 256 * 1024)
    over = threading.Event()

    def read() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as file:
            while not over.is_set():
                file.execute("BEGIN")
                file.execute("SELECT count(*) FROM jobs").fetchall()
                over.wait(0.02)
                file.execute("COMMIT")

    async with SQLiteStorage(path) as storage:
        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        try:
            largest = 0
            for number in range(500):
                batch = [new_job(f"{number} {n}", spec=b"x" * 4_000) for n in range(20)]
                await storage.enqueue(QUEUE, batch)
                size = os.stat(f"{path}-wal").st_size
                if size < largest and largest > 2 * connection.WAL_BYTES:
                    return
                largest = max(size, largest)
            pytest.fail(f"the log has grown to {largest} bytes")
        finally:
            over.set()
            for reader in readers:
                reader.join()
