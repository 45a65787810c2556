"""jobqueue, with what decides when a job may start: limits, rates, priorities, due times.

More commands than the others have:

    {"do": "fill", "count": 100000, "keys": 1000}             of as many keys, in turn; 0: none
    {"do": "schedule", "count": 1000000, "delay": 86400}
    {"do": "limit", "key": "customers", "concurrency": 1}     or "type" and "rate" a second
    {"do": "urgent", "count": 20, "gap_ms": 50}               one at a time, of high priority
    {"do": "delayed", "count": 100, "most_ms": 900}           one after the other, each due soon
    {"do": "starts"}                                          {"starts_ns": [...]}
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from adapters.base import Message, clock, run
from adapters.ours import Ours
from jobqueue import JobOptions, JobSpec, Limit, Rate

PAYLOAD = "x" * 100
BULK = 10_000


class OursWithFlow(Ours):
    async def _fill(self, count: int, options: list[JobOptions]) -> None:
        for begin in range(0, count, BULK):
            await self.jobs.enqueue_many(
                JobSpec("noop", {"data": PAYLOAD}, options[n % len(options)])
                for n in range(begin, min(begin + BULK, count))
            )

    async def do_fill(self, message: Message) -> Message:
        keys = [JobOptions(limit="customers", key=f"k{n}") for n in range(message["keys"])]
        await self._fill(message["count"], keys or [JobOptions()])
        return {}

    async def do_schedule(self, message: Message) -> Message:
        await self._fill(message["count"], [JobOptions(delay=message["delay"])])
        return {}

    async def do_limit(self, message: Message) -> Message:
        if "key" in message:
            limit = Limit(concurrency=message["concurrency"])
            await self.jobs.limits.set(limit, key=message["key"])
        else:
            limit = Limit(rate=Rate(message["rate"], kind=message["kind"], burst=message["burst"]))
            await self.jobs.limits.set(limit, job_type=message["type"])
        return {}

    async def do_urgent(self, message: Message) -> Message:
        for _ in range(message["count"]):
            await asyncio.sleep(message["gap_ms"] / 1000)
            payload: dict[str, Any] = {"data": "", "enqueued_ns": time.monotonic_ns()}
            await self.jobs.enqueue("stamp", payload, priority="high")
        return {}

    async def do_delayed(self, message: Message) -> Message:
        for n in range(message["count"]):
            delay = message["most_ms"] / 1000 * (n % 10 + 1) / 10
            payload = {"data": "", "enqueued_ns": time.monotonic_ns() + int(delay * 1e9)}
            await self.jobs.enqueue("stamp", payload, delay=delay)
            await asyncio.sleep(0.05)
        await asyncio.sleep(message["most_ms"] / 1000 + 1)
        return {}

    async def do_starts(self, message: Message) -> Message:
        del message
        return {"starts_ns": clock.ends_ns}


if __name__ == "__main__":
    run(OursWithFlow)
