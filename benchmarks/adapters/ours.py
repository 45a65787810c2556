"""jobqueue itself, as its README shows it. Results are kept, as by default.

Arguments: ``without-uvloop``, ``without-hiredis``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

if "without-hiredis" in sys.argv:
    sys.modules["hiredis"] = None  # type: ignore[assignment] # as if it were not installed

from adapters.async_handlers import HANDLERS
from adapters.base import AsyncAdapter, Message, run
from jobqueue import JobType, Queue, __version__


class Ours(AsyncAdapter):
    packages = ("msgpack", "anyio")

    def __init__(self, opened: Message) -> None:
        super().__init__(opened)
        self.jobs = Queue(self.queue, self.url)
        self.types: dict[str, JobType[..., Any]] = {
            function.__name__: self.jobs.job()(function) for function in HANDLERS
        }

    def own_version(self) -> dict[str, str]:
        return {"jobqueue": __version__}

    async def open(self) -> None:
        await self.jobs.open()

    async def enqueue_one(self, handler: str, args: tuple[Any, ...]) -> None:
        await self.types[handler].enqueue(*args)

    async def enqueue_bulk(self, handler: str, args: Sequence[tuple[Any, ...]]) -> None:
        job_type = self.types[handler]
        await self.jobs.enqueue_many([job_type.spec(*one) for one in args])

    async def call_one(self, payload: str) -> Any:
        return await self.types["echo"].call(payload)

    async def work(self, concurrency: int, handler: str) -> None:
        self.worker = self.jobs.worker(concurrency=concurrency)
        await self.worker.__aenter__()


if __name__ == "__main__":
    run(Ours)
