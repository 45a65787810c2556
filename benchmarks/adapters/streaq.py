"""streaQ. Settings: https://streaq.readthedocs.io ("Worker" and "Task").

`concurrency` tasks at a time with as many prefetched, as by default; `enqueue_many` is the
documented way to enqueue many at once, in one pipeline. Results are kept for five minutes, as by
default. `task.result()` is the documented way to wait for a result; it subscribes on a connection
of its own for each call, and a pool of 64, coredis's default, hangs with 100 of them: it is larger.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from streaq import Worker

from adapters.async_handlers import HANDLERS
from adapters.base import AsyncAdapter, Message, run

CONNECTIONS = {"max_connections": 1000}


class Streaq(AsyncAdapter):
    packages = ("streaq", "coredis")

    def __init__(self, opened: Message) -> None:
        super().__init__(opened)
        self._register(Worker(redis_url=self.url, queue_name=self.queue, redis_kwargs=CONNECTIONS))

    def _register(self, worker: Worker[None]) -> None:
        self.worker = worker
        self.tasks: dict[str, Any] = {
            function.__name__: worker.task(name=function.__name__)(function)
            for function in HANDLERS
        }

    async def open(self) -> None:
        if self.produces:
            await self.worker.__aenter__()

    async def enqueue_one(self, handler: str, args: tuple[Any, ...]) -> None:
        await self.tasks[handler].enqueue(*args)

    async def enqueue_bulk(self, handler: str, args: Sequence[tuple[Any, ...]]) -> None:
        enqueue = self.tasks[handler].enqueue
        await self.worker.enqueue_many([enqueue(*one) for one in args])

    async def call_one(self, payload: str) -> Any:
        task = await self.tasks["echo"].enqueue(payload)
        return (await task.result()).result

    async def work(self, concurrency: int, handler: str) -> None:
        self._register(
            Worker(
                redis_url=self.url,
                queue_name=self.queue,
                concurrency=concurrency,
                handle_signals=False,
                redis_kwargs=CONNECTIONS,
            )
        )
        self.task = asyncio.create_task(self.worker.run_async())


if __name__ == "__main__":
    run(Streaq)
