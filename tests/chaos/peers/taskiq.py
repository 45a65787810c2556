"""taskiq: the README of taskiq-redis ("Stream") and https://taskiq-python.github.io ("CLI").

`RedisStreamBroker` is its broker with acknowledgements, for when "data durability is required"; the
others lose what a dying worker holds. It is started as the command `taskiq worker` starts it, and
acknowledges when the task is done and saved, its default. What was idle for `idle_timeout` (10
minutes by default) goes to another worker, when that one has just read new messages. Nothing
renews a running task's time, so it has to be longer than the jobs: the lease. The lock that guards
the take-over expires with it (never, by default). Reads are as large as a worker's capacity (100
messages by default), because what waits in a worker's memory grows idle as well.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from taskiq import TaskiqEvents, TaskiqMessage, TaskiqMiddleware, TaskiqResult
from taskiq.cli.worker.args import WorkerArgs
from taskiq.cli.worker.run import start_listen
from taskiq_redis import RedisStreamBroker

from tests.chaos.ledger import Pen
from tests.chaos.orders import QUEUE, Orders
from tests.chaos.peers.base import Send, main, perform


def _broker(orders: Orders) -> RedisStreamBroker:
    return RedisStreamBroker(
        orders.url,
        queue_name=QUEUE,
        max_connection_pool_size=100,
        consumer_id="0",
        idle_timeout=round(orders.lease * 1000),
        unacknowledged_lock_timeout=orders.lease,
        xread_block=500,
        xread_count=orders.concurrency,
    )


def work(orders: Orders, pen: Pen) -> None:
    class Noting(TaskiqMiddleware):
        async def post_save(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
            pen.note("settled", message.task_id)

    async def started(state: Any) -> None:
        pen.note("ready")

    async def task(id: str, ms: int) -> None:
        await perform(pen, id, ms)

    broker = _broker(orders).with_middlewares(Noting())
    broker.add_event_handler(TaskiqEvents.WORKER_STARTUP, started)
    broker.register_task(task, task_name="task")
    start_listen(
        WorkerArgs(
            broker=broker,
            modules=[],
            configure_logging=False,
            max_async_tasks=orders.concurrency,
            wait_tasks_timeout=10,
        )
    )


@asynccontextmanager
async def sender(orders: Orders) -> AsyncGenerator[Send]:
    broker = _broker(orders)
    task = broker.register_task(_task, task_name="task")
    await broker.startup()

    async def send(id: str, ms: int) -> bool:
        await task.kicker().with_task_id(id).kiq(id, ms)
        return True

    yield send
    await broker.shutdown()


async def _task(id: str, ms: int) -> None: ...


if __name__ == "__main__":
    main(work, sender)
