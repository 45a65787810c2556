"""The producer: enqueues one job for each file, and ends."""

from __future__ import annotations

import asyncio

from app import index, job_id, queue, source_files


async def main() -> None:
    async with queue:
        await queue.enqueue_many(
            index.options(id=job_id(path)).spec(path) for path in source_files()
        )


if __name__ == "__main__":
    asyncio.run(main())
