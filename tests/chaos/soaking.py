"""Both sides of a long run: the queue that ``jobqueue worker`` loads, and the producer.

The producer is ``python -m tests.chaos.soaking``. Each line that it is sent is a number of rounds;
its answer is what it has taken of the machine when they are done.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import replace
from typing import Final

from jobqueue import Job, JobFailed, JobSpec, Queue, Retry
from jobqueue.options import JobOptions
from tests.chaos import usage

TTL: Final = 1.0
"""Seconds for which results are kept."""
AT_A_TIME: Final = 4
"""Rounds under way at a time, which bounds how much is queued."""
MANY: Final = 335
ONES: Final = {"echo": 30, "sync": 10, "flaky": 10, "broken": 5, "later": 5}
CALLS: Final = {"echo": 90, "broken": 10}
CANCELLED: Final = 5
JOBS_OF_A_ROUND: Final = MANY + sum(ONES.values()) + sum(CALLS.values()) + CANCELLED

queue = Queue("soak", concurrency=100, lease=2, result_ttl=TTL)


@queue.handler("echo")
async def echo(job: Job) -> object:
    return job.payload


queue.handler("later")(echo)


@queue.handler("sync")
def sync(job: Job) -> object:
    return job.payload


@queue.handler("flaky")
async def flaky(job: Job) -> object:
    return job.payload if job.attempt > 1 else Retry(0.01)


@queue.handler("broken")
async def broken(job: Job) -> None:
    raise ValueError("as it must")


@queue.handler("usage")
async def look(job: Job) -> dict[str, int]:
    """What the worker has taken of the machine."""
    return usage.own()


async def _round() -> None:
    """Use the queue in every way: many at once, one by one, called, failing, cancelled."""
    payload = "x" * 100
    await queue.enqueue_many(JobSpec("echo", payload) for _ in range(MANY))
    doomed = [await queue.enqueue("echo", payload, delay=60) for _ in range(CANCELLED)]
    await asyncio.gather(
        *(_one(name, payload) for name, count in ONES.items() for _ in range(count)),
        *(_call(name, payload) for name, count in CALLS.items() for _ in range(count)),
        *(queue.cancel(receipt.id) for receipt in doomed),
    )


async def _one(name: str, payload: str) -> None:
    options = JobOptions(max_attempts=1 if name == "broken" else 3)
    if name == "later":
        options = replace(options, delay=0.2)
    await queue.producer.enqueue_spec(JobSpec(name, payload, options))


async def _call(name: str, payload: str) -> None:
    options = JobOptions(max_attempts=1)
    try:
        answer = await queue.producer.call_spec(JobSpec(name, payload, options))
    except JobFailed:
        answer = payload if name == "broken" else None
    assert answer == payload, (name, answer)


async def _rounds(count: int) -> None:
    numbers = iter(range(count))

    async def some() -> None:
        for _ in numbers:
            await _round()

    await asyncio.gather(*(some() for _ in range(AT_A_TIME)))


async def _produce() -> None:
    async with queue:
        while line := await asyncio.to_thread(sys.stdin.readline):
            began = time.monotonic()
            await _rounds(int(line))
            took = time.monotonic() - began
            print(json.dumps(usage.own() | {"seconds": took}), flush=True)


if __name__ == "__main__":
    asyncio.run(_produce())
