"""S8: a process ends at each failpoint in turn, and others do what it left undone.

A trial has a place of its own, a victim that ends right before or after its call of one verb, and a
successor that begins at that moment, as one that has long been running would: a worker for what a
worker or a reaper leaves, and for a producer the same calls once more.
"""

from __future__ import annotations

import asyncio
import math
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import redis

from jobqueue import Every, JobSpec, Limit, Queue
from jobqueue.states import TERMINAL
from jobqueue.storage.failpoints import EXIT_STATUS, MOMENTS
from tests.chaos.campaign import Show
from tests.chaos.fleet import START_SECONDS, STOP_SECONDS, Fleet
from tests.chaos.ledger import Ledger, Pen
from tests.chaos.loads import FLOW
from tests.chaos.orders import OTHER, QUEUE, Orders
from tests.chaos.programs import open_queue
from tests.chaos.promises import left_under_limits
from tests.chaos.verdict import Books, Verdict, quantile
from tests.support.jobs import claim, completed, settle
from tests.support.keys import find_faults
from tests.support.servers import Server, ServerBinary
from tests.support.wait import wait_until

NAME: Final = "S8"
TITLE: Final = "processes ended at every failpoint"
LEASE: Final = 2.0
SLACK: Final = 1.0
"""Seconds beyond the lease in which what was left undone must be done."""
_AT_A_TIME: Final = 2
_JOBS: Final = ("job-0", "job-1", "job-2")
_SAID: Final[tuple[dict[str, Any], ...]] = (
    {"priority": "high"},
    {"group": "group"},
    {"expires": 3_600, "priority": "low"},
)
PERIOD: Final = 0.2
_FOR_EVER_MS: Final = 600_000
_END_SECONDS: Final = 60.0


# -- who ends where --------------------------------------------------------------------------------


async def some_jobs(queue: Queue, **options: Any) -> None:
    """Each of another level, and with a limit of its own."""
    await queue.limits.set(Limit(concurrency=1), key="customer")
    for id, said in zip(_JOBS, _SAID, strict=True):
        await queue.enqueue("task", 0, id=id, limit="customer", key=id, **said, **options)


def a_schedule(overlap: str) -> Callable[[Queue], Awaitable[None]]:
    """Some jobs, and a schedule that is due again and again, named for what it does about overlaps:
    by that name the verdict knows the jobs which may be replaced."""

    async def prepare(queue: Queue) -> None:
        await some_jobs(queue)
        await queue.schedules.upsert(
            overlap, Every(PERIOD), JobSpec("task", 0), misfire="all", overlap=overlap
        )

    return prepare


async def due_jobs(queue: Queue) -> None:
    await some_jobs(queue, delay=0.001)


async def lost_jobs(queue: Queue) -> None:
    """Jobs of a worker that died long ago."""
    await some_jobs(queue)
    assert len(await claim(queue.storage, worker="gone", lease_ms=1, queue=QUEUE)) == len(_JOBS)


async def jobs_and_remains(queue: Queue) -> None:
    await queue.enqueue("task", id="forgotten")
    ended = await claim(queue.storage, queue=QUEUE)
    await settle(queue.storage, completed(ttl_ms=1), *ended, queue=QUEUE)
    await some_jobs(queue)


async def nothing(queue: Queue) -> None:
    return


@dataclass(frozen=True, kw_only=True)
class Role:
    """What makes a process call one verb at a moment at which it matters.

    Attributes:
        program: What the victim runs.
        prepare: What is in the queue before.
        call: Which call of the verb it is.
        linger: The victim's handlers do not end by themselves.
        grace: How long they may go on after it was told to stop, in seconds.
        stop_after: The kind of entry in the ledger, one a job, after which it is told to stop.
        fires: There is a schedule, which goes on.
    """

    program: str = "work"
    prepare: Callable[[Queue], Awaitable[None]] = some_jobs
    call: int = 1
    linger: bool = False
    grace: float = 10.0
    stop_after: str = ""
    fires: bool = False


_STOPPED: Final = Role(linger=True, stop_after="start")
_RELEASING: Final = replace(_STOPPED, grace=0.1)
_REAPER: Final = Role(program="reap", prepare=lost_jobs)
_PRODUCER: Final = Role(program="use", prepare=nothing)
_OPERATOR: Final = Role(program="operate", prepare=nothing)
_FIRES: Final = Role(prepare=a_schedule("allow"), fires=True)

ROLES: Final[dict[str, dict[str, Role]]] = {
    "worker": {
        "open": Role(),
        "listen": Role(),
        "claim": Role(),
        "finish": Role(),
        # The first one comes before there is anything to extend.
        "heartbeat": Role(call=2, linger=True),
        "recover": Role(prepare=lost_jobs),
        "promote": Role(prepare=due_jobs),
        "prune": Role(prepare=jobs_and_remains),
        "unblock": _STOPPED,
        "withdraw": _RELEASING,
        "leave": _RELEASING,
        "close": _RELEASING,
        "limits": Role(),
        "set_limit": Role(),
        "schedules": _FIRES,
        "put_schedule": _FIRES,
        # Whether the last job has ended, and its cancel.
        "results": replace(_FIRES, prepare=a_schedule("skip")),
        "cancel": replace(_FIRES, prepare=a_schedule("replace")),
    },
    "reaper": {
        "open": _REAPER,
        "recover": _REAPER,
        "finish": _REAPER,
        "close": replace(_REAPER, stop_after="stalled"),
    },
    "producer": {
        "open": _PRODUCER,
        "listen": _PRODUCER,
        "enqueue": _PRODUCER,
        "results": _PRODUCER,
        "cancel": _PRODUCER,
        "get": _PRODUCER,
        "set_result_ttl": _PRODUCER,
        "counts": _PRODUCER,
        "close": _PRODUCER,
    },
    "operator": dict.fromkeys(
        (
            *("control", "limits", "set_limit", "reschedule", "delayed", "clear", "obliterate"),
            *("schedules", "put_schedule", "delete_schedule"),
        ),
        _OPERATOR,
    ),
}
"""By role, every verb that such a process calls."""


class Point(NamedTuple):
    """One end of one process."""

    who: str
    verb: str
    moment: str

    def __str__(self) -> str:
        return f"{self.who} {self.verb}.{self.moment}"

    @property
    def role(self) -> Role:
        return ROLES[self.who][self.verb]


POINTS: Final = [
    Point(who, verb, moment) for who, verbs in ROLES.items() for verb in verbs for moment in MOMENTS
]

SEEN_AT_END: Final = {
    "worker claim.before": ("queued",),
    "worker claim.after": ("running",),
    "worker finish.before": ("running",),
    "worker finish.after": ("completed", "running"),
    "worker recover.after": ("running",),
    "reaper recover.after": ("running",),
    "reaper finish.before": ("running",),
    "reaper finish.after": ("queued",),
    "producer enqueue.before": ("none",),
    "producer cancel.before": ("scheduled", "completed"),
    "producer cancel.after": ("cancelled", "completed"),
}
"""The state in which a job must be when the victim has ended, and where others may be: it did end
where it should."""


# -- one trial -------------------------------------------------------------------------------------


@dataclass
class Trial:
    """What became of the jobs of one victim.

    Attributes:
        point: Where it ended.
        place: Which storage.
        seconds: From its end to that of the last job; 0 if all had ended before.
        verdict: Of the ledger.
        seen: The states of the jobs at its end.
    """

    point: Point
    place: str
    seconds: float = 0.0
    verdict: Verdict = field(default_factory=Verdict)
    seen: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return self.verdict.good and not self.verdict.late

    def line(self) -> str:
        word = "good" if self.good else "BAD "
        return f"{word} {self.seconds:5.2f} s  {self.place} {self.point}  [{' '.join(self.seen)}]"


async def try_point(point: Point, place: str, url: str, *, lease: float) -> Trial:
    """Let a process end at a point, and see what becomes of its jobs."""
    with tempfile.TemporaryDirectory(prefix="jobqueue-failpoint-") as folder:
        pen, ledger = Pen(Path(folder), at_once=True), Ledger(Path(folder))
        fleet = Fleet(ledger, pen)
        scene = _Scene(Trial(point, place), url, fleet, ledger, pen, lease)
        try:
            await scene.play()
        except (AssertionError, subprocess.TimeoutExpired) as error:
            scene.trial.verdict.unexpected.append(f"given up: {error}")
        finally:
            fleet.end()
            pen.close()
        return scene.trial


@dataclass
class _Scene:
    """One trial while it goes on."""

    trial: Trial
    url: str
    fleet: Fleet
    ledger: Ledger
    pen: Pen
    lease: float

    async def play(self) -> None:
        trial, point = self.trial, self.trial.point
        orders = Orders(
            url=self.url,
            folder=str(self.ledger.folder),
            lease=self.lease,
            concurrency=10,
            sleep_ms=(0, 0),
            grace=point.role.grace,
            load=FLOW,
        )
        async with open_queue(orders) as queue:
            await self._prepare(queue)
            others = await self._start_others(orders)
            ended_at, before = await self._end_victim(queue, orders)
            trial.seen = sorted(before.values())
            others[0].send_signal(signal.SIGUSR1)
            problems = await self._until_done(queue, others[0], ended_at)
            after = await _states(queue)
            problems += left_under_limits(await queue.storage.limits(QUEUE))
            if point.who == "operator":
                problems += await _left_in_force(queue)
        problems += await self._stop(others)
        books = Books(self.ledger, lease=self.lease, window=0.0, cut_off=False)
        judge(trial, books, ended_at, before, after)
        trial.verdict.unexpected += problems

    async def _prepare(self, queue: Queue) -> None:
        await self.trial.point.role.prepare(queue)
        if not self._is_producer:
            for id in _JOBS:
                self.pen.note("accepted", id)

    async def _start_others(self, orders: Orders) -> list[subprocess.Popen[bytes]]:
        """The successor, which waits, and for who enqueues somebody who does the work."""
        waiting = replace(orders, waits=True)
        if not self._is_producer:
            others = [self.fleet.start("work", waiting)]
        else:
            program = self.trial.point.role.program
            others = [self.fleet.start(program, waiting), self.fleet.start("work", orders)]
            await self._noted("ready")
        await self._noted("waits")
        return others

    @property
    def _is_producer(self) -> bool:
        return self.trial.point.who in ("producer", "operator")

    async def _noted(self, kind: str, times: int = 1) -> None:
        def is_noted() -> bool:
            self.ledger.refresh()
            return self.ledger.counts[kind] >= times

        await wait_until(is_noted, START_SECONDS, f"{times} times {kind!r} is noted")

    async def _end_victim(self, queue: Queue, orders: Orders) -> tuple[float, dict[str, str]]:
        """Start the victim, and return when it has ended: when, and the states of the jobs then."""
        point, role = self.trial.point, self.trial.point.role
        own = replace(orders, linger_ms=_FOR_EVER_MS if role.linger else 0)
        failpoint = f"{point.verb}.{point.moment}:{role.call}"
        victim = self.fleet.start(role.program, own, failpoint)
        if role.stop_after:
            await self._noted(role.stop_after, len(_JOBS))
            victim.terminate()
        status = await asyncio.to_thread(victim.wait, _END_SECONDS)
        ended_at = time.monotonic()
        self.pen.note("kill", victim.pid)
        if status != EXIT_STATUS:
            self.trial.verdict.unexpected.append(f"it ended with {status}, at no failpoint")
        return ended_at, await _states(queue)

    async def _until_done(
        self, queue: Queue, successor: subprocess.Popen[bytes], ended_at: float
    ) -> list[str]:
        async def is_done() -> bool:
            if self._is_producer and successor.poll() is None:
                return False
            if self.trial.point.role.fires and not self._has_fired(ended_at):
                return False
            states = await _states(queue)
            return all(state in TERMINAL for state in states.values())

        try:
            await wait_until(is_done, _END_SECONDS, "all is done")
        except AssertionError as error:
            return [str(error)]
        return []

    def _has_fired(self, after: float) -> bool:
        """Whether the schedule goes on."""
        self.ledger.refresh()
        return any(entry.at > after and "@" in entry.about for entry in self.ledger.of("end"))

    async def _stop(self, processes: Sequence[subprocess.Popen[bytes]]) -> list[str]:
        """End the others as a user would; what went wrong, in words."""
        problems: list[str] = []
        for process in processes:
            # All may have been done before this one was so far as to hear of it.
            await wait_until(lambda pid=process.pid: self._is_ready(pid), START_SECONDS, "it works")
            if process.poll() is None:
                process.terminate()
            status = await asyncio.to_thread(process.wait, STOP_SECONDS)
            if status != 0:
                problems.append(f"{process.args[3]} ended with {status}")  # type: ignore[index]
        return problems

    def _is_ready(self, pid: int) -> bool:
        self.ledger.refresh()
        return pid in self.ledger.ready


def judge(
    trial: Trial,
    books: Books,
    ended_at: float,
    before: dict[str, str],
    after: dict[str, str],
) -> None:
    """Put the verdict and the time into a trial.

    Args:
        trial: Whose.
        books: What happened.
        ended_at: When the victim ended.
        before: The states of the jobs at that moment.
        after: The same when all was done.
    """
    unexpected = trial.verdict.unexpected
    if after.pop("delayed", "cancelled") != "cancelled":
        unexpected.append("what was cancelled is not")
    verdict = books.judge({id: None if state == "none" else state for id, state in after.items()})
    verdict.unexpected += unexpected
    trial.verdict = verdict
    ends = [entry.at for entry in books.ledger.of("end") if entry.about in _JOBS]
    trial.seconds = max(0.0, max(ends, default=ended_at) - ended_at)
    if any(state not in TERMINAL for state in after.values()):
        trial.seconds = math.inf
    if trial.seconds > books.lease + SLACK:
        verdict.late.append(f"done only after {trial.seconds:.2f} s")
    for run in books.all_runs():
        if run.start > ended_at and before.get(run.id) == "completed":
            verdict.unjustified.append(f"{run}, though it had been settled")
    seen = set(before.values())
    needed, *others = SEEN_AT_END.get(str(trial.point), list(seen))
    if needed not in seen or not seen <= {needed, *others}:
        verdict.unexpected.append(f"at its end the jobs were {before}")


async def _states(queue: Queue) -> dict[str, str]:
    """The states of all jobs there may be, ``none`` for one that is not there."""
    ids = [*_JOBS, "delayed"]
    answers = await queue.storage.results(QUEUE, ids)
    states = {id: "none" if a is None else str(a.state) for id, a in zip(ids, answers, strict=True)}
    return {id: state for id, state in states.items() if state != "none"} or {"job-0": "none"}


async def _left_in_force(queue: Queue) -> list[str]:
    """What an operator has not taken back, in words."""
    other = Queue(OTHER, queue.storage)
    limits = [info.name for info in await queue.limits.list()]
    left = ["limit 'task'"] if "task" in limits else []
    left += [f"schedule {info.id!r}" for info in await queue.schedules.list()]
    left += ["paused"] if (await queue.control()).paused else []
    left += [
        f"{count} {state} in {OTHER!r}" for state, count in (await other.counts()).items() if count
    ]
    return [f"left in force: {each}" for each in left]


# -- all of them -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Report:
    """All trials, as :class:`tests.chaos.report.Report` has a run."""

    trials: list[Trial]
    server: str
    seed: int
    scale: float
    lease: float
    seconds: float
    scenario: str = NAME

    @property
    def good(self) -> bool:
        return all(trial.good for trial in self.trials)

    def total(self, what: str) -> int:
        """Of one class of all verdicts."""
        numbers = [getattr(trial.verdict, what) for trial in self.trials]
        return sum(each if isinstance(each, int) else len(each) for each in numbers)

    def figures(self, place: str) -> dict[str, Any]:
        """Of one storage."""
        times = sorted(trial.seconds for trial in self.trials if trial.place == place)
        return {"failpoints": len(times), "p50": quantile(times, 0.5), "max": times[-1]}

    @property
    def places(self) -> list[str]:
        return list(dict.fromkeys(trial.place for trial in self.trials))

    def as_dict(self) -> dict[str, Any]:
        return {
            "scenario": self.scenario,
            "title": TITLE,
            "good": self.good,
            "server": self.server,
            "seed": self.seed,
            "scale": self.scale,
            "lease": self.lease,
            **{name: self.total(name) for name in ("jobs", "completed", "lost", "recovered")},
            "duplicated_justified": self.total("justified"),
            "duplicated_unjustified": self.total("unjustified"),
            "unexpected": self.total("unexpected"),
            "late": self.total("late"),
            "places": {place: self.figures(place) for place in self.places},
            "seconds": {f"{t.place} {t.point}": round(t.seconds, 3) for t in self.trials},
            "took": round(self.seconds, 2),
            "examples": self.examples(),
        }

    def line(self) -> str:
        """The figures in one line, and each failpoint's in one of its own."""
        parts = [
            f"{self.total('jobs')} jobs",
            f"{self.total('completed')} completed",
            f"lost {self.total('lost')}",
            f"duplicated {self.total('unjustified')} (+{self.total('justified')} justified)",
            f"recovered {self.total('recovered')}",
            f"unexpected {self.total('unexpected')}",
            f"late {self.total('late')}",
        ]
        for place in self.places:
            figures = self.figures(place)
            parts.append(
                f"{place}: {figures['failpoints']} failpoints, p50 {figures['p50']:.2f} s, "
                f"max {figures['max']:.2f} s (limit {self.lease + SLACK:g} s)"
            )
        word = "good" if self.good else "BAD "
        head = f"S8   {word} seed {self.seed} {self.server}"
        lines = [f"{head} · {' · '.join(parts)} · took {self.seconds:.1f} s"]
        return "\n     ".join([*lines, *(trial.line() for trial in self.trials)])

    def examples(self) -> list[str]:
        """What makes the verdict bad, in words."""
        return [
            f"{trial.place} {trial.point}: {kind}: {each}"
            for trial in self.trials
            for kind in ("lost", "unjustified", "unexpected", "late")
            for each in getattr(trial.verdict, kind)
        ]


def draw(seed: int, scale: float) -> list[Point]:
    """A part of the failpoints, in any order."""
    count = max(1, min(len(POINTS), round(scale * len(POINTS))))
    return random.Random(seed).sample(POINTS, count)


async def run(
    points: Sequence[Point],
    binary: ServerBinary,
    *,
    seed: int = 0,
    scale: float = 1.0,
    lease: float = LEASE,
    show: Show = lambda done, of: None,
) -> Report:
    """Let a process end at each of these points, on a server and on SQLite.

    Args:
        points: In this order.
        binary: The server; each trial has one of its own.
        seed: With which the points were drawn.
        scale: Which part of all they are.
        lease: Of the queues, in seconds.
        show: Told how far it is.
    """
    began = time.monotonic()
    gate = asyncio.Semaphore(_AT_A_TIME)
    done = 0

    async def attempt(point: Point, place: str) -> Trial:
        nonlocal done
        async with gate:
            make = _on_sqlite if place == "sqlite" else _on_server
            async with make(binary) as (url, remains):
                trial = await try_point(point, place, url, lease=lease)
                trial.verdict.unexpected += await asyncio.to_thread(remains)
        done += 1
        show(done, 2 * len(points))
        return trial

    tasks = [
        asyncio.create_task(attempt(point, place))
        for place in (binary.label, "sqlite")
        for point in points
    ]
    trials = list(await asyncio.gather(*tasks))
    trials.sort(key=lambda trial: (trial.place, POINTS.index(trial.point)))
    return Report(
        trials=trials,
        server=binary.label,
        seed=seed,
        scale=scale,
        lease=lease,
        seconds=time.monotonic() - began,
    )


Remains: TypeAlias = Callable[[], list[str]]


@asynccontextmanager
async def _on_server(binary: ServerBinary) -> AsyncGenerator[tuple[str, Remains]]:
    server = Server(binary)
    try:
        await asyncio.to_thread(server.start)
        yield server.url, lambda: _left_behind(server.url)
    finally:
        server.stop()


def _left_behind(url: str) -> list[str]:
    """Keys that break the rules for keys, in words."""
    with redis.Redis.from_url(url) as admin:
        return [f"left behind: {fault}" for fault in find_faults(admin, [])]


@asynccontextmanager
async def _on_sqlite(binary: ServerBinary) -> AsyncGenerator[tuple[str, Remains]]:
    with tempfile.TemporaryDirectory(prefix="jobqueue-failpoint-") as folder:
        yield f"sqlite:///{folder}/jobs.db", lambda: []
