"""dramatiq. Settings: https://dramatiq.io ("User Guide", "Best Practices", "Results").

A worker process has 8 threads by default. More of them help only jobs that wait, so the default
stays for those that do not, and sleeping ones get as many as the scenario's concurrency. Without
calls there is no result backend, as by default; with them `RedisBackend`, "the recommended result
backend". There is no bulk call.
"""

from __future__ import annotations

import time
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from adapters import sync_handlers
from adapters.base import Message, SyncAdapter, run

DEFAULT_THREADS = 8


class Dramatiq(SyncAdapter):
    packages = ("dramatiq",)

    def __init__(self, opened: Message) -> None:
        super().__init__(opened)
        url = f"{self.url}?max_connections=1000"  # redis-py 8 ends at 100: too few for 100 threads
        self.broker = RedisBroker(url=url)
        dramatiq.set_broker(self.broker)
        if self.results:
            self.broker.add_middleware(Results(backend=RedisBackend(url=url)))
        options: dict[str, Any] = {"broker": self.broker, "queue_name": self.queue}
        if self.results:
            options["store_results"] = True
        self.actors = {
            function.__name__: dramatiq.actor(function, **options)
            for function in sync_handlers.HANDLERS
        }

    def enqueue_one(self, handler: str, args: tuple[Any, ...]) -> None:
        self.actors[handler].send(*args)

    def call_one(self, payload: str) -> Any:
        return self.actors["echo"].send(payload).get_result(block=True, timeout=60_000)

    def work(self, concurrency: int, handler: str) -> None:
        threads = concurrency if handler == "sleep" else DEFAULT_THREADS
        dramatiq.Worker(self.broker, worker_threads=threads).start()
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    run(Dramatiq)
