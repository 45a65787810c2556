"""One run of one scenario, from an empty home to its verdict."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, TypeAlias

from jobqueue import Queue, StorageError
from jobqueue.storage.types import MAX_BATCH, StoredJob
from tests.chaos.director import Director
from tests.chaos.loads import FLOW, JOBS_OF_A_KEY, PLAIN
from tests.chaos.orders import QUEUE, Orders, job_id
from tests.chaos.programs import open_queue
from tests.chaos.promises import Promises, left_under_limits, state_of
from tests.chaos.report import Report
from tests.chaos.scenarios import Scenario
from tests.chaos.stage import Stage, stage
from tests.chaos.verdict import Books
from tests.support.servers import ServerBinary

Show: TypeAlias = Callable[[int, int], None]
"""Told now and then how many jobs have been run, of how many."""

_LOOK_EVERY: Final = 0.02
_STUCK_SECONDS: Final = 60.0
"""Nothing at all happens for this long: the run is given up, and the verdict says what is left."""
_STRANDED_SECONDS: Final = 20.0
"""The same when all has been enqueued and no more harm is done: what is left now is lost. That it
takes longer than two leases and 2 s to find it is :attr:`Verdict.late`."""


async def run(
    scenario: Scenario,
    *,
    seed: int,
    scale: float = 1.0,
    workers: int | None = None,
    lease: float | None = None,
    binary: ServerBinary | None = None,
    flow: bool = False,
    show: Show = lambda done, of: None,
) -> Report:
    """Run a scenario.

    Args:
        scenario: Which.
        seed: Of all that is drawn: which worker is killed after how many jobs, how long handlers
            run. The processes' own pace is not drawn, so a replay is alike, not equal.
        scale: Part of the full size.
        workers: Worker processes, if not as many as the scenario has.
        lease: Of the queue in seconds, if not the scenario's.
        binary: The server, where there is one; the first one found by default.
        flow: With time and flow in all that the jobs say, and in what holds for the queue.
        show: Told how far it is.
    """
    began = time.monotonic()
    if flow and scenario.load == PLAIN and not scenario.ticks:
        scenario = replace(scenario, load=FLOW)
    size = scenario.size(scale, workers, lease)
    async with stage(scenario.where, binary, scenario.persistence, size, seed) as place:
        problems, idle = await _perform(scenario, place, show)
        books = Books(
            place.ledger,
            lease=size.lease,
            window=scenario.persistence.window,
            cut_off=scenario.cuts,
        )
        numbered = size.jobs if scenario.is_numbered else 0
        stored = await _stored(place, numbered)
        verdict = books.judge(_states(stored))
        verdict.unexpected += problems
        figures = Promises(books, stored, scenario.load).judge(verdict)
        if idle > 2 * size.lease + 2:
            verdict.late.append(f"nothing happened for {idle:.1f} s, and then the rest was run")
        findings = await asyncio.to_thread(place.home.examine)
        verdict.unexpected += findings.faults
        figures = findings.figures | scenario.judge(books, verdict) | figures
        warnings = [entry.about for entry in place.ledger.of("warning", "refused")]
        return Report(
            scenario=scenario.name,
            title=scenario.title,
            server=place.home.label,
            seed=seed,
            scale=scale,
            size=size,
            verdict=verdict,
            faults=place.faults,
            figures=figures,
            warnings=warnings,
            seconds=time.monotonic() - began,
        )


def _orders(scenario: Scenario, place: Stage) -> Orders:
    return Orders(
        url=place.home.url,
        folder=str(place.ledger.folder),
        lease=place.size.lease,
        concurrency=scenario.concurrency,
        sleep_ms=scenario.sleep_ms,
        load=scenario.load,
        keys=max(2, place.size.jobs // JOBS_OF_A_KEY),
        # So few that enqueueing lasts as long as the run, and its faults meet both sides.
        backlog=max(20, min(scenario.backlog, place.size.jobs // 20)),
        seed=place.seed,
        skew_ms=scenario.skew_ms,
    )


async def _perform(scenario: Scenario, place: Stage, show: Show) -> tuple[list[str], float]:
    """Start everybody, do harm, wait until all is done.

    Returns:
        What went wrong with the processes, and the longest time in which nothing happened although
        there was work and no more harm.
    """
    orders = _orders(scenario, place)
    fleet = place.fleet
    director = Director(place, orders)
    await director.begin()
    await fleet.start_workers(place.size.workers, orders)
    _start_producers(scenario, place, orders)
    harm = asyncio.create_task(scenario.plan(place))
    directing = asyncio.create_task(director.direct())
    problems = await _watch(place, harm, show)
    director.stop()
    await directing
    await director.end()
    async with open_queue(orders) as queue:
        idle = await _drained(place, queue, show)
        problems += left_under_limits(await queue.storage.limits(QUEUE))
    problems += fleet.deserters()
    problems += await fleet.stop_workers()
    return problems, idle


def _start_producers(scenario: Scenario, place: Stage, orders: Orders) -> None:
    dice = place.dice("payloads")
    count = len(scenario.producers)
    borders = [place.size.jobs * number // count for number in range(count + 1)]
    for number, (program, batch) in enumerate(scenario.producers):
        first, end = borders[number], borders[number + 1]
        more = replace(
            orders,
            first=first,
            count=end - first,
            batch=min(batch, orders.backlog),
            seed=dice.getrandbits(32),
        )
        place.fleet.start_producer(program, more)


async def _watch(place: Stage, harm: asyncio.Task[Any], show: Show) -> list[str]:
    """Wait until the producers and the faults are done, or nothing happens any more."""
    ledger, fleet = place.ledger, place.fleet
    happened_at, done = time.monotonic(), 0
    while fleet.producing or not harm.done():
        ledger.refresh()
        show(len(ledger.ended), place.size.jobs)
        if (now_done := _done(place)) != done:
            happened_at, done = time.monotonic(), now_done
        elif time.monotonic() - happened_at > _STUCK_SECONDS:
            harm.cancel()
            await asyncio.wait([harm])
            return [f"nothing happened for {_STUCK_SECONDS:g} s, with {done} steps done"]
        if harm.done() and harm.exception() is not None:
            break
        await asyncio.sleep(_LOOK_EVERY)
    await harm
    return []


def _done(place: Stage) -> int:
    counts = place.ledger.counts
    return sum(counts[kind] for kind in ("accepted", "ready", "start", "end", "settled"))


async def _drained(place: Stage, queue: Queue, show: Show) -> float:
    """Wait until no job waits or runs, or nothing happens any more; the longest idle time."""
    happened_at, done, longest = time.monotonic(), -1, 0.0
    while (idle := time.monotonic() - happened_at) < _STRANDED_SECONDS:
        longest = max(longest, idle)
        place.ledger.refresh()
        show(len(place.ledger.ended), place.size.jobs)
        if (now_done := _done(place)) != done:
            happened_at, done = time.monotonic(), now_done
        with suppress(StorageError):
            counts = await queue.counts()
            waiting = sum(counts[state] for state in ("scheduled", "queued", "running", "retrying"))
            if not waiting and not await place.home.handed_over():
                break
        await asyncio.sleep(_LOOK_EVERY)
    return longest


async def _stored(place: Stage, numbered: int) -> dict[str, StoredJob | None]:
    """What the storage holds of each job that anybody has spoken of, and of so many that should
    have been accepted; ``None`` for nothing."""
    ledger = place.ledger
    ledger.refresh()
    run = (entry.about for entry in ledger.entries if entry.kind == "start")
    others = (other for other, _ in ledger.merged.values())
    ids = list(dict.fromkeys([*map(job_id, range(numbered)), *ledger.accepted, *run, *others]))
    stored: dict[str, StoredJob | None] = {}
    async with Queue(QUEUE, place.home.url) as queue:
        for start in range(0, len(ids), MAX_BATCH):
            batch = ids[start : start + MAX_BATCH]
            found = await queue.storage.get(QUEUE, batch)
            stored |= zip(batch, found, strict=True)
    return stored


def _states(stored: Mapping[str, StoredJob | None]) -> dict[str, str | None]:
    """Their states."""
    return {id: state_of(job) for id, job in stored.items()}
