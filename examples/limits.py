"""How many at a time: by key, by job type, and starts in a time. On all workers together.

Needs no other process: it runs two workers of its own, on storage in memory.

    python examples/limits.py
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from jobqueue import Limit, Queue, Rate, Worker

queue = Queue("limits", "memory://", concurrency=20)
running: Counter[str] = Counter()
most: Counter[str] = Counter()


@queue.job(limits=Limit(concurrency=1, by="customer"))
async def bill(customer: str) -> None:
    running[customer] += 1
    most[customer] = max(most[customer], running[customer])
    most["all"] = max(most["all"], running.total())
    await asyncio.sleep(0.02)
    running[customer] -= 1


@queue.job(limits=Limit(rate=Rate(5, per=0.5)))
async def ask_the_api() -> float:
    return time.monotonic()


async def main() -> None:
    async with queue, Worker(queue), Worker(queue):
        customers = [f"c{number % 8}" for number in range(80)]
        for receipt in await queue.enqueue_many([bill.spec(each) for each in customers]):
            await receipt.result()
        of_one = max(count for name, count in most.items() if name != "all")
        print(f"bill: {of_one} at a time of one customer, {most['all']} at a time of all")

        receipts = await queue.enqueue_many([ask_the_api.spec() for _ in range(15)])
        starts = sorted([await receipt.result() for receipt in receipts])
        print(f"ask_the_api: 15 starts in {starts[-1] - starts[0]:.1f} s")

        await queue.limits.set(Limit(concurrency=3), job_type="bill")
        for info in await queue.limits.list():
            print(info.kind, info.name, "pinned" if info.pinned else "declared")


if __name__ == "__main__":
    asyncio.run(main())
