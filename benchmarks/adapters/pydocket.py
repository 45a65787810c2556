"""docket (pydocket). Settings: https://docket.lol ("Getting started", "Production").

`Worker(concurrency=...)`; `add_many` is the documented way to add many, in pipelined chunks.
Executions are kept for 15 minutes, as by default. `execution.get_result()` waits by pub/sub. The
pool of redis-py 8 ends at 100 connections, which 100 jobs at a time exceed, so it is larger here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from docket import Docket, Worker

from adapters.async_handlers import HANDLERS
from adapters.base import AsyncAdapter, run


class Pydocket(AsyncAdapter):
    packages = ("pydocket",)

    async def open(self) -> None:
        self.docket = Docket(name=self.queue, url=f"{self.url}?max_connections=1000")
        await self.docket.__aenter__()
        self.functions = {function.__name__: function for function in HANDLERS}
        for function in HANDLERS:
            self.docket.register(function)

    async def enqueue_one(self, handler: str, args: tuple[Any, ...]) -> None:
        await self.docket.add(self.functions[handler])(*args)

    async def enqueue_bulk(self, handler: str, args: Sequence[tuple[Any, ...]]) -> None:
        call = self.docket.call(self.functions[handler])
        await self.docket.add_many([call(*one) for one in args])

    async def call_one(self, payload: str) -> Any:
        execution = await self.docket.add(self.functions["echo"])(payload)
        return await execution.get_result()

    async def work(self, concurrency: int, handler: str) -> None:
        self.worker = Worker(self.docket, concurrency=concurrency)
        await self.worker.__aenter__()
        self.task = asyncio.create_task(self.worker.run_forever())


if __name__ == "__main__":
    run(Pydocket)
