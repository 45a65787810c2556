"""A worker inside an application, many jobs at once, and events as they happen.

python examples/embedded_worker.py
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

from jobqueue import Event, Queue

queue = Queue("digests", "memory://", concurrency=4)


@queue.job()
def digest(text: str) -> str:
    """A plain function: it runs in a thread and blocks nobody."""
    return hashlib.sha256(text.encode()).hexdigest()


async def show(events: AsyncIterator[Event]) -> None:
    async for event in events:
        print(f"  {event.type:9} {event.id}")


async def main() -> None:
    async with queue, queue.events() as events, queue.worker():
        watching = asyncio.create_task(show(events))
        words = ["alpha", "beta", "gamma"]
        receipts = await queue.enqueue_many(
            digest.options(id=f"digest:{word}").spec(word) for word in words
        )
        for word, receipt in zip(words, receipts, strict=True):
            print(word, (await receipt.result(wait=10))[:16])

        # The same id again: answered with the result that is there, nothing runs.
        again = await digest.options(id="digest:alpha").enqueue("alpha")
        print("again:", again.status)
        watching.cancel()


if __name__ == "__main__":
    asyncio.run(main())
