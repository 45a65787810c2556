"""SAQ: https://saq-py.readthedocs.io ("Queue", "Worker"; `Job` documents `retries`, `heartbeat`).

A job is delivered at least once only with `retries` above 1, the default; a dead worker's job is
found by the sweep (every minute by default) once its `timeout` (10 s by default) or its `heartbeat`
is over. So: many retries, a heartbeat of the lease, a sweep every second, the shortest there is.
The sweep then waits 5 s for the worker to give the job up, for one job after the other; that cannot
be set.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from saq import Queue, Status, Worker

from tests.chaos.ledger import Pen
from tests.chaos.orders import QUEUE, Orders
from tests.chaos.peers.base import Send, main, perform


def _queue(orders: Orders) -> Queue:
    return Queue.from_url(orders.url, name=QUEUE, max_concurrent_ops=100)


def work(orders: Orders, pen: Pen) -> None:
    async def task(ctx: Any, *, name: str, ms: int) -> None:
        await perform(pen, name, ms)

    async def started(ctx: Any) -> None:
        pen.note("ready")

    async def processed(ctx: Any) -> None:
        if ctx["job"].status == Status.COMPLETE:
            pen.note("settled", ctx["job"].key)

    async def run() -> None:
        queue = _queue(orders)
        worker = Worker(
            queue,
            functions=[("task", task)],
            concurrency=orders.concurrency,
            startup=started,
            after_process=processed,
            timers={"sweep": 1},
            shutdown_grace_period_s=10,
        )
        await queue.connect()
        try:
            await worker.start()
        finally:
            await queue.disconnect()

    asyncio.run(run())


@asynccontextmanager
async def sender(orders: Orders) -> AsyncGenerator[Send]:
    queue = _queue(orders)
    await queue.connect()

    async def send(id: str, ms: int) -> bool:
        job = await queue.enqueue(
            "task", key=id, retries=100, heartbeat=round(orders.lease), name=id, ms=ms
        )
        return job is not None

    yield send
    await queue.disconnect()


if __name__ == "__main__":
    main(work, sender)
