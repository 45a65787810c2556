"""The smallest program: one job type, one call. Run it from the folder above.

    jobqueue worker examples.hello:queue     # in one terminal
    python examples/hello.py                 # in another

Both use the SQLite file ``jobqueue.db`` in that folder, or what ``JOBQUEUE_URL`` says.
"""

from __future__ import annotations

import asyncio

from jobqueue import Queue

queue = Queue("hello")


@queue.job()
async def greet(name: str) -> str:
    return f"Hello, {name}!"


async def main() -> None:
    async with queue:
        print(await greet.options(wait=8).call("world"))


if __name__ == "__main__":
    asyncio.run(main())
