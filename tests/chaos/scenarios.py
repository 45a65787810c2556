"""The scenarios, by the names that they have in the campaign's list: S1 to S22 by its scorecard,
F09 to F32 by its catalogue of failures, the others by what they are about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tests.chaos import faults, judges
from tests.chaos.faults import at, at_moments, in_a_row, while_busy
from tests.chaos.loads import LONE, PLAIN
from tests.chaos.stage import Persistence, Size, Where


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
        producers: The program of each producer, and the jobs in each of its calls.
        backlog: Producers wait while more jobs are queued.
        cuts: Connections are cut.
        skew_ms: The clock of each process is wrong by up to so much.
        load: What the jobs are like.
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
    judge: judges.Judge = lambda books, verdict: {}
    lease: float = 2.0
    workers: int = 4
    concurrency: int = 20
    sleep_ms: tuple[int, int] = (0, 20)
    producers: tuple[tuple[str, int], ...] = (("produce", 1), ("produce", 50))
    backlog: int = 500
    cuts: bool = False
    skew_ms: int = 0
    load: str = PLAIN

    @property
    def ticks(self) -> bool:
        """The jobs are those of a schedule."""
        return self.producers == (("tick", 1),)

    @property
    def is_numbered(self) -> bool:
        """The producers choose the ids of the jobs, by number."""
        return not any(program in ("tick", "call_alone") for program, _ in self.producers)

    def size(self, scale: float, workers: int | None, lease: float | None) -> Size:
        """How large a run of this scale is."""
        return Size(
            jobs=max(20, round(self.jobs * scale)),
            times=min(self.times, max(self.at_least, round(self.times * scale))),
            workers=workers or self.workers,
            lease=lease or self.lease,
            seconds=max(min(1.5, self.seconds), self.seconds * scale),
        )


_SERVER_KILLED: Final[dict[str, Any]] = {
    "jobs": 100_000,
    "times": 20,
    "plan": at_moments(faults.restart_server),
    "judge": judges.server_back,
    "cuts": True,
}
_SERVER_AWAY: Final[dict[str, Any]] = {
    "jobs": 20_000,
    "times": 20,
    "seconds": 4.0,  # two leases
    "cuts": True,
}

_HANDED: Final[dict[str, Any]] = {
    "jobs": 10_000,
    "sleep_ms": (0, 3),
    "producers": (("trickle", 1), ("trickle", 1)),
    "load": LONE,
}

_SENT: Final[dict[str, Any]] = {
    "jobs": 10_000,
    "sleep_ms": (0, 8),  # some are over before their callers make sure, some not
    "producers": (("call_alone", 1), ("call_alone", 1)),
    "judge": judges.sent_unanswered,
    "load": LONE,
}

_LIMITED: Final[dict[str, Any]] = {
    "title": "1,000 keys, one at a time of each",
    "jobs": 100_000,
    "load": "keys",
    "lease": 30.0,  # nobody's is to run out
    "plan": faults.nothing,
    "judge": judges.undisturbed,
    "backlog": 5_000,
}
_RATED: Final[dict[str, Any]] = {
    "jobs": 6_000,
    "lease": 30.0,
    "plan": faults.nothing,
    "judge": judges.undisturbed,
    # All slots start at once at first, and so again a window later: few, that no window of five
    # seconds lies in between two such moments and has too few.
    "concurrency": 4,
    "sleep_ms": (20, 80),
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
            judge=judges.one_ending_each,
        ),
        Scenario(
            name="S10",
            title="scripts flushed every 10 ms",
            jobs=50_000,
            plan=while_busy(faults.flush_scripts, 0.010),
            judge=judges.nothing_surfaces,
            producers=(("produce", 1), ("produce", 500)),
            backlog=2_000,
        ),
        Scenario(
            name="S13",
            title="pub/sub killed every 50 ms during calls",
            jobs=10_000,
            producers=(("call", 1), ("call", 1)),
            plan=while_busy(faults.kill_pubsub, 0.050),
            judge=judges.answered_in_time,
        ),
        Scenario(
            name="S14",
            title="no memory",
            jobs=20_000,
            seconds=30.0,
            plan=at(0.2, faults.run_out_of_memory),
            judge=judges.refused_without_memory,
        ),
        Scenario(
            name="S19",
            title="20 schedulers, clocks +-2 s apart, killed; server killed, AOF always",
            jobs=1_000,
            times=40,
            at_least=4,
            workers=20,
            skew_ms=2_000,
            producers=(("tick", 1),),
            persistence=Persistence.ALWAYS,
            plan=at_moments(*[faults.kill_worker] * 3, faults.restart_server),
            judge=judges.each_instant_once,
            cuts=True,
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
            judge=judges.recovered_in_time,
        ),
        Scenario(
            name="F09",
            title="all data forgotten (FLUSHALL)",
            jobs=20_000,
            times=20,
            sleep_ms=(0, 200),
            producers=(("produce", 1), ("produce", 50), ("call", 1)),
            plan=at_moments(faults.flush_all),
            judge=judges.forgotten,
        ),
        Scenario(
            name="F10",
            title="server turned into a replica",
            plan=at_moments(faults.make_read_only),
            judge=judges.refused(faults.READ_ONLY),
            **_SERVER_AWAY,
        ),
        Scenario(
            name="F11",
            title="server frozen",
            plan=at_moments(faults.freeze_server),
            judge=judges.server_back,
            **{**_SERVER_AWAY, "seconds": 12.0},  # longer than any answer is waited for
        ),
        Scenario(
            name="F12",
            title="server loading, busy, stale, without a replica",
            persistence=Persistence.ALWAYS,
            at_least=4,
            plan=at_moments(
                faults.restart_server_slowly,
                faults.run_busy_script,
                faults.make_stale,
                faults.want_replicas,
            ),
            judge=judges.refused(faults.LOADING, faults.BUSY, faults.STALE, faults.NO_REPLICA),
            **_SERVER_AWAY,
        ),
        Scenario(
            name="F13",
            title="clients paused",
            plan=at_moments(faults.pause_clients),
            judge=judges.server_back,
            **_SERVER_AWAY,
        ),
        Scenario(
            name="F32",
            title="producers frozen and killed, in enqueues and calls",
            jobs=20_000,
            times=20,
            seconds=16.0,  # longer than connections are kept that hear nothing
            producers=(("produce", 1), ("produce", 50), ("call", 1)),
            plan=at_moments(faults.freeze_producers, faults.kill_producer),
            judge=judges.every_call_answered,
            cuts=True,
        ),
        Scenario(
            name="SQLITE-KILL",
            title="any of 4 processes killed, SQLite",
            where=Where.FILE,
            jobs=60_000,
            times=200,
            workers=2,
            producers=(("produce", 1), ("produce", 20)),
            plan=at_moments(faults.kill_anyone),
        ),
        Scenario(
            name="SQLITE-FREEZE",
            title="any of 4 processes frozen for 3 leases, SQLite",
            where=Where.FILE,
            jobs=40_000,
            workers=2,
            producers=(("produce", 1), ("produce", 20)),
            plan=while_busy(faults.freeze_anyone),
        ),
        Scenario(
            name="SQLITE-FULL",
            title="no room on the disk, SQLite",
            where=Where.SMALL_DISK,
            jobs=20_000,
            seconds=30.0,
            producers=(("produce", 1), ("produce", 20)),
            plan=at(0.2, faults.fill_disk),
            judge=judges.refused_without_room,
        ),
        Scenario(
            name="HANDED-KILL",
            title="workers killed that were handed a job",
            times=50,
            plan=at_moments(faults.kill_handed_worker, faults.kill_worker),
            judge=judges.handed_over,
            **_HANDED,
        ),
        Scenario(
            name="HANDED-SERVER",
            title="server killed between lone jobs, AOF always",
            times=20,
            lease=30.0,  # nobody's is to run out, here and below
            persistence=Persistence.ALWAYS,
            plan=at_moments(faults.restart_server),
            judge=judges.handed_over_in_time,
            cuts=True,
            **_HANDED,
        ),
        Scenario(
            name="HANDED-CUT",
            title="connections killed between lone jobs",
            lease=30.0,
            plan=while_busy(faults.kill_some_connections, 0.250),
            judge=judges.handed_over_in_time,
            cuts=True,
            **_HANDED,
        ),
        Scenario(
            name="SENT-KILL",
            title="workers killed during calls that were sent unanswered",
            times=50,
            plan=at_moments(faults.kill_handed_worker, faults.kill_worker),
            **_SENT,
        ),
        Scenario(
            name="SENT-SERVER",
            title="server killed during such calls, AOF always",
            times=20,
            persistence=Persistence.ALWAYS,
            plan=at_moments(faults.restart_server),
            cuts=True,
            **_SENT,
        ),
        Scenario(
            name="SENT-CUT",
            title="connections killed, scripts flushed during such calls",
            plan=while_busy(faults.lose_what_is_sent, 0.020),
            cuts=True,
            **_SENT,
        ),
        Scenario(name="LIMITS", **_LIMITED),
        Scenario(name="RATE", title="200 a second, token bucket", load="bucket", **_RATED),
        Scenario(name="WINDOW", title="200 in any second", load="window", **_RATED),
        Scenario(name="SQLITE-LIMITS", where=Where.FILE, **_LIMITED),
        Scenario(
            name="SQLITE-RATE",
            title="200 a second, token bucket, SQLite",
            load="bucket",
            where=Where.FILE,
            **_RATED,
        ),
        Scenario(
            name="SQLITE-WINDOW",
            title="200 in any second, SQLite",
            load="window",
            where=Where.FILE,
            **_RATED,
        ),
        Scenario(
            name="ALL",
            title="all faults in turn, AOF always",
            jobs=100_000,
            times=100,
            at_least=len(faults.ALL),
            seconds=1.5,
            lease=1.0,
            producers=(("produce", 1), ("produce", 50), ("call", 1)),
            persistence=Persistence.ALWAYS,
            plan=at_moments(*faults.ALL),
            cuts=True,
        ),
    )
}
