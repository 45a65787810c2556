"""Nothing is left behind: no key, row, task, thread, connection or file descriptor."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from jobqueue import Job, JobSpec, Queue, Worker
from tests.integration.asking import counted, until_counted
from tests.integration.census import nothing_more_than, stored_size, take
from tests.integration.crew import ROOT
from tests.integration.programs import MakeQueue
from tests.support.backends import Backend, RedisBackend
from tests.support.wait import wait_until

# -- what is left in the process -------------------------------------------------------------------


async def _only_open(queue: Queue) -> None:
    await queue.open()


async def _enqueue(queue: Queue) -> None:
    await queue.enqueue("task")
    await queue.enqueue_many([JobSpec("task") for _ in range(10)])
    await queue.counts()


async def _call(queue: Queue) -> None:
    async with queue.worker():
        await asyncio.gather(*(queue.enqueue_and_wait("task", n) for n in range(20)))


async def _sync_handlers(queue: Queue) -> None:
    async with queue.worker():
        await asyncio.gather(*(queue.enqueue_and_wait("sync", n) for n in range(20)))


async def _wait_in_vain(queue: Queue) -> None:
    receipt = await queue.enqueue("task")
    with contextlib.suppress(TimeoutError):
        await receipt.result(0.05)
    waiter = asyncio.create_task(receipt.result())
    await asyncio.sleep(0.02)
    waiter.cancel()
    await asyncio.wait([waiter])


async def _events(queue: Queue) -> None:
    async with queue.events() as events:
        await queue.enqueue("task")
        async for _ in events:
            break


async def _events_left_open(queue: Queue) -> None:
    events = queue.events()
    await events.__aenter__()
    await queue.enqueue("task")
    async for _ in events:
        break


async def _idle_worker(queue: Queue) -> None:
    async with queue.worker():
        await asyncio.sleep(0.1)


async def _interrupted_jobs(queue: Queue) -> None:
    async with queue.worker():
        for _ in range(3):
            await queue.enqueue("hang")
        await until_counted(queue, running=3)


async def _timed_out_jobs(queue: Queue) -> None:
    async with queue.worker():
        for name in ("hang", "sync_sleep"):
            await queue.enqueue(name, timeout=0.05, max_attempts=1)
        await until_counted(queue, failed=2)
    await asyncio.sleep(0.3)  # the thread of the sync one cannot be stopped, and has to end


_USES: list[Callable[[Queue], Awaitable[None]]] = [
    _only_open,
    _enqueue,
    _call,
    _sync_handlers,
    _wait_in_vain,
    _events,
    _events_left_open,
    _idle_worker,
    _interrupted_jobs,
    _timed_out_jobs,
]


def _add_handlers(queue: Queue) -> None:
    @queue.handler("task")
    async def task(job: Job) -> Any:
        return job.payload

    @queue.handler("hang")
    async def hang(job: Job) -> None:
        await asyncio.sleep(60)

    queue.handler("sync")(lambda job: job.payload)
    queue.handler("sync_sleep")(lambda job: time.sleep(0.3))


@pytest.mark.parametrize("use", _USES, ids=lambda use: use.__name__.strip("_"))
async def test_a_closed_queue_leaves_nothing(
    backend: Backend, use: Callable[[Queue], Awaitable[None]]
) -> None:
    first = take(backend)
    for n in range(2):
        before = take(backend)
        queue = Queue(f"q{n}", backend.handle(), grace=0)
        _add_handlers(queue)
        async with queue:
            await use(queue)
        before.threads = first.threads
    # What is made once a process, such as an import, was made in the first round; but no thread.
    await nothing_more_than(before, backend)


async def test_a_worker_alone_leaves_nothing(backend: Backend) -> None:
    before = take(backend)
    for _ in range(2):
        queues = [Queue(name, backend.handle(), grace=0) for name in ("a", "b")]
        for queue in queues:
            _add_handlers(queue)
        async with Worker(*queues):
            # Handlers, and this block, may use a queue that nobody opened: the worker closes it.
            assert await queues[0].enqueue_and_wait("sync", 1) == 1
        await nothing_more_than(before, backend)


async def test_a_cancelled_worker_leaves_nothing(backend: Backend) -> None:
    before = take(backend)
    for seconds in (0.1, 0.15):
        queue = Queue("q", backend.handle(), grace=0.1)
        _add_handlers(queue)
        running = asyncio.create_task(queue.run())
        await asyncio.sleep(seconds)
        running.cancel()
        await asyncio.wait([running])
        await nothing_more_than(before, backend)


async def test_cancelling_whatever_is_under_way_leaves_nothing(backend: Backend) -> None:
    async def use() -> None:
        async with Queue("q", backend.handle(), grace=0) as queue:
            _add_handlers(queue)
            async with queue.worker():
                await queue.enqueue_and_wait("task", 1)
                await queue.enqueue_and_wait("sync", 2)

    await use()
    before = take(backend)
    for n in range(40):
        task = asyncio.create_task(use())
        await asyncio.sleep(0.0007 * n)
        task.cancel()
        await asyncio.wait([task])
    await nothing_more_than(before, backend)


async def test_opening_and_closing_again_and_again(backend: Backend) -> None:
    queue = Queue("q", backend.handle())
    _add_handlers(queue)
    before = take(backend)
    for n in range(10):
        async with queue:
            await asyncio.gather(*(queue.open() for _ in range(3)))
            assert (await queue.enqueue("task", id=f"{n}")).status == "queued"
        await queue.close()
    await nothing_more_than(before, backend)


# -- programs end by themselves --------------------------------------------------------------------

_PROGRAM = """
import asyncio, sys
from jobqueue import Queue

queue = Queue("q", sys.argv[1], grace=1)

@queue.job()
async def task(n: int) -> int:
    return n

@queue.job()
def sync_task(n: int) -> int:
    return n

async def work(calls):
    async with queue.worker():
        return [await call(n) for n, call in enumerate(calls)]

{body}
print("the end")
"""

_PROGRAMS = {
    "closed": """
    async def main():
        async with queue:
            await task.enqueue(1)
            assert await work([task.call, sync_task.call]) == [0, 1]
        running = asyncio.create_task(queue.run())
        assert await task.call(1) == 1
        running.cancel()
        await asyncio.wait([running])
    asyncio.run(main())
    """,
    "not closed": """
    async def main():
        events = queue.events()
        await events.__aenter__()
        receipt = await task.enqueue(2)
        async for event in events:
            break
        try:
            await receipt.result(0.1)
        except TimeoutError:
            pass
        await queue.result("nobody")
    try:
        asyncio.run(main())
    except Exception as error:
        assert type(error).__name__ == "JobNotFound"
    """,
    "asyncio.run twice": """
    async def main(close):
        # The first use of all of them opens the queue, at the same time.
        await asyncio.gather(*(task.enqueue(n) for n in range(5)), queue.counts(), queue.open())
        assert await work([task.call, sync_task.call]) == [0, 1]
        await task.enqueue(1)
        if close:
            await queue.close()
    for close in (True, True, False, False):
        asyncio.run(main(close))
    """,
    "a worker that nobody stops": """
    async def main():
        running = asyncio.create_task(queue.run())
        assert await task.call(1) == 1
        assert await sync_task.call(1) == 1
    asyncio.run(main())
    """,
}


@pytest.mark.parametrize("kind", _PROGRAMS)
def test_a_program_that_only_used_the_queue_ends_by_itself(
    backend: Backend, kind: str, tmp_path: Path
) -> None:
    body = textwrap.dedent(_PROGRAMS[kind])
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM.format(body=body))
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore::ResourceWarning", str(program), backend.url],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (done.returncode, done.stdout) == (0, "the end\n"), done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert "never awaited" not in done.stderr, done.stderr
    assert "was destroyed" not in done.stderr, done.stderr
    assert time.monotonic() - started < 10


# What is left of a loop that ended with an open queue goes when Python collects it.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestWarning")
async def test_a_queue_in_one_loop_after_the_other(backend: Backend) -> None:
    def run() -> None:
        queue = Queue("q", backend.handle())
        _add_handlers(queue)

        async def use(n: int) -> None:
            async with queue.worker():
                assert await queue.enqueue_and_wait("task", n) == n
            if n % 2:
                await queue.close()
            else:
                await queue.enqueue("task", id=f"left {n}")

        for n in range(4):
            asyncio.run(use(n))

    await asyncio.to_thread(lambda: None)  # has a thread of its own from here on
    before = threading.active_count()
    await asyncio.to_thread(run)
    gc.collect()
    await wait_until(lambda: threading.active_count() <= before, 2)
    async with Queue("q", backend.handle()) as other:
        await until_counted(other, completed=6)


# -- what is left in the storage -------------------------------------------------------------------


async def _burst(queue: Queue, count: int) -> None:
    specs = [JobSpec("task", "x" * 100) for _ in range(count)]
    for start in range(0, count, 1000):
        await queue.enqueue_many(specs[start : start + 1000])


@pytest.mark.timeout(60)
async def test_after_5000_short_lived_jobs_the_storage_is_as_small_as_before(
    backend: Backend, make_queue: MakeQueue
) -> None:
    queue = make_queue(result_ttl=1, concurrency=100, max_attempts=1)

    @queue.handler("task")
    async def task(job: Job) -> str:
        if job.id.endswith("0"):
            raise ValueError("one in sixteen")
        return "y" * 50

    async with queue.worker():
        await _burst(queue, 200)
        await until_counted(queue, 10)
        await asyncio.sleep(1.1)  # the pruner has looked
        before = stored_size(backend)
        await _burst(queue, 5_000)

        async def all_have_ended() -> bool:
            counts = await counted(queue)
            return not counts.keys() - {"completed", "failed"}

        await wait_until(all_have_ended, 30)

        def small_again() -> bool:
            return _is_as_small(stored_size(backend), before)

        try:
            await wait_until(small_again, PATIENCE)
        except AssertionError:
            assert stored_size(backend) == before
        assert await counted(queue) == {}
    assert _is_as_small(stored_size(backend), before)
    if isinstance(backend, RedisBackend):
        assert not [key for key in backend.admin.keys("*") if b":job:" in key]


PATIENCE = 4.0
"""Seconds: a quiet machine needs two, a result's time to live and the pruner's next look."""
_ROOM = 1024 * 1024 + 256 * 1024
"""Bytes: a SQLite file keeps 256 unused pages of 4 KiB for the next jobs, however many it had."""


def _is_as_small(now: dict[str, Any], before: dict[str, Any]) -> bool:
    for name, value in before.items():
        if name == "bytes":
            if now[name] > value * 1.1 + _ROOM:
                return False
        elif isinstance(value, int):
            if now[name] > value:
                return False
        elif isinstance(value, set):
            if now[name] - value:
                return False
        elif any(now[name][row] > count for row, count in value.items()):
            return False
    return True


async def test_cancelled_jobs_leave_nothing_either(backend: Backend, make_queue: MakeQueue) -> None:
    queue = make_queue(result_ttl=0.3)
    queue.handler("task")(lambda job: None)
    async with queue.worker():
        await queue.enqueue_and_wait("task")
        await until_counted(queue)
        await asyncio.sleep(1.1)
        before = stored_size(backend)
        for n in range(50):
            await queue.enqueue("task", id=f"{n}", delay=60)
        for n in range(50):
            await queue.cancel(f"{n}")
        await until_counted(queue)
        await wait_until(lambda: _is_as_small(stored_size(backend), before), 3)


async def test_waiting_leaves_nothing_in_the_storage(
    backend: Backend, make_queue: MakeQueue
) -> None:
    queue, other = make_queue(result_ttl=0.2), make_queue()
    queue.handler("task")(lambda job: job.payload)
    async with queue.worker():
        await asyncio.gather(*(other.enqueue_and_wait("task", n) for n in range(50)))
        async with other.events():
            await other.enqueue_and_wait("task")
        await until_counted(queue)
        await asyncio.sleep(1.1)
    await other.close()
    await queue.close()
    if isinstance(backend, RedisBackend):
        left = {key.rpartition(b":")[2] for key in backend.admin.keys("*")}
        assert left <= {b"counts"}
    else:
        size = stored_size(backend)
        assert {name for name, value in size.items() if isinstance(value, int) and value} <= {
            "bytes"
        }
