"""Schedules as they are fired and used: once an instant, by whoever comes first."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from jobqueue import (
    CancelResult,
    Cron,
    Every,
    Job,
    JobSpec,
    JobState,
    Queue,
    ScheduleNotFound,
    SerializationError,
    SyncQueue,
    current_job,
)
from jobqueue.flow import StoredSchedule
from jobqueue.schedules import Scheduler
from jobqueue.schedules.firing import job_id
from jobqueue.states import TERMINAL
from jobqueue.storage.base import Storage
from tests.integration.programs import MakeQueue
from tests.support.backends import Backend, MakeStorage
from tests.support.clock import START_MS, ManualClock
from tests.support.jobs import HOUR, MINUTE, QUEUE, SECOND, claim, ids
from tests.support.wait import wait_until

FIRST = (START_MS // MINUTE + 1) * MINUTE
"""The first instant of ``Every(60)`` by the clock that stands still."""
JOB: JobSpec[Any] = JobSpec("report", {"day": 1})


def moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def scheduler(storage: Storage) -> Scheduler:
    return Scheduler(storage, QUEUE, HOUR)


async def fire(storage: Storage) -> float:
    """Let a scheduler work until nothing is due; when it wants to look again."""
    service = scheduler(storage)
    while not (delay := await service.run_once()):
        pass
    return delay


async def waiting_ids(storage: Storage) -> list[str]:
    """The ids of all jobs, in the order in which they start; they are taken."""
    found: list[str] = []
    while taken := ids(await claim(storage, count=500)):
        found += taken
    return found


@pytest.fixture
async def book(storage: Storage, clock: ManualClock) -> AsyncIterator[Queue]:
    """A queue on a storage whose clock stands still; its workers fire no schedules."""
    async with Queue(QUEUE, storage, maintenance=False) as queue:
        yield queue


# -- instants --------------------------------------------------------------------------------------


async def test_an_instant_makes_one_job(storage: Storage, clock: ManualClock, book: Queue) -> None:
    info = await book.schedules.upsert("s", Every(60), JOB)
    assert (info.next_at, info.last_at, info.last_id) == (moment(FIRST), None, None)
    assert 0 < await fire(storage) <= 1.0
    assert sum((await book.counts()).values()) == 0
    await clock.advance(FIRST - clock.now())
    await fire(storage)
    await fire(storage)
    job = await book.get(job_id("s", FIRST))
    assert job is not None
    assert (job.name, job.payload, job.state) == ("report", {"day": 1}, JobState.QUEUED)
    assert await book.schedules.get("s") == info._replace(
        next_at=moment(FIRST + MINUTE), last_at=moment(FIRST), last_id=job.id
    )
    assert sum((await book.counts()).values()) == 1


async def test_a_scheduler_looks_again_when_the_next_is_due(
    storage: Storage, clock: ManualClock, book: Queue
) -> None:
    assert await fire(storage) == 1.0
    await book.schedules.upsert("s", Every(0.25), JOB)
    assert 0 < await fire(storage) <= 0.25
    await book.schedules.pause("s")
    assert await fire(storage) == 1.0


async def test_twenty_schedulers_whose_clocks_differ_make_one_job_an_instant(
    backend: Backend, clock: ManualClock, make_storage: MakeStorage
) -> None:
    """On memory all have one clock; on a server the injected one takes the place of its own."""
    dice = random.Random(4)
    handles = []
    for number in range(20):
        skew = 0 if number == 0 else dice.randint(-2_000, 2_000)
        handle = backend.handle(lambda skew=skew: clock.now() + skew)
        await handle.open()
        handles.append(handle)
    try:
        async with Queue(QUEUE, handles[0]) as book:
            await book.schedules.upsert("s", Every(1), JOB)
            schedulers = [scheduler(handle) for handle in handles]
            for _ in range(30):
                await clock.advance(dice.randint(1, 2_000))
                dice.shuffle(schedulers)
                await asyncio.gather(*(each.run_once() for each in schedulers))
            info = await book.schedules.get("s")
            assert info is not None
            assert info.last_at is not None
            first = START_MS // SECOND * SECOND + SECOND
            instants = range(first, int(info.last_at.timestamp() * 1000) + 1, SECOND)
            assert len(instants) > 20
            made = await waiting_ids(handles[0])
            assert sorted(made) == [job_id("s", at) for at in instants]
    finally:
        for handle in handles:
            await handle.close()


async def test_many_schedules_are_fired_by_many_schedulers(
    storage: Storage, clock: ManualClock, book: Queue, make_storage: MakeStorage
) -> None:
    for number in range(20):
        await book.schedules.upsert(f"s{number}", Every(60), JOB)
    await clock.advance(MINUTE)
    handles = [storage, await make_storage(), await make_storage()]
    await asyncio.gather(*(fire(handle) for handle in handles))
    made = await waiting_ids(storage)
    assert sorted(made) == sorted(job_id(f"s{number}", FIRST) for number in range(20))


# -- misfires --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("misfire", "made"),
    [("skip", [60]), ("once", [60]), ("all", list(range(1, 61)))],
)
async def test_after_an_hour_without_schedulers(
    storage: Storage, clock: ManualClock, book: Queue, misfire: str, made: list[int]
) -> None:
    await book.schedules.upsert("s", Every(60), JOB, misfire=misfire)
    await clock.advance(FIRST - START_MS + 59 * MINUTE + 30 * SECOND)
    await fire(storage)
    instants = [FIRST + (number - 1) * MINUTE for number in made]
    assert await waiting_ids(storage) == [job_id("s", at) for at in instants]
    info = await book.schedules.get("s")
    assert info is not None
    assert info.next_at == moment(FIRST + 60 * MINUTE)


async def test_missed_instants_that_are_all_skipped(
    storage: Storage, clock: ManualClock, book: Queue
) -> None:
    await book.schedules.upsert("s", Every(3600), JOB, misfire="skip", misfire_grace=5)
    info = await book.schedules.get("s")
    assert info is not None
    assert info.next_at is not None
    first = int(info.next_at.timestamp() * 1000)
    await clock.advance(first - START_MS + HOUR + 6 * SECOND)
    await fire(storage)
    assert await waiting_ids(storage) == []
    assert await book.schedules.get("s") == info._replace(next_at=moment(first + 2 * HOUR))


async def test_more_missed_instants_than_one_step_takes(
    storage: Storage, clock: ManualClock, book: Queue
) -> None:
    await book.schedules.upsert("s", Every(1), JOB, misfire="all")
    await clock.advance(1_201 * SECOND)
    await scheduler(storage).run_once()
    assert (await book.counts())["queued"] == 500
    await fire(storage)
    first = START_MS + SECOND
    made = await waiting_ids(storage)
    assert made == [job_id("s", first + n * SECOND) for n in range(1_201)]


# -- overlap, with a worker ------------------------------------------------------------------------


class Stage:
    """A worker whose jobs end when the test says so, and one schedule of them."""

    def __init__(self, queue: Queue, clock: ManualClock) -> None:
        self.queue = queue
        self.started: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self._clock = clock

        @queue.handler("report")
        async def report(job: Job) -> None:
            self.started.append(job.id)
            await self.gate(job.id).wait()

    def gate(self, id: str) -> asyncio.Event:
        return self.gates.setdefault(id, asyncio.Event())

    async def next_instant(self) -> str:
        """Let the next instant come and be fired; the id of its job, if it makes one."""
        now = self._clock.now()
        await self._clock.advance(MINUTE - now % MINUTE)
        await fire(self.queue.storage)
        return job_id("s", self._clock.now())

    async def end(self, id: str) -> None:
        self.gate(id).set()
        await self.ended(id)

    async def ended(self, id: str) -> JobState:
        async def state() -> JobState | None:
            job = await self.queue.get(id)
            return job.state if job is not None and job.state in TERMINAL else None

        return await wait_until(state, 10, f"{id} ended")

    async def runs(self, *ids: str) -> None:
        await wait_until(lambda: self.started == list(ids), 10, f"{ids} started")


async def test_jobs_may_overlap(clock: ManualClock, book: Queue) -> None:
    stage = Stage(book, clock)
    await book.schedules.upsert("s", Every(60), JOB)
    async with book.worker():
        one, two = await stage.next_instant(), await stage.next_instant()
        await stage.runs(one, two)
        await stage.end(one)
        await stage.end(two)


async def test_an_instant_is_skipped_while_the_last_job_runs(
    clock: ManualClock, book: Queue
) -> None:
    stage = Stage(book, clock)
    await book.schedules.upsert("s", Every(60), JOB, overlap="skip")
    async with book.worker():
        one = await stage.next_instant()
        await stage.runs(one)
        skipped = await stage.next_instant()
        info = await book.schedules.get("s")
        assert info is not None
        assert (info.last_id, info.next_at) == (one, moment(clock.now() + MINUTE))
        assert await book.get(skipped) is None
        await stage.end(one)
        three = await stage.next_instant()
        await stage.runs(one, three)
        await stage.end(three)


async def test_a_job_waits_until_the_last_one_has_ended(clock: ManualClock, book: Queue) -> None:
    stage = Stage(book, clock)
    await book.schedules.upsert("s", Every(60), JOB, overlap="queue")
    async with book.worker():
        one = await stage.next_instant()
        await stage.runs(one)
        two, three = await stage.next_instant(), await stage.next_instant()
        now = await book.schedules.run_now("s")
        # Other jobs of the same type are not held back.
        other = await book.enqueue("report", id="other")
        await stage.runs(one, other.id)
        for number, (id, following) in enumerate([(one, two), (two, three), (three, now.id)]):
            await stage.end(id)
            await stage.runs(*[one, other.id, two, three, now.id][: number + 3])
            assert stage.started[-1] == following
        await stage.end(now.id)
        await stage.end(other.id)


async def test_a_job_takes_the_place_of_the_last_one(clock: ManualClock, book: Queue) -> None:
    stage = Stage(book, clock)
    await book.schedules.upsert("s", Every(60), JOB, overlap="replace")
    async with book.worker():
        one = await stage.next_instant()
        await stage.runs(one)
        two = await stage.next_instant()
        assert await stage.ended(one) is JobState.CANCELLED
        await stage.runs(one, two)
        await stage.end(two)
        three = await stage.next_instant()
        await stage.runs(one, two, three)
        await stage.end(three)
        assert await stage.ended(two) is JobState.COMPLETED


async def test_a_job_that_waits_is_replaced(
    storage: Storage, clock: ManualClock, book: Queue
) -> None:
    stage = Stage(book, clock)
    await book.schedules.upsert("s", Every(60), JOB, overlap="replace")
    one, two = await stage.next_instant(), await stage.next_instant()
    assert await stage.ended(one) is JobState.CANCELLED
    assert await waiting_ids(storage) == [two]


# -- changes at run time ---------------------------------------------------------------------------


async def test_a_paused_schedule_makes_nothing_and_goes_on_after_now(
    storage: Storage, clock: ManualClock, book: Queue
) -> None:
    await book.schedules.upsert("s", Every(60), JOB, misfire="all")
    await book.schedules.pause("s")
    await book.schedules.pause("s")
    info = await book.schedules.get("s")
    assert info is not None
    assert (info.paused, info.next_at) == (True, None)
    await clock.advance(FIRST - START_MS + 10 * MINUTE)
    await fire(storage)
    assert await waiting_ids(storage) == []
    await book.schedules.resume("s")
    await book.schedules.resume("s")
    await fire(storage)
    assert await waiting_ids(storage) == []
    info = await book.schedules.get("s")
    assert info is not None
    assert (info.paused, info.next_at) == (False, moment(FIRST + 11 * MINUTE))
    await clock.advance(MINUTE)
    await fire(storage)
    assert await waiting_ids(storage) == [job_id("s", FIRST + 11 * MINUTE)]


async def test_an_upsert_changes_what_is_different(clock: ManualClock, book: Queue) -> None:
    schedules = book.schedules
    first = await schedules.upsert("s", Every(60), JOB)
    await clock.advance(MINUTE)
    # The same again, and another payload: the instant that is due stays.
    assert await schedules.upsert("s", Every(60.0), JOB) == first
    other = await schedules.upsert("s", Every(60), JobSpec("other"), overlap="skip")
    assert other == first._replace(job="other", overlap=other.overlap)
    assert other.overlap == "skip"
    # Another timing counts from now on.
    daily = await schedules.upsert("s", Cron("0 3 * * *", tz="Europe/Rome"), JOB)
    assert daily.spec == "0 3 * * * (Europe/Rome)"
    assert daily.next_at is not None
    assert daily.next_at > moment(clock.now())
    # A paused one stays paused.
    await schedules.pause("s")
    changed = await schedules.upsert("s", Every(30), JOB)
    assert (changed.paused, changed.next_at) == (True, None)
    assert await schedules.list() == [changed]


async def test_run_now_moves_no_instant(storage: Storage, clock: ManualClock, book: Queue) -> None:
    info = await book.schedules.upsert("s", Every(60), JOB)
    receipts = [await book.schedules.run_now("s") for _ in range(2)]
    await book.schedules.pause("s")
    receipts.append(await book.schedules.run_now("s"))
    await book.schedules.resume("s")
    assert await book.schedules.get("s") == info
    for receipt in receipts:
        job = await receipt.info()
        assert job is not None
        assert (job.name, job.payload) == ("report", {"day": 1})
    assert sorted(await waiting_ids(storage)) == sorted({receipt.id for receipt in receipts})


async def test_a_deleted_schedule_is_gone_and_its_jobs_are_not(
    storage: Storage, clock: ManualClock, book: Queue
) -> None:
    await book.schedules.upsert("a", Every(60), JOB)
    await book.schedules.upsert("b", Every(60), JOB)
    await clock.advance(MINUTE)
    await fire(storage)
    assert await book.schedules.delete("a") is True
    assert await book.schedules.delete("a") is False
    assert await book.schedules.get("a") is None
    assert [info.id for info in await book.schedules.list()] == ["b"]
    await clock.advance(MINUTE)
    await fire(storage)
    made = Counter(id.partition("@")[0] for id in await waiting_ids(storage))
    assert made == {"a": 1, "b": 2}


async def test_the_options_of_a_job_type_hold_for_its_schedules(
    storage: Storage, clock: ManualClock, book: Queue
) -> None:
    @book.job(priority="high", debounce=5, result_ttl=7)
    async def report() -> None: ...

    await book.schedules.upsert("s", Every(60), report.spec())
    await clock.advance(MINUTE)
    await fire(storage)
    now = await book.schedules.run_now("s")
    assert (now.status, now.id) == ("replaced", job_id("s", FIRST))
    (made,) = await storage.get(QUEUE, [job_id("s", FIRST)])
    assert made is not None
    assert (made.state, made.ttl_ms) == (JobState.SCHEDULED, 7_000)
    assert made.flow is not None
    assert made.flow.priority == "high"


async def test_an_unknown_schedule(book: Queue) -> None:
    for call in (book.schedules.pause, book.schedules.resume, book.schedules.run_now):
        with pytest.raises(ScheduleNotFound, match="schedule 'nix' is not known"):
            await call("nix")
    assert await book.schedules.get("nix") is None
    assert await book.schedules.list() == []


async def test_changes_at_the_same_time_all_take_effect(
    clock: ManualClock, make_storage: MakeStorage
) -> None:
    books = [Queue(QUEUE, await make_storage()) for _ in range(4)]
    await asyncio.gather(*(book.schedules.upsert("s", Every(60), JOB) for book in books))
    await asyncio.gather(
        *(book.schedules.upsert("s", Every(30), JobSpec("other")) for book in books[:2]),
        *(book.schedules.pause("s") for book in books[2:]),
    )
    info = await books[0].schedules.get("s")
    assert info is not None
    assert (info.spec, info.job, info.paused) == ("every 0:00:30", "other", True)
    for book in books:
        await book.close()


@pytest.mark.parametrize(
    ("id", "spec", "job", "error", "message"),
    [
        ("", Every(5), JOB, ValueError, "the id of a schedule must not be empty"),
        ("x" * 231, Every(5), JOB, ValueError, "at most 230 bytes"),
        ("s", "* * * * *", JOB, TypeError, r"must be Cron\("),
        ("s", Every(5), "report", TypeError, r"must be f.spec\("),
        ("s", Every(5), JobSpec("report", object()), SerializationError, "report"),
    ],
)
async def test_what_cannot_be_a_schedule_is_refused(
    book: Queue, id: str, spec: Any, job: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        await book.schedules.upsert(id, spec, job)
    assert await book.schedules.list() == []


async def test_the_longest_id_of_a_schedule_works(
    storage: Storage, clock: ManualClock, book: Queue
) -> None:
    id = "é" * 115
    await book.schedules.upsert(id, Every(0.001), JOB)
    await clock.advance(7)
    await fire(storage)
    assert await waiting_ids(storage) == [job_id(id, START_MS + n) for n in range(1, 8)]


async def test_job_options_that_contradict_a_schedule_are_refused(book: Queue) -> None:
    @book.job()
    async def report() -> None: ...

    for options in ({"id": "x"}, {"delay": 5}, {"run_at": datetime.now(UTC)}):
        with pytest.raises(ValueError, match="the job of a schedule has no"):
            await book.schedules.upsert("s", Every(5), report.options(**options).spec())


async def test_a_record_that_cannot_be_read_stops_no_other_schedule(
    storage: Storage, clock: ManualClock, book: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    broken = StoredSchedule("broken", b"\xc1", 1, "token", START_MS)
    assert await storage.put_schedule(QUEUE, broken)
    await book.schedules.upsert("s", Every(60), JOB)
    await clock.advance(MINUTE)
    with caplog.at_level(logging.ERROR):
        assert await fire(storage) == 1.0
    assert await waiting_ids(storage) == [job_id("s", FIRST)]
    assert "schedule 'broken' is not fired here" in caplog.text


# -- declared in code, and fired by workers in real time -------------------------------------------


async def test_a_worker_stores_what_is_declared(make_queue: MakeQueue) -> None:
    queue = make_queue()

    @queue.cron("30 2 * * *", tz="Europe/Rome", kwargs={"days": 7}, overlap="skip")
    @queue.job(name="clean", result_ttl=5)
    async def clean(days: int) -> None: ...

    @queue.every(3600, id="hourly", misfire="all")
    async def count() -> None: ...

    assert callable(clean)
    assert count.name == "count"
    assert await queue.schedules.list() == []  # a producer does not
    async with queue.worker():
        infos = await queue.schedules.list()
        assert [(each.id, each.job, each.spec) for each in infos] == [
            ("clean", "clean", "30 2 * * * (Europe/Rome)"),
            ("hourly", "count", "every 1:00:00"),
        ]
        assert [(each.overlap, each.misfire) for each in infos] == [
            ("skip", "once"),
            ("allow", "all"),
        ]
        receipt = await queue.schedules.run_now("clean")
        job = await receipt.info()
        assert job is not None
        assert job.payload == {"days": 7}
    await queue.schedules.pause("clean")
    paused = await queue.schedules.list()
    async with queue.worker():
        assert await queue.schedules.list() == paused


async def test_a_worker_with_another_rule_changes_it(make_queue: MakeQueue) -> None:
    old, new = make_queue(), make_queue()
    for queue, period in ((old, 3600), (new, 1800)):

        @queue.every(period)
        async def count() -> None: ...

        async with queue.worker():
            (info,) = await queue.schedules.list()
            assert info.spec == str(Every(period))


def test_what_cannot_be_declared_is_refused_where_it_stands() -> None:
    queue = Queue("q", "memory://")
    with pytest.raises(ValueError, match="bad hour"):
        queue.cron("0 25 * * *")
    with pytest.raises(TypeError, match="unexpected keyword argument 'misfires'"):
        queue.every(5, misfires="skip")(print)  # type: ignore[call-arg]

    @queue.every(5)
    async def count(n: int = 0) -> None: ...

    with pytest.raises(ValueError, match="'count' has been declared already"):
        queue.every(6)(count)
    with pytest.raises(TypeError, match="too many positional arguments"):
        queue.every(6, id="other", args=(1, 2))(count)


async def test_workers_fire_in_real_time(make_queue: MakeQueue) -> None:
    ran: list[str] = []
    queues = [make_queue(), make_queue()]
    for queue in queues:

        @queue.every(0.2)
        async def tick() -> None:
            ran.append(current_job().id)

    async with queues[0].worker(), queues[1].worker():
        await wait_until(lambda: len(ran) >= 4, 20, "four instants")
        await queues[0].schedules.delete("tick")
    assert max(Counter(ran).values()) == 1
    times = sorted(datetime.fromisoformat(id.partition("@")[2]) for id in ran)
    steps = {(b - a).total_seconds() for a, b in pairwise(times)}
    assert steps == {0.2}


def test_schedules_without_await(backend: Backend) -> None:
    with SyncQueue("q", backend.handle()) as queue:
        info = queue.schedules.upsert("s", Cron("0 3 * * *"), JobSpec("report"), overlap="skip")
        assert queue.schedules.list() == [info]
        queue.schedules.pause("s")
        assert queue.schedules.get("s") == info._replace(paused=True, next_at=None)
        queue.schedules.resume("s")
        receipt = queue.schedules.run_now("s")
        assert queue.cancel(receipt.id) is CancelResult.CANCELLED
        assert queue.schedules.delete("s") is True
        assert queue.schedules.get("s") is None
        with pytest.raises(ScheduleNotFound):
            queue.schedules.pause("s")
