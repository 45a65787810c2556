"""Storing jobs: what is new, what is known already, and what remains of a cancelled one."""

from __future__ import annotations

import asyncio

import pytest

from jobqueue.states import CancelResult, EnqueueStatus, EventType, JobState
from jobqueue.storage.base import Storage
from jobqueue.storage.types import INLINE_BYTES, Enqueued
from tests.support.backends import MakeStorage
from tests.support.clock import ManualClock
from tests.support.jobs import (
    HOUR,
    MINUTE,
    QUEUE,
    cancel,
    cancelled,
    claim,
    claim_one,
    completed,
    enqueue,
    exists,
    failed,
    ids,
    new_job,
    only,
    result,
    retrying,
    run_one,
    settle,
    stored,
)
from tests.support.listening import listening_to_events, listening_to_replies

NEW = Enqueued(EnqueueStatus.QUEUED, JobState.QUEUED, None)
NEW_LATER = Enqueued(EnqueueStatus.QUEUED, JobState.SCHEDULED, None)


def duplicate(state: JobState, value: bytes | None = None) -> Enqueued:
    return Enqueued(EnqueueStatus.DUPLICATE, state, value)


async def test_a_new_id_is_stored_and_queued(storage: Storage) -> None:
    assert await enqueue(storage, "a") == [NEW]
    assert (await stored(storage, "a")).state is JobState.QUEUED
    assert await storage.counts(QUEUE) == only(queued=1)


async def test_a_batch_is_answered_in_its_order(storage: Storage) -> None:
    await enqueue(storage, "known")
    answers = await enqueue(storage, "a", "known", new_job("later", delay_ms=HOUR), "b")
    assert answers == [NEW, duplicate(JobState.QUEUED), NEW_LATER, NEW]
    assert await storage.counts(QUEUE) == only(queued=3, scheduled=1)


async def test_an_empty_batch_does_nothing(storage: Storage) -> None:
    assert await storage.enqueue(QUEUE, []) == []
    assert await storage.counts(QUEUE) == only()


@pytest.mark.parametrize("state", ["queued", "scheduled", "running", "retrying"])
async def test_an_id_that_has_not_ended_is_a_duplicate(storage: Storage, state: str) -> None:
    await enqueue(storage, new_job("a", delay_ms=HOUR if state == "scheduled" else 0))
    if state in ("running", "retrying"):
        claimed = await claim_one(storage)
        if state == "retrying":
            await settle(storage, retrying(HOUR), claimed)
    before = await stored(storage, "a")

    again = new_job("a", name="other", spec=b"other", ttl_ms=MINUTE, delay_ms=MINUTE)
    assert await enqueue(storage, again) == [duplicate(JobState(state))]
    assert await stored(storage, "a") == before
    assert await storage.counts(QUEUE) == only(**{state: 1})


async def test_a_completed_id_is_answered_with_its_result(storage: Storage) -> None:
    await enqueue(storage, "a")
    await run_one(storage, completed(b"42"))
    before = await stored(storage, "a")

    assert await enqueue(storage, new_job("a", spec=b"other")) == [
        Enqueued(EnqueueStatus.COMPLETED, JobState.COMPLETED, b"42")
    ]
    assert await stored(storage, "a") == before
    assert await claim(storage) == []


async def test_a_failed_id_is_a_duplicate_with_its_error(storage: Storage) -> None:
    await enqueue(storage, "a")
    await run_one(storage, failed(b"why"))
    before = await stored(storage, "a")

    assert await enqueue(storage, new_job("a", spec=b"other")) == [
        duplicate(JobState.FAILED, b"why")
    ]
    assert await stored(storage, "a") == before
    assert await claim(storage) == []


@pytest.mark.parametrize("end", [completed, failed])
async def test_a_value_travels_inline_up_to_the_limit(storage: Storage, end) -> None:
    await enqueue(storage, "fits", "too large")
    fits, too_large = await claim(storage)
    await settle(storage, end(b"x" * INLINE_BYTES), fits)
    await settle(storage, end(b"x" * (INLINE_BYTES + 1)), too_large)

    answers = await enqueue(storage, "fits", "too large")
    assert [answer.value for answer in answers] == [b"x" * INLINE_BYTES, None]


async def test_an_id_twice_in_one_batch_is_stored_once(storage: Storage) -> None:
    answers = await enqueue(storage, new_job("a", spec=b"1"), "b", new_job("a", spec=b"2"))
    assert answers == [NEW, NEW, duplicate(JobState.QUEUED)]
    claims = await claim(storage)
    assert [(job.id, job.spec) for job in claims] == [("a", b"1"), ("b", b"spec")]


async def test_a_delayed_id_twice_in_one_batch_is_stored_once(
    storage: Storage, clock: ManualClock
) -> None:
    answers = await enqueue(storage, new_job("a", delay_ms=MINUTE), "a")
    assert answers == [NEW_LATER, duplicate(JobState.SCHEDULED)]
    assert await claim(storage) == []
    await clock.advance(MINUTE)
    assert ids(await claim(storage)) == ["a"]


async def test_of_many_concurrent_enqueues_of_one_id_one_is_stored(
    make_storage: MakeStorage,
) -> None:
    handles = [await make_storage() for _ in range(4)]
    answers = await asyncio.gather(
        *(enqueue(handles[n % 4], new_job("a", spec=b"%d" % n)) for n in range(50))
    )
    winners = [n for n, (answer,) in enumerate(answers) if answer == NEW]
    assert len(winners) == 1
    assert [answer for (answer,) in answers].count(duplicate(JobState.QUEUED)) == 49
    assert [job.spec for job in await claim(handles[0])] == [b"%d" % winners[0]]
    assert await storage_counts(handles) == only(running=1)


async def storage_counts(handles: list[Storage]) -> dict[JobState, int]:
    """The counts, which every handle must give alike."""
    first, *others = [await handle.counts(QUEUE) for handle in handles]
    assert all(other == first for other in others)
    return first


async def test_each_stored_job_is_told_and_no_other(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, "known")
    async with listening_to_events(storage) as events:
        await enqueue(storage, new_job("a", name="one"), "known", new_job("b", delay_ms=HOUR))
        told = await events.all()
    assert [(event.type, event.id) for event in told] == [
        (EventType.ENQUEUED, "a"),
        (EventType.ENQUEUED, "b"),
    ]
    assert told[0] == (EventType.ENQUEUED, "a", "one", clock.now(), 0, "")


async def test_a_cancelled_id_is_stored_anew_with_nothing_of_the_old_one(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, new_job("a", name="old", spec=b"old", ttl_ms=MINUTE))
    await run_one(storage, retrying(0))
    claimed = await claim_one(storage)
    await cancel(storage, "a")
    await settle(storage, retrying(0), claimed)
    old = await stored(storage, "a")
    assert (old.state, old.attempt, old.cancel_requested) == (JobState.CANCELLED, 2, True)
    await clock.advance(1)

    assert await enqueue(storage, new_job("a", name="new", spec=b"new", ttl_ms=0)) == [NEW]
    job = await stored(storage, "a")
    assert (job.name, job.spec, job.ttl_ms) == ("new", b"new", 0)
    assert (job.state, job.attempt, job.fence, job.worker) == (JobState.QUEUED, 0, 0, "")
    assert (job.value, job.cancel_requested) == (b"", False)
    assert job.enqueued_ms == clock.now()
    assert (job.started_ms, job.finished_ms, job.expires_ms) == (0, 0, 0)
    assert await storage.counts(QUEUE) == only(queued=1)


async def test_a_job_stored_anew_is_charged_from_the_start(storage: Storage) -> None:
    await enqueue(storage, "a")
    first = await run_one(storage, cancelled())
    await enqueue(storage, "a")
    second = await claim_one(storage)
    assert (second.attempt, second.cancel_requested) == (1, False)
    assert second.fence > first.fence


async def test_a_job_stored_anew_goes_to_the_tail_and_is_claimed_once(storage: Storage) -> None:
    await enqueue(storage, new_job("a", spec=b"old"))
    await enqueue(storage, "b")
    await cancel(storage, "a")
    await enqueue(storage, new_job("a", spec=b"new"))

    claims = await claim(storage, 1) + await claim(storage, 1) + await claim(storage, 1)
    assert [(job.id, job.spec) for job in claims] == [("b", b"spec"), ("a", b"new")]
    assert await storage.counts(QUEUE) == only(running=2)


async def test_a_job_stored_anew_many_times_is_claimed_once(storage: Storage) -> None:
    for n in range(5):
        await enqueue(storage, new_job("a", spec=b"%d" % n))
        await cancel(storage, "a")
    await enqueue(storage, new_job("a", spec=b"last"))
    assert [job.spec for job in await claim(storage)] == [b"last"]
    assert await claim(storage) == []


async def test_a_job_stored_anew_with_a_delay_is_not_claimed_at_the_old_place(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, "a")
    await cancel(storage, "a")
    assert await enqueue(storage, new_job("a", delay_ms=MINUTE)) == [NEW_LATER]
    assert await claim(storage) == []
    await clock.advance(MINUTE)
    assert ids(await claim(storage)) == ["a"]
    assert await claim(storage) == []


async def test_a_job_stored_anew_at_once_is_not_claimed_again_at_the_old_time(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, new_job("a", delay_ms=MINUTE))
    await cancel(storage, "a")
    assert await enqueue(storage, "a") == [NEW]
    assert ids(await claim(storage, lease_ms=HOUR)) == ["a"]
    await clock.advance(MINUTE)
    assert await claim(storage) == []
    assert await storage.counts(QUEUE) == only(running=1)


async def test_a_job_stored_anew_outlives_the_old_one(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, "a")
    await cancel(storage, "a", ttl_ms=MINUTE)
    await enqueue(storage, "a")
    await clock.advance(HOUR)
    assert await storage.prune(QUEUE, 100) == 0
    assert await storage.counts(QUEUE) == only(queued=1)
    assert ids(await claim(storage)) == ["a"]


async def test_the_result_of_a_job_stored_anew_outlives_the_old_one(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, "a")
    await cancel(storage, "a", ttl_ms=MINUTE)
    await enqueue(storage, "a")
    await run_one(storage, completed(ttl_ms=HOUR))
    await clock.advance(2 * MINUTE)
    assert await storage.prune(QUEUE, 100) == 0
    assert await storage.counts(QUEUE) == only(completed=1)
    assert await result(storage, "a") == (JobState.COMPLETED, b"result")


async def test_waiters_of_a_cancelled_job_do_not_hear_of_the_new_one(storage: Storage) -> None:
    async with listening_to_replies(storage, "old") as old:
        await enqueue(storage, new_job("a", reply_to="old"))
        await cancel(storage, "a")
        await enqueue(storage, "a")
        await run_one(storage, completed())
        assert [reply.state for reply in await old.all()] == [JobState.CANCELLED]


async def test_a_stop_asked_of_the_old_job_does_not_stop_the_new_one(storage: Storage) -> None:
    await enqueue(storage, "a")
    claimed = await claim_one(storage)
    await cancel(storage, "a")
    await settle(storage, retrying(0), claimed)
    await enqueue(storage, "a")
    fresh = await claim_one(storage)
    assert not fresh.cancel_requested
    assert await settle(storage, retrying(0), fresh) == [True]
    assert (await stored(storage, "a")).state is JobState.RETRYING


async def test_what_is_stored_anew_can_be_cancelled_again(storage: Storage) -> None:
    await enqueue(storage, "a")
    await cancel(storage, "a", value=b"first")
    await enqueue(storage, "a")
    assert await cancel(storage, "a", value=b"second") == [CancelResult.CANCELLED]
    assert await result(storage, "a") == (JobState.CANCELLED, b"second")
    assert await storage.counts(QUEUE) == only(cancelled=1)


async def test_a_spec_comes_back_byte_for_byte(storage: Storage) -> None:
    specs = [b"", b"\0", bytes(range(256)), "\u20ac".encode(), b"\xff" * 100_000, b"123", b"1e3"]
    jobs = [new_job(f"job {n}", spec=spec) for n, spec in enumerate(specs)]
    await enqueue(storage, *jobs)
    assert [job.spec for job in await claim(storage)] == specs
    kept = await storage.get(QUEUE, [job.id for job in jobs])
    assert [job and job.spec for job in kept] == specs


async def test_a_job_is_seen_by_every_handle_at_once(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    await enqueue(one, "a")
    assert await exists(other, "a")
    assert await enqueue(other, "a") == [duplicate(JobState.QUEUED)]
    assert ids(await claim(other)) == ["a"]
    assert await claim(one) == []
