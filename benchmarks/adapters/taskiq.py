"""taskiq with its Redis brokers: `taskiq.py list` and `taskiq.py stream`.

Settings: https://taskiq-python.github.io ("CLI", "Available brokers", "Run taskiq
programmatically") and the README of taskiq-redis. `RedisStreamBroker` is the one that acknowledges;
`ListQueueBroker` loses what a dying worker holds. `--no-parse`, documented as a switch of the
worker, spares the parsing of parameters. Without calls there is no result backend, as by default;
with them `RedisAsyncResultBackend`, and `wait_result` polls: every millisecond, and every 10 ms
when many calls wait. There is no bulk enqueue.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import Any

from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

from adapters.async_handlers import HANDLERS
from adapters.base import AsyncAdapter, Message, run

CONNECTIONS = 200
"""More than tasks at a time, as the brokers' documentation asks for."""
BROKERS = {"list": ListQueueBroker, "stream": RedisStreamBroker}


class Taskiq(AsyncAdapter):
    packages = ("taskiq", "taskiq-redis")

    def __init__(self, kind: str, opened: Message) -> None:
        super().__init__(opened)
        connections = {"max_connection_pool_size": CONNECTIONS}
        broker = BROKERS[kind](self.url, queue_name=self.queue, **connections)
        if self.results:
            backend: Any = RedisAsyncResultBackend(self.url, result_ex_time=3600, **connections)
            broker = broker.with_result_backend(backend)
        self.broker = broker
        self.tasks = {
            function.__name__: broker.register_task(function, task_name=function.__name__)
            for function in HANDLERS
        }

    async def open(self) -> None:
        self.broker.is_worker_process = self.works
        await self.broker.startup()

    async def enqueue_one(self, handler: str, args: tuple[Any, ...]) -> None:
        await self.tasks[handler].kiq(*args)

    async def call_one(self, payload: str) -> Any:
        task = await self.tasks["echo"].kiq(payload)
        interval = 0.001 if self.in_flight == 1 else 0.01
        return (await task.wait_result(check_interval=interval)).return_value

    async def work(self, concurrency: int, handler: str) -> None:
        receiver = run_receiver_task(
            self.broker, max_async_tasks=concurrency, validate_params=False
        )
        self.task = asyncio.create_task(receiver)


if __name__ == "__main__":
    run(partial(Taskiq, sys.argv[1]))
