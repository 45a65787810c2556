"""SAQ. Settings: https://saq-py.readthedocs.io (Getting Started, "Queue" and "Worker").

Its worker takes `concurrency` jobs at a time, each slot with a blocking BLMOVE on a connection of
its own. `max_concurrent_ops` (default 20) throttles what a queue reads from Redis at once, so it is
raised to the concurrency. There is no bulk enqueue: `queue.map` waits for the results. Finished
jobs are kept for ten minutes, as by default. `queue.apply` is the documented call; it polls, every
half second unless told otherwise: here every millisecond, and every 10 ms when many calls wait.
"""

from __future__ import annotations

import asyncio
from typing import Any

from saq import Queue, Worker

from adapters.base import ANSWER, AsyncAdapter, Message, clock, run


async def noop(ctx: Any, *, data: str) -> None:
    clock.begin()
    clock.end()


async def sleep(ctx: Any, *, data: str, ms: float) -> None:
    clock.begin()
    await asyncio.sleep(ms / 1000)
    clock.end()


async def stamp(ctx: Any, *, data: str, enqueued_ns: int) -> None:
    clock.stamp(enqueued_ns)


async def echo(ctx: Any, *, data: str) -> dict[str, Any]:
    return ANSWER


NAMES = {"noop": ("data",), "sleep": ("data", "ms"), "stamp": ("data", "enqueued_ns")}


class Saq(AsyncAdapter):
    packages = ("saq",)

    def __init__(self, opened: Message) -> None:
        super().__init__(opened)
        self.jobs = Queue.from_url(self.url, name=self.queue, max_concurrent_ops=100)

    async def open(self) -> None:
        await self.jobs.connect()

    async def enqueue_one(self, handler: str, args: tuple[Any, ...]) -> None:
        await self.jobs.enqueue(handler, **dict(zip(NAMES[handler], args, strict=True)))

    async def call_one(self, payload: str) -> Any:
        interval = 0.001 if self.in_flight == 1 else 0.01
        return await self.jobs.apply("echo", poll_interval=interval, data=payload)

    async def work(self, concurrency: int, handler: str) -> None:
        functions = [noop, sleep, stamp, echo]
        worker = Worker(self.jobs, functions=functions, concurrency=concurrency)
        self.task = asyncio.create_task(worker.start())
        # It sweeps when it starts, and takes a job that is just being dequeued for a stuck one.
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    run(Saq)
