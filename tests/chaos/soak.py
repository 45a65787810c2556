"""A million jobs through one worker, and what is left of them.

The worker is ``jobqueue worker`` in a process of its own, the producer another one; between them is
a server of their own, or a file. The jobs are of every kind: most are enqueued 335 at a time, the
others one by one, or called; some are sync, retried, delayed, cancelled, or fail. Results are kept
for a second.

The baseline is taken after a warm-up of 50,000 jobs, when every cache has filled (SQLite's too),
every buffer has its size and all results are forgotten; the end in the same way. So what is
compared is two moments of quiet, and everything that stays of a job is seen:

- keys of the server, or rows of the file: the same number;
- memory of the server (``used_memory`` without the buffers of its connections): within 1 %; bytes
  of the file, with its log: within 1 % and the 1 MiB of unused pages that it keeps;
- descriptors of worker and producer: the same number;
- resident memory of worker and producer: within 1 % and one arena of Python's allocator (1 MiB),
  which it takes or not as objects happen to lie. It is what the machine says, with all that the
  allocators keep for later. In a million jobs, two bytes left of each are too many;
- blocks, the pieces of memory that Python's objects are made of: within 1 %. They are exact where
  resident memory is not: in a million jobs, one object left of every 500 jobs is too many.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from jobqueue import Queue
from tests.chaos import usage
from tests.chaos.finding import Course, Finding
from tests.chaos.processes import Program, program, worker
from tests.chaos.soaking import JOBS_OF_A_ROUND
from tests.integration.asking import counted
from tests.integration.census import stored_size
from tests.support.backends import Backend, RedisBackend
from tests.support.wait import wait_until

JOBS: Final = 1_000_000
_SQLITE: Final = 0.1
"""The part of that for SQLite, which commits each step to the disk."""
_WARM_UP: Final = 0.05
_WARM_UP_ROUNDS: Final = 20
_MAY_GROW: Final = 0.01
_SECONDS_A_ROUND: Final = 2.0
"""Far more than it takes: a machine may be busy."""
_FORGOTTEN_WITHIN: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class Quiet:
    """What everybody has taken when nothing is queued, runs or is kept."""

    worker: dict[str, int]
    producer: dict[str, int]
    storage: dict[str, int]
    seconds: float


async def take(course: Course) -> Finding:
    """Run the jobs, and compare what everybody has taken with the baseline."""
    full = JOBS * course.scale / JOBS_OF_A_ROUND
    warm_up = max(_WARM_UP_ROUNDS, round(full * _WARM_UP))
    rounds = max(2 * warm_up, round(full * (_SQLITE if course.entry.kind == "sqlite" else 1)))
    before, after = await before_and_after(course, warm_up, rounds - warm_up)
    finding = Finding()
    jobs, first = rounds * JOBS_OF_A_ROUND, warm_up * JOBS_OF_A_ROUND
    rate = (jobs - first) / after.seconds
    finding.add("jobs", jobs, f"{jobs:,} jobs, {first:,} before the baseline")
    finding.add("rate", round(rate), f"{rate:,.0f} jobs/s")
    for side in ("storage", "worker", "producer"):
        _compare(finding, side, getattr(before, side), getattr(after, side))
    return finding


async def before_and_after(course: Course, warm_up: int, rounds: int) -> tuple[Quiet, Quiet]:
    """What everybody has taken after so many rounds of warm-up, and after so many more."""
    backend = course.backend()
    try:
        with (
            worker("tests.chaos.soaking:queue", backend.url, course.folder) as works,
            program(["-m", "tests.chaos.soaking"], backend.url, course.folder) as produces,
        ):
            before = await _after(warm_up, backend, works, produces)
            after = await _after(rounds, backend, works, produces)
            return before, after
    finally:
        backend.close()


async def _after(rounds: int, backend: Backend, works: Program, produces: Program) -> Quiet:
    """Run so many rounds, and wait until all of their jobs are forgotten."""
    producer = await produces.ask(rounds, 60 + rounds * _SECONDS_A_ROUND)
    async with Queue("soak", backend.url) as queue:

        async def all_are_forgotten() -> bool:
            assert works.process.poll() is None, works.last_words()
            return not await counted(queue)

        await wait_until(all_are_forgotten, _FORGOTTEN_WITHIN, "all jobs are forgotten")
        worker = await queue.enqueue_and_wait("usage", result_ttl=0.1)
    await wait_until(lambda: _is_quiet(backend), _FORGOTTEN_WITHIN, "the storage is at rest")
    stored = await asyncio.to_thread(_stored, backend)
    seconds = producer.pop("seconds")
    return Quiet(worker=worker, producer=producer, storage=stored, seconds=seconds)


def _is_quiet(backend: Backend) -> bool:
    """Whether there is only what a queue without jobs has, and nothing waits for its expiry."""
    if isinstance(backend, RedisBackend):
        return all(key.split(b":")[2] in _OF_NO_JOB for key in backend.admin.keys("*"))
    rows = stored_size(backend)["rows"]
    return not (rows["jobs"] or rows["specs"] or rows["messages"])


_OF_NO_JOB: Final = {b"counts", b"workers", b"listeners", b"claimed"}


def _stored(backend: Backend) -> dict[str, int]:
    if isinstance(backend, RedisBackend):
        return usage.of_server(backend.admin)
    size = stored_size(backend)
    return {"rows": sum(size["rows"].values()), "file": size["bytes"]}


def _compare(finding: Finding, side: str, before: dict[str, int], after: dict[str, int]) -> None:
    for name in before:
        first, last = before[name], after[name]
        grown = last / first - 1
        allowed = 0.0 if name in _EXACT else _MAY_GROW
        if name in ("memory", "resident", "file"):
            words = f"{side} {name} {first / 2**20:.2f} -> {last / 2**20:.2f} MiB ({grown:+.2%})"
        else:
            words = f"{side} {name} {first:,} -> {last:,} ({grown:+.2%})"
        allowed += _ROOM.get(name, 0) / first
        finding.add(f"{side}_{name}", [first, last], words)
        if grown > allowed:
            finding.problems.append(f"grown: {words}")


_EXACT: Final = ("keys", "rows", "clients", "descriptors")
_ROOM: Final = {"file": 256 * 4096, "resident": 2**20}
"""Bytes that are allowed beyond that: a SQLite file keeps 256 unused pages for the next jobs, and
Python takes memory from the machine in arenas of 1 MiB."""
