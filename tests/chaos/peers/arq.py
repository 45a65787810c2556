"""arq: https://arq-docs.helpmanual.io ("Retrying jobs and cancellation"; `arq.worker.Worker`).

Its documentation promises pessimistic execution: a job stays in the queue until it has succeeded or
failed for good, and runs again when a worker dies. What marks it as running expires 10 s after the
`job_timeout` of the slowest function (300 s by default); so a job timeout of the lease, which makes
12 s of it, the shortest there is for it. Tries without an end (5 by default), and all that its
`RedisSettings` have for lost connections, of which nothing is on by default. It polls: every 50 ms
instead of 500.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from arq import create_pool, func
from arq.connections import RedisSettings
from arq.worker import Worker
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError, TimeoutError

from tests.chaos.ledger import Pen
from tests.chaos.orders import QUEUE, Orders
from tests.chaos.peers.base import Send, main, perform


def _settings(orders: Orders) -> RedisSettings:
    return replace(
        RedisSettings.from_dsn(orders.url),
        conn_retries=100,
        retry_on_timeout=True,
        retry_on_error=[ConnectionError, TimeoutError],
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.01), 10),
    )


def work(orders: Orders, pen: Pen) -> None:
    async def task(ctx: Any, id: str, ms: int) -> None:
        await perform(pen, id, ms)

    async def started(ctx: Any) -> None:
        pen.note("ready")

    async def settled(ctx: Any) -> None:
        pen.note("settled", ctx["job_id"])

    worker = Worker(
        [func(task, name="task")],
        queue_name=QUEUE,
        redis_settings=_settings(orders),
        max_jobs=orders.concurrency,
        job_timeout=orders.lease,
        max_tries=1_000_000,
        poll_delay=0.05,
        on_startup=started,
        after_job_end=settled,
        job_completion_wait=10,
    )
    worker.run()


@asynccontextmanager
async def sender(orders: Orders) -> AsyncGenerator[Send]:
    pool = await create_pool(_settings(orders), default_queue_name=QUEUE)

    async def send(id: str, ms: int) -> bool:
        return await pool.enqueue_job("task", id, ms, _job_id=id) is not None

    yield send
    await pool.aclose()


if __name__ == "__main__":
    main(work, sender)
