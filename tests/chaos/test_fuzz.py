"""Malformed specs, options and messages: none crashes anything, none is stuck.

Seeded; ``JOBQUEUE_CHAOS_FUZZ=100000`` is how many of each, ``JOBQUEUE_CHAOS_SEED`` another seed.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import Counter
from contextlib import closing, suppress
from typing import Final

import pytest

from jobqueue import Job, JobCancelled, JobError, JobFailed, Queue, SerializationError
from jobqueue.ids import new_job_id
from jobqueue.options import QueueOptions
from jobqueue.outcome import Raised, Returned, WorkerLost, decide, decode_error
from jobqueue.packing import pack_raw
from jobqueue.registry import Registry
from jobqueue.serde import SerdeSet
from jobqueue.spec import SpecError, decode_spec
from jobqueue.states import TERMINAL
from jobqueue.storage.base import ClaimRequest, NewJob, StoredResult
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
