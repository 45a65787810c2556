"""Handlers that block the event loop, or ignore that they are cancelled.

Three ``jobqueue worker`` run jobs that keep their event loop for three leases each, asleep or busy,
while a reaper in this process, whose loop is free, looks for leases that have run out: each job
runs once, at its first attempt. Then workers are stopped in the middle of a job that swallows its
cancellation, or sits in a thread: the process has ended a second after the grace period, and its
job is back in the queue, its attempt not charged.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from jobqueue import JobSpec, Queue, Reaper
from jobqueue.options import JobOptions, QueueOptions
from tests.chaos.finding import Course, Finding
from tests.chaos.ledger import Ledger
from tests.chaos.processes import START_SECONDS, worker
from tests.chaos.rude import LEASE
from tests.integration.asking import counted, info_of
from tests.support.wait import wait_until

APP: Final = "tests.chaos.rude:queue"
BLOCKED: Final = 3 * LEASE
JOBS: Final = 24
WORKERS: Final = 3
STOPS: Final = 5
GRACE: Final = 0.5
BEYOND: Final = 1.0
"""Seconds after the grace period within which a stop is over."""


async def take(course: Course) -> Finding:
    """Count the runs of jobs that block, and time the stops of workers."""
    backend = course.backend()
    finding = Finding()
    try:
        jobs = max(WORKERS, round(JOBS * course.scale))
        await _run_once(course, backend.url, jobs, finding)
        for name in ("swallow", "stick"):
            await _stops(course, backend.url, name, max(1, round(STOPS * course.scale)), finding)
    finally:
        backend.close()
    return finding


async def _run_once(course: Course, url: str, jobs: int, finding: Finding) -> None:
    ledger = Ledger(course.folder / "blocked")
    ledger.folder.mkdir()
    names = ("block", "spin")
    specs = [
        JobSpec(names[n % 2], [str(ledger.folder), BLOCKED], JobOptions(id=f"blocking {n}"))
        for n in range(jobs)
    ]
    async with Queue("rude", url) as queue:
        await queue.enqueue_many(specs)
        async with Reaper(url, "rude", options=QueueOptions(lease=LEASE)):
            with ExitStack() as stack:
                for _ in range(WORKERS):
                    stack.enter_context(worker(APP, url, course.folder))
                await wait_until(
                    lambda: _all_ended(queue, jobs),
                    START_SECONDS + 3 * BLOCKED * jobs / WORKERS,
                    "all jobs that block have ended",
                )
    ledger.refresh()
    runs = Counter(entry.about for entry in ledger.of("start"))
    attempts = max(entry.attempt for entry in ledger.of("start"))
    finding.add("blocking_jobs", jobs, f"{jobs} jobs block their loop for 3 leases of {LEASE:g} s")
    finding.add("blocking_runs", runs.total(), f"{runs.total()} runs of them")
    if runs.total() != jobs or len(runs) != jobs or attempts != 1:
        finding.problems.append(f"not once each: {runs}, attempts up to {attempts}")


async def _all_ended(queue: Queue, jobs: int) -> bool:
    return await counted(queue) == {"completed": jobs}


async def _stops(course: Course, url: str, name: str, times: int, finding: Finding) -> None:
    ends = [await end_of_worker(course, url, name, number) for number in range(times)]
    latest = max(end.beyond for end in ends)
    words = f"{times} stops of {name}: at most {latest:.2f} s after the grace period"
    finding.add(f"{name}_beyond_grace", [round(end.beyond, 3) for end in ends], words)
    if latest > BEYOND:
        finding.problems.append(words)
    for end in ends:
        if (end.code, end.state, end.attempt) != (0, "queued", 0):
            finding.problems.append(f"{name}: {end}")


@dataclass(frozen=True, kw_only=True)
class End:
    """How a worker process ended that was stopped in the middle of a job.

    Attributes:
        beyond: Seconds from the end of the grace period to the end of the process.
        code: Its exit code.
        state: Of the job, afterwards.
        attempt: Attempts that the job was charged.
        words: The last ones of the process.
    """

    beyond: float
    code: int
    state: str
    attempt: int
    words: str


async def end_of_worker(course: Course, url: str, name: str, number: int) -> End:
    """Stop a worker while it runs a job of this type."""
    ledger = Ledger(course.folder / f"{name}-{number}")
    ledger.folder.mkdir()
    id = f"{name} {number}"
    async with Queue("rude", url) as queue:
        await queue.enqueue(name, [str(ledger.folder), 3600], id=id)
        with worker(APP, url, course.folder, "--grace", f"{GRACE:g}") as works:
            await wait_until(ledger.refresh, START_SECONDS, "the job runs")
            works.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            code = await asyncio.to_thread(works.process.wait, START_SECONDS)
            beyond = time.monotonic() - began - GRACE
            words = works.last_words()
        info = await info_of(queue, id)
        await queue.cancel(id)
    return End(beyond=beyond, code=code, state=info.state, attempt=info.attempt, words=words)
