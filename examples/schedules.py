"""Jobs that come again and again: every so often, by the clock, and at run time.

Needs no other process: it runs two workers of its own, on storage in memory. Each instant makes one
job, however many workers there are.

    python examples/schedules.py
"""

from __future__ import annotations

import asyncio

from jobqueue import Cron, Queue, Worker, current_job

queue = Queue("schedules", "memory://")
ticks: list[str] = []
enough = asyncio.Event()


@queue.every(0.5)
async def tick() -> None:
    ticks.append(current_job().id)
    if len(ticks) == 4:
        enough.set()


@queue.cron("30 2 * * *", tz="Europe/Rome", misfire="once", overlap="skip")
async def nightly() -> str:
    return "the books are closed"


@queue.job()
async def report(customer: str) -> str:
    return f"report for {customer}"


async def main() -> None:
    async with queue, Worker(queue), Worker(queue):
        friday = Cron("0 9 * * FRI", tz="Europe/Rome")
        await queue.schedules.upsert("report:7", friday, report.spec("customer 7"))
        print(await (await queue.schedules.run_now("report:7")).result())
        print(await (await queue.schedules.run_now("nightly")).result())

        await enough.wait()
        await queue.schedules.pause("tick")
        print(f"{len(ticks)} ticks of {len(set(ticks))} instants, such as {ticks[0][:15]}...")

        for schedule in await queue.schedules.list():
            when = "paused" if schedule.paused else f"next in {schedule.next_at:%Y}"
            print(f"{schedule.id:9} {schedule.spec:28} {when}")


if __name__ == "__main__":
    asyncio.run(main())
