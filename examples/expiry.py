"""Jobs that nobody needs any more: not started in time, or left by their caller.

Needs no other process: it runs a worker of its own, on storage in memory.

    python examples/expiry.py
"""

from __future__ import annotations

import asyncio

from jobqueue import JobExpired, Queue, WaitTimeout

queue = Queue("expiry", "memory://")
ran: list[str] = []


@queue.job(expires=0.3)
async def quote(symbol: str) -> None:
    ran.append(symbol)


@queue.job(drop_abandoned=True)
async def search(text: str) -> None:
    ran.append(text)


async def main() -> None:
    async with queue:
        late = await quote.enqueue("too late")
        try:
            await search.options(wait=0.1).call("nobody waits")
        except WaitTimeout:
            print("its caller waits no longer, and it has not started: it is dropped")
        await asyncio.sleep(0.4)  # there is no worker meanwhile

        async with queue.worker():
            await quote.call("in time")
            try:
                await late.result()
            except JobExpired as error:
                print(error)
        print("ran:", *ran)
        counts = await queue.counts()
        print(f"{counts['completed']} completed, {counts['cancelled']} cancelled")


if __name__ == "__main__":
    asyncio.run(main())
