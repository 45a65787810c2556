"""A queue as a whole: pause, resume, a maximum length, drain, clear, obliterate.

Needs no other process: it runs a worker of its own, on storage in memory.

    python examples/queue_control.py
"""

from __future__ import annotations

import asyncio

from jobqueue import Queue, QueueDraining, QueueFull

queue = Queue("control", "memory://")


@queue.job()
async def work(number: int) -> int:
    return number


async def main() -> None:
    async with queue, queue.worker():
        await queue.pause()
        await queue.set_max_length(3)
        for number in range(4):
            try:
                await work.enqueue(number)
            except QueueFull as full:
                print(f"full: {full.limit} wait, again in about {full.retry_after:.0f} s")
        print("paused:", (await queue.counts())["queued"], "queued")
        await queue.resume()

        await queue.drain(wait=10)
        try:
            await work.enqueue(5)
        except QueueDraining as refused:
            print(refused)
        print("drained:", (await queue.counts())["completed"], "completed")
        await queue.resume()

        await work.options(delay=3600).enqueue(6)
        print("cleared:", await queue.clear())
        print("obliterated:", await queue.obliterate("control"))
        print(await queue.control())


if __name__ == "__main__":
    asyncio.run(main())
