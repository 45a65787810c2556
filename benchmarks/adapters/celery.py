"""Celery. Settings: https://docs.celeryq.dev ("Optimizing", "Concurrency", "Workers Guide").

One process with 100 jobs at a time is the `threads` pool; the default prefork pool would be 100
processes. Without calls, results are switched off ("Tips and Best Practices": "Ignore results you
don't want"); with them, the Redis backend. Gossip, mingle and heartbeat are switched off, as the
guide suggests for a single worker. There is no bulk call: a group sends its tasks one by one.
"""

from __future__ import annotations

from typing import Any

from celery import Celery

from adapters import sync_handlers
from adapters.base import Message, SyncAdapter, run


class CeleryAdapter(SyncAdapter):
    packages = ("celery", "kombu")

    def __init__(self, opened: Message) -> None:
        super().__init__(opened)
        self.app = Celery(broker=self.url, backend=self.url if self.results else None)
        self.app.conf.update(
            task_default_queue=self.queue,
            task_ignore_result=not self.results,
            broker_connection_retry_on_startup=True,
            worker_hijack_root_logger=False,
        )
        self.tasks = {
            function.__name__: self.app.task(name=function.__name__)(function)
            for function in sync_handlers.HANDLERS
        }

    def enqueue_one(self, handler: str, args: tuple[Any, ...]) -> None:
        self.tasks[handler].apply_async(args)

    def call_one(self, payload: str) -> Any:
        result = self.tasks["echo"].delay(payload)
        return result.get(timeout=60)

    def work(self, concurrency: int, handler: str) -> None:
        self.app.Worker(
            pool="threads",
            concurrency=concurrency,
            loglevel="ERROR",
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            quiet=True,
        ).start()


if __name__ == "__main__":
    run(CeleryAdapter)
