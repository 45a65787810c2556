"""huey on its SQLite storage. Settings: https://huey.readthedocs.io ("Consumer", "Storage").

Threads, as the guide recommends when in doubt; SQLite has one writer, so 8 of them are no slower
than 100. The consumer polls: every 0.1 s, more seldom when nothing comes (`backoff`, `max_delay`);
set to 5 ms without a backoff. Results are stored only when the scenario asks for them.
There is no bulk call. `result(blocking=True)` polls too, from `backoff` up to `max_delay`.
"""

from __future__ import annotations

import time
from typing import Any

from huey import SqliteHuey

from adapters import sync_handlers
from adapters.base import Message, SyncAdapter, run

THREADS = 8


class Huey(SyncAdapter):
    packages = ("huey",)

    def __init__(self, opened: Message) -> None:
        super().__init__(opened)
        filename = self.url.removeprefix("sqlite://")
        self.huey = SqliteHuey(self.queue, filename=filename, results=self.results)
        self.tasks = {
            function.__name__: self.huey.task(name=function.__name__)(function)
            for function in sync_handlers.HANDLERS
        }

    def enqueue_one(self, handler: str, args: tuple[Any, ...]) -> None:
        self.tasks[handler](*args)

    def call_one(self, payload: str) -> Any:
        result = self.tasks["echo"](payload)
        return result.get(blocking=True, backoff=1, max_delay=0.005, timeout=60)

    def work(self, concurrency: int, handler: str) -> None:
        consumer = self.huey.create_consumer(
            workers=concurrency if handler == "sleep" else THREADS,
            worker_type="thread",
            initial_delay=0.005,
            backoff=1,
            max_delay=0.005,
            periodic=False,
        )
        consumer.start()
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    run(Huey)
