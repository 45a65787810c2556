"""arq. Settings: https://arq-docs.helpmanual.io ("Reference", `arq.worker.Worker`).

The worker polls. `poll_delay` is 0.5 s by default, at which one worker could start no more than
1,000 jobs a second (`queue_read_limit`, five times `max_jobs`, each poll); it is set to 5 ms here.
Results are kept for an hour, as by default. There is no bulk enqueue. `job.result(poll_delay=...)`
polls as well: every millisecond, and every 10 ms when many calls wait.
"""

from __future__ import annotations

import asyncio
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker

from adapters.base import ANSWER, AsyncAdapter, clock, run


async def noop(ctx: Any, data: str) -> None:
    clock.begin()
    clock.end()


async def sleep(ctx: Any, data: str, ms: float) -> None:
    clock.begin()
    await asyncio.sleep(ms / 1000)
    clock.end()


async def stamp(ctx: Any, data: str, enqueued_ns: int) -> None:
    clock.stamp(enqueued_ns)


async def echo(ctx: Any, data: str) -> dict[str, Any]:
    return ANSWER


class Arq(AsyncAdapter):
    packages = ("arq",)

    async def open(self) -> None:
        settings = RedisSettings.from_dsn(self.url)
        self.pool = await create_pool(settings, default_queue_name=self.queue)

    async def enqueue_one(self, handler: str, args: tuple[Any, ...]) -> None:
        await self.pool.enqueue_job(handler, *args)

    async def call_one(self, payload: str) -> Any:
        job = await self.pool.enqueue_job("echo", payload)
        return await job.result(poll_delay=0.001 if self.in_flight == 1 else 0.01)

    async def work(self, concurrency: int, handler: str) -> None:
        worker = Worker(
            [noop, sleep, stamp, echo],
            queue_name=self.queue,
            redis_pool=self.pool,
            max_jobs=concurrency,
            poll_delay=0.005,
            handle_signals=False,
        )
        self.task = asyncio.create_task(worker.async_run())


if __name__ == "__main__":
    run(Arq)
