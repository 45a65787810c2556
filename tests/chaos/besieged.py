"""Both sides of a load that does not let up: the queue that ``jobqueue worker`` loads, and callers.

The callers are ``python -m tests.chaos.besieged``. Each asks again as soon as it has an answer, an
error, or lost its patience; half of them wait for results. A line is answered with what they have
been told since the last one.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from typing import Final

from jobqueue import Job, Queue, StorageUnavailable

CALLERS: Final = 200
PATIENCE: Final = 0.1
"""Seconds after which a caller gives up."""
BYTES: Final = 2_000
"""Of each payload and each result."""
SLOTS: Final = 100

queue = Queue("besieged", concurrency=SLOTS, lease=2, result_ttl=1, grace=1)


@queue.handler("echo")
async def echo(job: Job) -> object:
    await asyncio.sleep(0.01)
    return job.payload


async def _call_for_ever(told: Counter[str], *, waits: bool) -> None:
    send = queue.enqueue_and_wait if waits else queue.enqueue
    while True:
        try:
            async with asyncio.timeout(PATIENCE):
                await send("echo", "x" * BYTES)
            told["answered"] += 1
        except TimeoutError:
            told["gave up"] += 1
        except StorageUnavailable:
            told["refused"] += 1
            await asyncio.sleep(PATIENCE)


async def main() -> None:
    told: Counter[str] = Counter()
    async with queue:
        callers = [
            asyncio.create_task(_call_for_ever(told, waits=bool(number % 2)))
            for number in range(CALLERS)
        ]
        while await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(told), flush=True)
            told.clear()
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)


if __name__ == "__main__":
    asyncio.run(main())
