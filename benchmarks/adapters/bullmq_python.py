"""BullMQ for Python. Settings: https://docs.bullmq.io/python/introduction.

`Worker` with `concurrency`, `addBulk` for many. Finished jobs are kept, as by default. There is no
`waitUntilFinished`; `QueueEvents`, whose per-job channel serves that purpose, is used for calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count
from typing import Any
from urllib.parse import urlsplit

from bullmq import Job, Queue, QueueEvents, Worker

from adapters.base import ANSWER, AsyncAdapter, Message, clock, run


async def process(job: Job, token: str) -> Any:
    name, data = job.name, job.data
    if name == "noop":
        clock.begin()
        clock.end()
    elif name == "sleep":
        clock.begin()
        await asyncio.sleep(data["ms"] / 1000)
        clock.end()
    elif name == "stamp":
        clock.stamp(data["enqueued_ns"])
    else:
        return ANSWER
    return None


NAMES = {"noop": ("data",), "sleep": ("data", "ms"), "stamp": ("data", "enqueued_ns")}


def named(handler: str, args: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(NAMES[handler], args, strict=True))


class BullMQ(AsyncAdapter):
    packages = ("bullmq",)

    def __init__(self, opened: Message) -> None:
        super().__init__(opened)
        url = urlsplit(self.url)
        self.options: Any = {"connection": {"host": url.hostname, "port": url.port}}
        self.ids = count()

    async def open(self) -> None:
        self.jobs = Queue(self.queue, self.options)
        if self.results and self.produces:
            self.events = QueueEvents(self.queue, self.options)

    async def enqueue_one(self, handler: str, args: tuple[Any, ...]) -> None:
        await self.jobs.add(handler, named(handler, args))

    async def enqueue_bulk(self, handler: str, args: Sequence[tuple[Any, ...]]) -> None:
        await self.jobs.addBulk([{"name": handler, "data": named(handler, one)} for one in args])

    async def call_one(self, payload: str) -> Any:
        id = f"call-{next(self.ids)}"
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        channel = f"completed:{id}"

        def completed(*args: Any) -> None:
            if not future.done():
                future.set_result(args)

        self.events.on(channel, completed)
        await self.jobs.add("echo", {"data": payload}, {"jobId": id})
        await future
        self.events.off(channel, completed)

    async def work(self, concurrency: int, handler: str) -> None:
        self.worker = Worker(self.queue, process, {**self.options, "concurrency": concurrency})


if __name__ == "__main__":
    run(BullMQ)
