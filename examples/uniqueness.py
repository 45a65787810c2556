"""Jobs that are one too many: unique, throttle, debounce, keep_last, and what the receipt says.

Needs no other process: it runs a worker of its own, on storage in memory.

    python examples/uniqueness.py
"""

from __future__ import annotations

import asyncio
from typing import Any

from jobqueue import Debounce, JobType, KeepLast, Queue, Throttle, Unique

queue = Queue("uniqueness", "memory://")
ran: list[str] = []


@queue.job(unique=Unique(by="user", until="finished"))
async def export(user: int, colour: str) -> None:
    ran.append(colour)


@queue.job(throttle=Throttle(60, by="user"))
async def alert(user: int, colour: str) -> None:
    ran.append(colour)


@queue.job(debounce=Debounce(0.2, max_wait=2, by="user"))
async def reindex(user: int, colour: str) -> None:
    ran.append(colour)


@queue.job(keep_last=KeepLast(by="user"))
async def sync(user: int, colour: str) -> None:
    ran.append(colour)
    await asyncio.sleep(0.2)


async def three_times(job_type: JobType[Any, None]) -> None:
    """Enqueue three jobs that are the same for the rule; show what became of each."""
    ran.clear()
    said: list[str] = []
    first = None
    for colour in ("red", "green", "blue"):
        receipt = await job_type.enqueue(7, colour)
        first = first or receipt.id
        said.append(f"{receipt.status} the {'first' if receipt.id == first else 'second'}")
        await asyncio.sleep(0.05)
    counts = await queue.counts()
    while counts["queued"] or counts["running"] or counts["scheduled"]:
        await asyncio.sleep(0.05)
        counts = await queue.counts()
    print(f"{job_type.name:8} {', '.join(said):52} ran: {' '.join(ran)}")


async def main() -> None:
    async with queue:
        await queue.pause()
        async with queue.worker():
            receipts = [await export.enqueue(7, colour) for colour in ("red", "green", "blue")]
            print("export  ", *(f"{receipt.status}" for receipt in receipts))
            await queue.resume()
            await receipts[2].result()  # of the one that is there
            for job_type in (alert, reindex, sync):
                await three_times(job_type)


if __name__ == "__main__":
    asyncio.run(main())
