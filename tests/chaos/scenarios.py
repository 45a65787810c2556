"""The scenarios, by the names that they have in the campaign's list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from jobqueue.replies import RECHECK_EVERY
from tests.chaos import faults
from tests.chaos.faults import at, at_moments, in_a_row, while_busy
from tests.chaos.stage import Persistence, Size, Where
from tests.chaos.verdict import Books, Verdict, quantile

Judge: TypeAlias = Callable[[Books, Verdict], dict[str, Any]]
"""Adds to the verdict what only this scenario demands, and returns its further figures."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One scenario at its full size.

    Attributes:
        name: Its number.
        title: What it does.
        jobs: Jobs that are enqueued.
        plan: What is done meanwhile.
        times: How often, where that is counted.
        at_least: The same in a small run.
        seconds: How long, where that is not.
        where: What keeps the jobs.
        persistence: What a server keeps.
        judge: What else it demands.
        lease: Of the queue, in seconds.
        workers: Worker processes.
        concurrency: Jobs that each runs at a time.
        sleep_ms: Shortest and longest run of a handler.
        producer: The program that enqueues.
        batches: The size of a producer's calls, for each producer.
        backlog: Producers wait while more jobs are queued.
        cuts: Connections are cut.
    """

    name: str
    title: str
    jobs: int
    plan: faults.Plan
    times: int = 0
    at_least: int = 3
    seconds: float = 0.0
    where: Where = Where.SERVER
    persistence: Persistence = Persistence.NONE
    judge: Judge = lambda books, verdict: {}
    lease: float = 2.0
    workers: int = 4
    concurrency: int = 20
    sleep_ms: tuple[int, int] = (0, 20)
    producer: str = "produce"
    batches: tuple[int, ...] = (1, 50)
    backlog: int = 500
    cuts: bool = False

    def size(self, scale: float, workers: int | None, lease: float | None) -> Size:
        """How large a run of this scale is."""
        return Size(
            jobs=max(20, round(self.jobs * scale)),
            times=min(self.times, max(self.at_least, round(self.times * scale))),
            workers=workers or self.workers,
            lease=lease or self.lease,
            seconds=max(min(1.5, self.seconds), self.seconds * scale),
        )


BACK_WITHIN: Final = 5.0
RECOVERED_WITHIN: Final = 1.0


def _server_back(books: Books, verdict: Verdict) -> dict[str, Any]:
    times = sorted(books.times_back())
    if times and times[-1] > BACK_WITHIN:
        verdict.unexpected.append(f"working again only {times[-1]:.1f} s after the server was back")
    return {"back_p50": quantile(times, 0.5), "back_max": times[-1] if times else None}


def _nothing_surfaces(books: Books, verdict: Verdict) -> dict[str, Any]:
    for entry in books.ledger.of("refused", "warning"):
        verdict.unexpected.append(f"surfaced: {entry.about}")
    return {}


def _one_ending_each(books: Books, verdict: Verdict) -> dict[str, Any]:
    """Every run was settled, was told that its outcome did not count, or was stopped."""
    runs = books.all_runs()
    fates = {fate: sum(run.fate == fate for run in runs) for fate in _FATES}
    for id, of_one in books.runs.items():
        endings = sum(run.fate == "settled" for run in of_one)
        if endings != 1:
            verdict.unexpected.append(f"{id} was settled {endings} times")
    if without := [run for run in runs if not run.fate]:
        verdict.unexpected.append(f"{len(without)} runs heard nothing, such as {without[0]}")
    return fates


_FATES: Final = ("settled", "unheard", "stopped")


def _all_answered(books: Books, verdict: Verdict) -> dict[str, Any]:
    ended = {entry.about: entry.at for entry in books.ledger.of("end")}
    waits = sorted(
        entry.at - ended[entry.about]
        for entry in books.ledger.of("answered")
        if entry.about in ended
    )
    p99, longest = quantile(waits, 0.99), waits[-1] if waits else None
    if len(waits) != verdict.jobs:
        verdict.unexpected.append(f"{len(waits)} of {verdict.jobs} calls were answered")
    # A wait that is younger than half an interval when the others are looked at is looked at in
    # the next round.
    if longest is None or longest > 1.5 * RECHECK_EVERY + 0.5:
        verdict.unexpected.append(f"a call waited {longest} s longer than its job")
    return {
        "answered": len(waits),
        "extra_wait_p50": quantile(waits, 0.5),
        "extra_wait_p99": p99,
        "extra_wait_max": longest,
    }


def _refused_and_back(books: Books, verdict: Verdict) -> dict[str, Any]:
    ledger = books.ledger
    (start,), (over,) = ledger.of("oom"), ledger.of("oom_over")
    refused = [entry for entry in ledger.of("refused") if start.at < entry.at]
    if not refused:
        verdict.unexpected.append("no enqueue was refused")
    for entry in refused:
        if not entry.about.startswith("storage_unavailable: ") or "memory" not in entry.about:
            verdict.unexpected.append(f"refused otherwise: {entry.about}")
    # What was sent a moment before is answered a moment after.
    slipped = [id for id, at in ledger.accepted.items() if start.at + 0.5 < at < over.at]
    verdict.unexpected += [f"{id} was accepted without memory" for id in slipped]
    ends = {entry.about: entry.at for entry in ledger.of("end")}
    late = [
        id
        for id, at in ledger.accepted.items()
        if at <= start.at and ends.get(id, over.at) >= over.at
    ]
    verdict.unexpected += [f"{id} was not run without memory" for id in late]
    after = min((at for at in ledger.accepted.values() if at > over.at), default=float("inf"))
    if after - over.at > BACK_WITHIN:
        verdict.unexpected.append(f"accepted again only after {after - over.at:.1f} s")
    return {
        "refused": len(refused),
        "ended_without_memory": sum(start.at < at < over.at for at in ends.values()),
        "back": after - over.at,
    }


def _refused_without_room(books: Books, verdict: Verdict) -> dict[str, Any]:
    """What did not fit was refused, in words that help; with room again, all went on by itself."""
    ledger = books.ledger
    full, room = ledger.of("full")[0], ledger.of("room")[0]
    refused = ledger.of("refused")
    if not refused:
        verdict.unexpected.append("no enqueue was refused")
    for entry in refused:
        if not entry.about.startswith("storage_unavailable: ") or "full" not in entry.about:
            verdict.unexpected.append(f"refused otherwise: {entry.about}")
    back = min((at for at in ledger.accepted.values() if at > room.at), default=float("inf"))
    settled = min((e.at for e in ledger.of("settled") if e.at > room.at), default=float("inf"))
    for what, moment in (("accepted", back), ("settled", settled)):
        if moment - room.at > BACK_WITHIN:
            verdict.unexpected.append(f"{what} again only after {moment - room.at:.1f} s")
    return {
        "refused": len(refused),
        "accepted_while_full": sum(full.at < at < room.at for at in ledger.accepted.values()),
        "settled_while_full": sum(full.at < e.at < room.at for e in ledger.of("settled")),
        "back": back - room.at,
        "settling_back": settled - room.at,
    }


def _recovered_in_time(books: Books, verdict: Verdict) -> dict[str, Any]:
    limit = books.lease + RECOVERED_WITHIN
    p99 = verdict.share(0.99)
    if p99 is None:
        verdict.unexpected.append("no killed worker had a job")
    elif p99 > limit:
        verdict.unexpected.append(f"recovered in {p99:.2f} s at p99, not in {limit:g} s")
    return {"samples": len(verdict.recovery), "limit": limit}


_SERVER_KILLED: Final[dict[str, Any]] = {
    "jobs": 100_000,
    "times": 20,
    "plan": at_moments(faults.restart_server),
    "judge": _server_back,
    "cuts": True,
}

SCENARIOS: Final = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="S1",
            title="workers killed",
            jobs=100_000,
            times=100,
            plan=at_moments(faults.kill_worker),
        ),
        Scenario(
            name="S2",
            title="server killed, AOF always",
            persistence=Persistence.ALWAYS,
            **_SERVER_KILLED,
        ),
        Scenario(
            name="S3",
            title="server killed, AOF every second",
            persistence=Persistence.EVERYSEC,
            **_SERVER_KILLED,
        ),
        Scenario(name="S4", title="server killed, nothing kept", **_SERVER_KILLED),
        Scenario(
            name="S5",
            title="all connections killed every 5 ms",
            jobs=20_000,
            plan=while_busy(faults.kill_connections, 0.005, most=2),
            cuts=True,
        ),
        Scenario(
            name="S9",
            title="workers frozen for 3 leases",
            jobs=1_000,
            lease=1.0,
            concurrency=10,
            sleep_ms=(100, 900),
            plan=while_busy(faults.freeze_workers),
            judge=_one_ending_each,
        ),
        Scenario(
            name="S10",
            title="scripts flushed every 10 ms",
            jobs=50_000,
            plan=while_busy(faults.flush_scripts, 0.010),
            judge=_nothing_surfaces,
            batches=(1, 500),
            backlog=2_000,
        ),
        Scenario(
            name="S13",
            title="pub/sub killed every 50 ms during calls",
            jobs=10_000,
            producer="call",
            batches=(1, 1),
            plan=while_busy(faults.kill_pubsub, 0.050),
            judge=_all_answered,
        ),
        Scenario(
            name="S14",
            title="no memory",
            jobs=20_000,
            seconds=30.0,
            plan=at(0.2, faults.run_out_of_memory),
            judge=_refused_and_back,
        ),
        Scenario(
            name="S22",
            title="recovery after a kill",
            jobs=20_000,
            times=200,
            lease=2.0,
            concurrency=10,
            sleep_ms=(100, 500),
            plan=in_a_row(faults.kill_working_worker),
            judge=_recovered_in_time,
        ),
        Scenario(
            name="SQLITE-KILL",
            title="any of 4 processes killed, SQLite",
            where=Where.FILE,
            jobs=60_000,
            times=200,
            workers=2,
            batches=(1, 20),
            plan=at_moments(faults.kill_anyone),
        ),
        Scenario(
            name="SQLITE-FREEZE",
            title="any of 4 processes frozen for 3 leases, SQLite",
            where=Where.FILE,
            jobs=40_000,
            workers=2,
            batches=(1, 20),
            plan=while_busy(faults.freeze_anyone),
        ),
        Scenario(
            name="SQLITE-FULL",
            title="no room on the disk, SQLite",
            where=Where.SMALL_DISK,
            jobs=20_000,
            seconds=30.0,
            batches=(1, 20),
            plan=at(0.2, faults.fill_disk),
            judge=_refused_without_room,
        ),
        Scenario(
            name="ALL",
            title="all faults in turn, AOF always",
            jobs=100_000,
            times=100,
            at_least=len(faults.ALL),
            seconds=1.0,
            lease=1.0,
            persistence=Persistence.ALWAYS,
            plan=at_moments(*faults.ALL),
            cuts=True,
        ),
    )
}
