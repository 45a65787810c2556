"""Who starts first: levels, a share for the lowest one, and groups that take turns.

Needs no other process: it runs a worker of its own, on storage in memory.

    python examples/priorities.py
"""

from __future__ import annotations

import asyncio

from jobqueue import Priority, Queue, Receipt

queue = Queue("priorities", "memory://")
order: list[str] = []


@queue.job()
async def work(label: str) -> None:
    order.append(label)


async def run_all(receipts: list[Receipt[None]]) -> str:
    """Let a worker do these, one at a time; what it did in order."""
    order.clear()
    async with queue.worker(concurrency=1):
        for receipt in receipts:
            await receipt.result()
    return " ".join(order)


async def main() -> None:
    async with queue:
        receipts = [
            await work.options(priority=level).enqueue(f"{level}{number}")
            for level in (Priority.LOW, Priority.NORMAL, Priority.HIGH)
            for number in (1, 2)
        ]
        print("levels:", await run_all(receipts))

        await queue.set_low_share(0.25)
        receipts = [await work.options(priority="high").enqueue(f"high{n}") for n in range(1, 9)]
        receipts += [await work.options(priority="low").enqueue(f"low{n}") for n in (1, 2)]
        print("share: ", await run_all(receipts))

        receipts = [
            await work.options(group=tenant).enqueue(f"{tenant}{number}")
            for tenant, number in [("a", 1), ("a", 2), ("a", 3), ("a", 4), ("b", 1), ("c", 1)]
        ]
        print("groups:", await run_all(receipts))


if __name__ == "__main__":
    asyncio.run(main())
