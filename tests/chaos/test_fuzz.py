"""Malformed specs, options and messages: none crashes anything, none is stuck.

Seeded; ``JOBQUEUE_CHAOS_FUZZ=100000`` is how many of each, ``JOBQUEUE_CHAOS_SEED`` another seed.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import Counter
from contextlib import closing, suppress
from datetime import timedelta
from typing import Final

import pytest

from jobqueue import (
    Every,
    Job,
    JobCancelled,
    JobError,
    JobFailed,
    JobSpec,
    Limit,
    Misfire,
    Overlap,
    Queue,
    ScheduleInfo,
    SerializationError,
    StorageError,
)
from jobqueue.flow import Flow, Priority, StoredSchedule, Unique, UniqueUntil
from jobqueue.ids import new_job_id
from jobqueue.options import JobOptions, QueueOptions
from jobqueue.outcome import Raised, Returned, WorkerLost, decide, decode_error
from jobqueue.packing import pack_raw
from jobqueue.registry import Registry
from jobqueue.schedules.firing import due, jobs_of
from jobqueue.schedules.record import (
    RecordError,
    Schedule,
    ScheduledJob,
    decode_record,
    encode_record,
)
from jobqueue.serde import SerdeSet
from jobqueue.spec import SpecError, decode_spec, encode_spec
from jobqueue.states import TERMINAL
from jobqueue.storage.types import ClaimRequest, NewJob, StoredResult
from jobqueue.views import result_of
from tests.chaos.malformed import Malformed
from tests.support.backends import Backend, RedisBackend, SQLiteBackend
from tests.support.wait import wait_until

COUNT: Final = int(os.environ.get("JOBQUEUE_CHAOS_FUZZ", 2_000))
SEED: Final = int(os.environ.get("JOBQUEUE_CHAOS_SEED", 18))
_BATCH: Final = 500

pytestmark = pytest.mark.timeout(60 + COUNT // 50)


@pytest.fixture
def malformed() -> Malformed:
    print(f"JOBQUEUE_CHAOS_SEED={SEED} JOBQUEUE_CHAOS_FUZZ={COUNT}")
    return Malformed(SEED)


# -- without a storage -----------------------------------------------------------------------------


def test_what_can_be_read_of_a_spec_can_be_decided_about(malformed: Malformed) -> None:
    registry = Registry(QueueOptions())
    readable = 0
    for _ in range(COUNT):
        try:
            spec = decode_spec(malformed.spec())
        except SpecError:
            continue
        readable += 1
        policy = registry.policy("task", spec, 0)
        for happened in (Raised(ValueError("no")), Returned(b""), WorkerLost("w")):
            for attempt in (1, policy.max_attempts):
                outcome = decide(policy, attempt, happened)
                assert outcome.delay_ms >= 0
                assert outcome.state in TERMINAL or attempt < policy.max_attempts
    assert 0 < readable < COUNT


def test_what_a_serde_cannot_read_it_says_so(malformed: Malformed) -> None:
    serdes = SerdeSet()
    for _ in range(COUNT):
        name, data = malformed.payload()
        with suppress(SerializationError):
            serdes.loads(name, data, "the payload")
        with suppress(SerializationError):
            serdes.load_alone(data, "the result")
        assert isinstance(decode_error(data), JobError)
        for state in TERMINAL:
            with suppress(SerializationError, JobFailed, JobCancelled):
                result_of("id", StoredResult(state, data), serdes)


# -- through a storage -----------------------------------------------------------------------------


async def test_a_malformed_spec_fails_its_job_at_once(
    backend: Backend, malformed: Malformed
) -> None:
    async with Queue("q", backend.handle(), concurrency=200, max_attempts=5) as queue:
        _add_handler(queue)
        async with queue.worker():
            for start in range(0, COUNT, _BATCH):
                ids = await _store(queue, [malformed.spec() for _ in range(_BATCH)])
                await _none_waits(queue)
                ends = await _ends(queue, ids)
                assert set(ends) <= {("completed", 1, ""), ("failed", 1, "undecodable")}
                assert ends["failed", 1, "undecodable"] > _BATCH / 2, f"from {start} on"


async def test_a_malformed_spec_whose_worker_died_ends_too(
    backend: Backend, malformed: Malformed
) -> None:
    async with Queue("q", backend.handle(), lease=0.3, max_attempts=2) as queue:
        _add_handler(queue)
        ids = await _store(queue, [malformed.spec() for _ in range(_BATCH)])
        request = ClaimRequest(worker="dead", count=_BATCH, token="t", lease_ms=50)
        assert len(await queue.storage.claim("q", request)) == _BATCH
        async with queue.worker():
            await _none_waits(queue)
        ends = await _ends(queue, ids)
        expected = {("completed", 2, ""), ("failed", 2, "undecodable")}
        # Its own spec may allow one attempt only.
        assert set(ends) <= expected | {("failed", 1, "worker_lost")}


async def test_options_are_accepted_or_refused_at_the_door(
    backend: Backend, malformed: Malformed
) -> None:
    refused: Counter[str] = Counter()
    accepted = 0
    async with Queue("q", backend.handle(), concurrency=200) as queue:
        _add_handler(queue)
        async with queue.worker():
            for _ in range(COUNT // 4):
                try:
                    await queue.enqueue("task", malformed.value(), **malformed.options())
                    accepted += 1
                except (TypeError, ValueError, SerializationError) as error:
                    refused[type(error).__name__] += 1
            await _none_waits(queue)
    assert accepted > COUNT // 100
    assert refused.keys() >= {"TypeError", "ValueError"}


def _add_handler(queue: Queue) -> None:
    @queue.handler()
    async def task(job: Job) -> None:
        return None


async def _store(queue: Queue, specs: list[bytes]) -> list[str]:
    """Store specs as they are, as a program in another language might."""
    jobs = [NewJob(id=new_job_id(), name="task", spec=spec) for spec in specs]
    await queue.storage.enqueue(queue.name, jobs)
    return [job.id for job in jobs]


async def _none_waits(queue: Queue) -> None:
    async def ended() -> bool:
        counts = await queue.counts()
        return not counts["queued"] and not counts["running"]

    await wait_until(ended, 20, "every job has ended")


async def _ends(queue: Queue, ids: list[str]) -> Counter[tuple[str, int, str]]:
    """State, attempts and reason of each job, as users see them."""
    infos = await asyncio.gather(*(queue.get(id) for id in ids))
    ends: Counter[tuple[str, int, str]] = Counter()
    for info in infos:
        assert info is not None
        ends[info.state, info.attempt, "" if info.error is None else info.error.reason] += 1
    return ends


# -- time and flow ---------------------------------------------------------------------------------

_FLOWS: Final = (
    Flow(priority=Priority.HIGH),
    Flow(priority=Priority.LOW, group="g"),
    Flow(expires_ms=3_600_000),
    Flow(limit="customer", key="k"),
    Flow(alone="alone", unique=Unique("u", UniqueUntil.ELAPSED, 1)),
)


def _flow(number: int) -> Flow:
    """Each has a unique key of its own."""
    flow = _FLOWS[number % len(_FLOWS)]
    if flow.unique is None:
        return flow
    return flow._replace(unique=flow.unique._replace(key=f"u {number}"))


@pytest.mark.storages("redis", "sqlite")
async def test_a_malformed_flow_stops_nobody(backend: Backend, malformed: Malformed) -> None:
    """Its job is run or refused like any other, and so is every other job."""
    async with Queue("q", backend.handle(), concurrency=50, max_attempts=5) as queue:
        _add_handler(queue)
        await queue.limits.set(Limit(concurrency=1), key="customer")
        await queue.limits.set(Limit(concurrency=20), job_type="task")
        for _ in range(0, COUNT, _BATCH):
            jobs = [
                NewJob(new_job_id(), "task", _SPEC, ttl_ms=60_000, flow=_flow(n))
                for n in range(_BATCH)
            ]
            await queue.storage.enqueue(queue.name, jobs)
            # What is kept elsewhere of a job's words, for its end, must not be in vain.
            kept = [n for n in range(_BATCH) if _flow(n).unique or _flow(n).expires_ms]
            bad = [job.id for n, job in enumerate(jobs) if n % 2 and n not in kept]
            _overwrite(backend, bad, malformed)
            async with queue.worker():
                receipt = await queue.enqueue("task", priority="low", limit="customer", key="k")
                await receipt.result(wait=20)
                await _none_waits(queue)
            ends = await _ends(queue, [job.id for job in jobs])
            fine = {("completed", 1, ""), ("failed", 1, "undecodable"), ("cancelled", 0, "expired")}
            assert set(ends) <= fine
            assert ends["failed", 1, "undecodable"] > len(bad) / 2
            assert ends["completed", 1, ""] >= len(jobs) - len(bad)
            assert not any(info.running or info.held_back for info in await queue.limits.list())


_SPEC: Final = encode_spec(b"\xc0", "msgpack", JobOptions())


def _overwrite(backend: Backend, ids: list[str], malformed: Malformed) -> None:
    """Put something else in the place of what these jobs say, as another program might."""
    if isinstance(backend, RedisBackend):
        with backend.admin.pipeline() as pipeline:
            for id in ids:
                key = f"jq:{{q}}:job:{id}"
                good = backend.admin.hget(key, "flow")
                pipeline.hset(key, "flow", malformed.flow(good))
            pipeline.execute()
    elif isinstance(backend, SQLiteBackend):
        with closing(sqlite3.connect(backend.path, timeout=10)) as connection, connection:
            for id in ids:
                (good,) = connection.execute("SELECT flow FROM jobs WHERE id = ?", (id,)).fetchone()
                connection.execute(
                    "UPDATE jobs SET flow = ? WHERE id = ?", (malformed.flow(good), id)
                )


@pytest.mark.storages("redis")
async def test_a_malformed_flow_is_refused_at_the_door(
    backend: RedisBackend, malformed: Malformed
) -> None:
    async with Queue("q", backend.handle(), concurrency=50) as queue:
        _add_handler(queue)
        await queue.enqueue("task", id="first", priority="low", unique=True)
        before = await queue.counts()
        refused = 0
        good = backend.admin.hget("jq:{q}:job:first", "flow")
        for n in range(_BATCH):
            said = malformed.flow(good)
            jobs = [("plain", "task", _SPEC, 0, 0, 0, "r", ""), (f"{n}", "task", _SPEC, 0, 0, 0)]
            jobs[1] += ("r", "", said)
            try:
                await queue.storage._run("q", "enqueue", 1_000, pack_raw(jobs))
            except StorageError:
                refused += 1
                assert await queue.counts() == before
            else:
                async with queue.worker():
                    await _none_waits(queue)
                before = await queue.counts()
        assert refused > _BATCH / 2


def test_what_can_be_read_of_a_record_makes_jobs(malformed: Malformed) -> None:
    for _ in range(COUNT):
        try:
            schedule = decode_record(malformed.record(_RECORD))
        except RecordError:
            continue
        _check_jobs(schedule)


def _check_jobs(schedule: Schedule) -> None:
    """The jobs of a schedule are such as a storage can store."""
    now = 1_800_000_000_000
    instants, next_ms = due(schedule, now - 5_000, now)
    assert next_ms == 0 or next_ms > 0
    for job in jobs_of("s", schedule, instants[:3], "r"):
        assert 1 <= len(job.name.encode()) <= 255
        assert isinstance(job.spec, bytes)
        assert 0 <= job.ttl_ms < 2**53
        flow = job.flow
        if flow is not None:
            assert flow.priority in Priority
            assert isinstance(flow.expires_ms, int)
            assert all(isinstance(text, str) for text in flow[2:6])


_RECORD: Final = encode_record(
    Schedule(
        Every(1),
        ScheduledJob("task", _SPEC, ttl_ms=60_000, flow=_FLOWS[4]._replace(expires_ms=60_000)),
        Misfire.ALL,
        1_000,
        Overlap.QUEUE,
    )
)


async def test_a_malformed_record_stops_no_other_schedule(
    backend: Backend, malformed: Malformed, caplog: pytest.LogCaptureFixture
) -> None:
    async with Queue("q", backend.handle(), lease=1) as queue:
        _add_handler(queue)
        await queue.schedules.upsert("good", Every(0.05), JobSpec("task"))
        for n in range(200):
            record = malformed.record(_RECORD)
            stored = StoredSchedule(f"bad {n}", record, 1, "t", next_ms=1)
            assert await queue.storage.put_schedule("q", stored)
        async with queue.worker():
            before = (await _schedule(queue, "good")).last_at

            async def goes_on() -> bool:
                after = (await _schedule(queue, "good")).last_at
                return after is not None and (
                    before is None or after > before + timedelta(seconds=0.5)
                )

            await wait_until(goes_on, 20, "the good schedule goes on")
        assert {info.id for info in await queue.schedules.list()} >= {"good"}
        for n in range(200):
            assert await queue.schedules.delete(f"bad {n}")
    assert "is not fired here" in caplog.text
    assert "unexpected error" not in caplog.text


async def _schedule(queue: Queue, id: str) -> ScheduleInfo:
    info = await queue.schedules.get(id)
    assert info is not None
    return info


# -- messages --------------------------------------------------------------------------------------

_GOOD: Final = {
    "events": [["started", "nobody", "task", 2_000_000_000_000, 1, "w"]],
    "control": ["nobody"],
    "reply": [["nobody", "completed", b"msgpack\n\xc0"]],
}


@pytest.mark.storages("redis", "sqlite")
async def test_malformed_messages_are_passed_over(
    backend: Backend, malformed: Malformed, caplog: pytest.LogCaptureFixture
) -> None:
    async with Queue("q", backend.handle(), concurrency=20) as queue:
        _add_handler(queue)
        queue.handler("hang")(_hang)
        async with queue.worker(), queue.events() as events:
            await queue.enqueue_and_wait("task")
            topics = ("events", "control", f"reply:{queue.producer._replies.address}")
            for start in range(0, COUNT, _BATCH):
                for n in range(_BATCH):
                    topic = topics[n % 3]
                    good = pack_raw(_GOOD[topic.partition(":")[0]])
                    _publish(backend, topic, malformed.message(good))
                # All three are still heard, and by those who listened before.
                async with asyncio.timeout(10):
                    await queue.enqueue_and_wait("task", start, id=f"task {start}")
                    receipt = await queue.enqueue("hang", start)
                    async for event in events:
                        if (event.id, event.type) == (receipt.id, "started"):
                            break
                    await queue.cancel(receipt.id)
                    with pytest.raises(JobCancelled):
                        await receipt.result()
    assert "cannot be read" in caplog.text


async def _hang(job: Job) -> None:
    await asyncio.sleep(60)


def _publish(backend: Backend, topic: str, body: bytes) -> None:
    if isinstance(backend, RedisBackend):
        backend.admin.publish(f"jq:{{q}}:{topic}", body)
    elif isinstance(backend, SQLiteBackend):
        with closing(sqlite3.connect(backend.path, timeout=10)) as connection, connection:
            connection.execute(
                "INSERT INTO messages (queue, topic, at_ms, body) SELECT key, ?, "
                "unixepoch() * 1000, ? FROM queues",
                (topic, body),
            )
