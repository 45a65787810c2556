"""RQ. Settings: https://python-rq.org/docs ("Workers", "Jobs", "Results").

A worker runs one job at a time, so concurrency does not apply. `SimpleWorker` runs jobs in its own
process; the default `Worker` forks for each, which is far slower. `enqueue_many` is the documented
bulk call. Results are kept for 500 s, as by default. `Result.fetch_latest(timeout=...)` is the
documented blocking wait for a result.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from redis import Redis
from rq import Queue, SimpleWorker
from rq.results import Result

from adapters import sync_handlers
from adapters.base import Message, SyncAdapter, run

FUNCTIONS = {function.__name__: function for function in sync_handlers.HANDLERS}


class Rq(SyncAdapter):
    packages = ("rq",)

    def __init__(self, opened: Message) -> None:
        super().__init__(opened)
        self.redis = Redis.from_url(self.url, max_connections=1000)
        self.jobs = Queue(self.queue, connection=self.redis)
        logging.getLogger("rq.worker").setLevel(logging.WARNING)

    def enqueue_one(self, handler: str, args: tuple[Any, ...]) -> None:
        self.jobs.enqueue(FUNCTIONS[handler], *args)

    def enqueue_bulk(self, handler: str, args: Sequence[tuple[Any, ...]]) -> None:
        function = FUNCTIONS[handler]
        self.jobs.enqueue_many([Queue.prepare_data(function, args=one) for one in args])

    def call_one(self, payload: str) -> Any:
        job = self.jobs.enqueue(FUNCTIONS["echo"], payload)
        result = Result.fetch_latest(job, timeout=60)
        assert result is not None
        return result.return_value

    def work(self, concurrency: int, handler: str) -> None:
        SimpleWorker([self.jobs], connection=self.redis).work(logging_level="WARNING")


if __name__ == "__main__":
    run(Rq)
