"""streaQ: https://streaq.readthedocs.io ("Worker": `idle_timeout`; "Getting started").

It says of itself that tasks are executed pessimistically: a task that was running or prefetched
goes to another worker when it was idle for `idle_timeout` (60 s by default), and a worker renews
what it runs. So: an idle timeout of the lease, and no end to the tries (3 by default). A task's id
is set as its own cron jobs do it. There is no hook for "the result is stored", so the method that
stores it is watched.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from streaq import Worker

from tests.chaos.ledger import Pen
from tests.chaos.orders import QUEUE, Orders
from tests.chaos.peers.base import Send, main, perform


def _settings(orders: Orders) -> dict[str, Any]:
    return {
        "redis_url": orders.url,
        "queue_name": QUEUE,
        "concurrency": orders.concurrency,
        "idle_timeout": orders.lease,
        "grace_period": 10,
    }


def work(orders: Orders, pen: Pen) -> None:
    class Watched(Worker[None]):
        async def finish_task(self, msg: Any, finish: bool, **kwargs: Any) -> None:
            await super().finish_task(msg, finish=finish, **kwargs)
            if finish:
                pen.note("settled", msg.task_id)

    @asynccontextmanager
    async def started() -> AsyncGenerator[None]:
        pen.note("ready")
        yield

    worker = Watched(lifespan=started, **_settings(orders))

    @worker.task(name="task", max_tries=None)
    async def task(id: str, ms: int) -> None:
        await perform(pen, id, ms)

    worker.run_sync()


@asynccontextmanager
async def sender(orders: Orders) -> AsyncGenerator[Send]:
    worker: Worker[None] = Worker(**_settings(orders))

    @worker.task(name="task", max_tries=None)
    async def task(id: str, ms: int) -> None: ...

    async def send(id: str, ms: int) -> bool:
        sent = task.enqueue(id, ms)
        sent.id = id
        await sent
        return True

    async with worker:
        yield send


if __name__ == "__main__":
    main(work, sender)
