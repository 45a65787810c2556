"""The programs that tests run in other processes: ``python -m tests.integration.programs``.

Each is a coroutine function of what makes queues, and of what says "ready" and waits for the test
to let it go on. Arguments and result are JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from jobqueue import Job, JobQueueError, Queue, Worker, current_job
from tests.integration.ledger import Ledger

MakeQueue: TypeAlias = Callable[..., Queue]
Ready: TypeAlias = Callable[[], Awaitable[None]]
Program: TypeAlias = Callable[..., Awaitable[Any]]


async def enqueue_at_once(make_queue: MakeQueue, ready: Ready, id: str, count: int) -> list[str]:
    """Enqueue one id many times at the same time; the statuses."""
    async with make_queue() as queue:
        await ready()
        receipts = await asyncio.gather(
            *(queue.enqueue("task", [os.getpid(), n], id=id) for n in range(count))
        )
        return [str(receipt.status) for receipt in receipts]


async def wait_for(make_queue: MakeQueue, ready: Ready, id: str, wait: float) -> list[Any]:
    """Wait for a job from its start; the result or the error's code, and the seconds it took."""
    async with make_queue() as queue:
        task = asyncio.create_task(_outcome(queue.result(id, wait=wait)))
        started = time.monotonic()
        await asyncio.sleep(0.05)
        await ready()
        return [*await task, time.monotonic() - started]


async def call(
    make_queue: MakeQueue, ready: Ready, payload: Any, id: str, wait: float
) -> list[Any]:
    """Enqueue and wait; the result or the error's code."""
    async with make_queue() as queue:
        await ready()
        return await _outcome(queue.enqueue_and_wait("task", payload, id=id, wait=wait))


async def enqueue_some(make_queue: MakeQueue, ready: Ready, count: int) -> list[str]:
    """Enqueue jobs one after the other; their ids."""
    async with make_queue() as queue:
        await ready()
        return [(await queue.enqueue("note", n)).id for n in range(count)]


async def work(make_queue: MakeQueue, ready: Ready, ledger: str, options: dict[str, Any]) -> None:
    """Run a worker with the handlers below until it is told to stop."""
    queue = make_queue(**options)
    add_handlers(queue, Ledger(ledger))
    async with Worker(queue):
        await ready()


def add_handlers(queue: Queue, ledger: Ledger) -> None:
    """What the workers of other processes can do."""

    @queue.handler("note")
    async def note(job: Job) -> Any:
        ledger.note("run", job)
        return job.payload

    @queue.handler("note_slowly")
    async def note_slowly(job: Job) -> Any:
        ledger.note("run", job)
        await asyncio.sleep(float(job.payload))
        ledger.note("done", job)
        return os.getpid()

    @queue.handler("hang_at_first")
    async def hang_at_first(job: Job) -> Any:
        ledger.note("run", job)
        if job.attempt == 1:
            await asyncio.sleep(3600)
        return os.getpid()

    @queue.handler("die")
    async def die(job: Job) -> None:
        ledger.note("run", job)
        os.kill(os.getpid(), signal.SIGKILL)

    @queue.handler("block_loop")
    async def block_loop(job: Job) -> Any:
        ledger.note("run", job)
        time.sleep(float(job.payload))
        return current_job().attempt

    @queue.handler("spin")
    async def spin(job: Job) -> Any:
        ledger.note("run", job)
        ends_at = time.monotonic() + float(job.payload)
        while time.monotonic() < ends_at:
            pass
        return job.attempt


async def _outcome(awaitable: Awaitable[Any]) -> list[Any]:
    try:
        return ["result", await awaitable]
    except JobQueueError as error:
        return [error.code, str(error)]


def main(url: str, program: str, arguments: str) -> None:
    """Run one program in this process, with its words on the standard streams."""

    def make_queue(name: str = "q", **options: Any) -> Queue:
        return Queue(name, url, **options)

    async def ready() -> None:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)

    print(json.dumps(asyncio.run(globals()[program](make_queue, ready, *json.loads(arguments)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
