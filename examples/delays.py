"""Jobs that wait for their time: a delay, a moment, another moment, and now after all.

Needs no other process: it runs a worker of its own, on storage in memory.

    python examples/delays.py
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

from jobqueue import Queue

queue = Queue("delays", "memory://")
began = time.monotonic()


@queue.job()
async def remind(what: str) -> str:
    return f"{what:10} after {time.monotonic() - began:.1f} s"


async def main() -> None:
    async with queue, queue.worker():
        in_an_hour = datetime.now(UTC) + timedelta(hours=1)
        tea = await remind.options(delay=0.6).enqueue("tea")
        bread = await remind.options(run_at=in_an_hour).enqueue("bread")
        laundry = await remind.options(delay=3600).enqueue("laundry")
        flight = await remind.options(run_at=in_an_hour).enqueue("flight")

        print("reschedule:", await queue.reschedule(bread.id, 0.3))
        print("run now:   ", await queue.run_now(laundry.id))
        print("cancel:    ", await queue.cancel(flight.id))
        waiting = await queue.scheduled()
        print("waiting:   ", *(job.payload["what"] for job in waiting))
        for receipt in (laundry, bread, tea):
            print(await receipt.result())
        print("run now:   ", await queue.run_now(tea.id))


if __name__ == "__main__":
    asyncio.run(main())
