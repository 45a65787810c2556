"""Processes that fork while they have a SQLite file in use: nothing that was accepted is lost."""

from __future__ import annotations

import textwrap

import pytest

from tests.support.backends import Backend
from tests.support.scripts import run

pytestmark = pytest.mark.storages("sqlite")

FORK = """
import asyncio, os, sys, traceback

def fork(work):
    # A child that runs this in an event loop of its own, and ends.
    process = os.fork()
    if process:
        return process
    try:
        asyncio.run(work())
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(0)
"""


def run_forking(program: str, url: str) -> list[str]:
    return run(FORK + textwrap.dedent(program), url)


def test_a_child_with_a_queue_of_its_own_loses_nothing(backend: Backend) -> None:
    assert run_forking(
        """
        from jobqueue import Queue

        (said, say), (told, tell) = os.pipe(), os.pipe()

        async def child():
            async with Queue("q", sys.argv[1]) as queue:
                await queue.enqueue("task", id="child's")
                os.write(say, b"!")
                os.read(told, 1)
                # The parent has closed its file. Had it not known of this process, it would have
                # taken the log away.
                await queue.enqueue("task", id="child's, alone")

        async def parent():
            queue = Queue("q", sys.argv[1])
            await queue.enqueue("task", id="parent's")
            process = fork(child)
            os.read(said, 1)
            assert await queue.get("child's") is not None
            await queue.enqueue("task", id="parent's, after the fork")
            await queue.close()
            os.write(tell, b"!")
            assert os.waitpid(process, 0)[1] == 0
            async with Queue("q", sys.argv[1]) as queue:
                print((await queue.counts())["queued"])

        asyncio.run(parent())
        """,
        backend.url,
    ) == ["4"]


@pytest.mark.timeout(60)
def test_handlers_that_fork_disturb_neither_their_worker_nor_their_children(
    backend: Backend,
) -> None:
    assert run_forking(
        """
        import multiprocessing, sqlite3
        from contextlib import closing
        from jobqueue import Queue, SyncQueue

        JOBS = 12
        fork = multiprocessing.get_context("fork")
        queue = Queue("q", sys.argv[1], concurrency=4, lease=60)

        def enqueue(number):
            with SyncQueue("q", sys.argv[1]) as children:
                children.enqueue("leaf", id=f"leaf {number}")

        @queue.handler("tree")
        def tree(job):
            child = fork.Process(target=enqueue, args=(job.payload,))
            child.start()
            child.join()
            return child.exitcode

        @queue.handler("leaf")
        async def leaf(job):
            pass

        async def main():
            async with queue, queue.worker():
                trees = [queue.enqueue_and_wait("tree", number) for number in range(JOBS)]
                print(set(await asyncio.gather(*trees)))
                for number in range(JOBS):
                    await queue.result(f"leaf {number}", wait=20)

        asyncio.run(main())
        with closing(sqlite3.connect(sys.argv[1].removeprefix("sqlite:///"))) as file:
            print(file.execute("SELECT state, count(*) FROM jobs").fetchall())
            print(file.execute("PRAGMA integrity_check").fetchone())
        """,
        backend.url,
    ) == ["{0}", "[('completed', 24)]", "('ok',)"]


def test_a_child_that_uses_its_parents_storage_is_told_so(backend: Backend) -> None:
    assert run_forking(
        """
        from jobqueue import StorageError
        from jobqueue.storage.sqlite import SQLiteStorage

        storage = SQLiteStorage(sys.argv[1].removeprefix("sqlite:///"))

        async def child():
            try:
                await storage.counts("q")
            except StorageError as error:
                print(str(error).partition(" was ")[2], flush=True)
            await storage.close()

        async def parent():
            await storage.open()
            await storage.counts("q")
            process = fork(child)
            assert os.waitpid(process, 0)[1] == 0
            print(sum((await storage.counts("q")).values()))
            await storage.close()

        asyncio.run(parent())
        """,
        backend.url,
    ) == ["opened before this process was forked: make a new queue here", "0"]


def test_a_fork_beside_a_transaction_that_does_not_end(backend: Backend) -> None:
    """Neither hangs, and the child does not touch the file."""
    assert run_forking(
        """
        import threading
        from jobqueue import StorageError
        from jobqueue.storage import forking
        from jobqueue.storage.types import (NewJob,)
        from jobqueue.storage.sqlite import SQLiteStorage

        forking.FORK_SECONDS = 0.2
        path = sys.argv[1].removeprefix("sqlite:///")
        entered, go_on = threading.Event(), threading.Event()

        def clock():
            entered.set()
            assert go_on.wait(20)
            return 1

        async def child():
            try:
                await SQLiteStorage(path).open()
            except StorageError as error:
                print(error.code, "spawn" in str(error), flush=True)

        async def parent():
            async with SQLiteStorage(path, clock=clock) as storage:
                enqueue = asyncio.create_task(storage.enqueue("q", [NewJob("one", "task", b"")]))
                while not entered.is_set():
                    await asyncio.sleep(0.01)
                process = fork(child)
                assert os.waitpid(process, 0)[1] == 0
                go_on.set()
                print((await enqueue)[0].status)

        asyncio.run(parent())
        """,
        backend.url,
    ) == ["storage True", "queued"]


def test_a_fork_does_not_wait_for_those_who_wait_for_others(backend: Backend) -> None:
    """What waits for the write lock of another process lets forks pass, and then goes on."""
    assert run_forking(
        """
        import subprocess
        from jobqueue import Queue

        HOLD = '''
        import sqlite3, sys
        file = sqlite3.connect(sys.argv[1], isolation_level=None)
        file.execute("BEGIN IMMEDIATE")
        print(flush=True)
        sys.stdin.read()
        '''

        async def child():
            async with Queue("q", sys.argv[1]) as queue:
                print((await queue.counts())["queued"], flush=True)

        async def parent():
            async with Queue("q", sys.argv[1]) as queue:
                await queue.enqueue("task", id="before")
                path = sys.argv[1].removeprefix("sqlite:///")
                holder = subprocess.Popen(
                    [sys.executable, "-c", HOLD, path],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
                holder.stdout.readline()
                waiting = asyncio.create_task(queue.enqueue("task", id="after"))
                await asyncio.sleep(0.1)
                assert not waiting.done()
                assert os.waitpid(fork(child), 0)[1] == 0
                holder.communicate()
                print((await waiting).status)

        asyncio.run(parent())
        """,
        backend.url,
    ) == ["1", "queued"]
