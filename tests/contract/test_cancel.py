"""Cancelling what waits, and asking what runs to stop."""

from __future__ import annotations

import pytest

from jobqueue.outcome import Outcome
from jobqueue.states import CancelResult, EventType, JobState
from jobqueue.storage.base import Storage
from jobqueue.storage.types import CONTROL, CancelRequested
from tests.support.clock import ManualClock
from tests.support.jobs import (
    HOUR,
    LEASE,
    MINUTE,
    QUEUE,
    SECOND,
    cancel,
    cancelled,
    claim,
    claim_one,
    completed,
    enqueue,
    exists,
    failed,
    held,
    new_job,
    only,
    released,
    requeued,
    result,
    retrying,
    run_one,
    settle,
    snoozed,
    stored,
)
from tests.support.listening import (
    listening,
    listening_to_events,
    listening_to_replies,
)

GIVEN_BACK = [retrying(0), retrying(MINUTE), snoozed(MINUTE), released(), requeued()]


async def make_waiting(storage: Storage, state: JobState, **options: int) -> None:
    """Job ``a``, in one of the states that wait."""
    delay_ms = HOUR if state is JobState.SCHEDULED else 0
    await enqueue(storage, new_job("a", name="type", delay_ms=delay_ms, **options))
    if state is JobState.RETRYING:
        await run_one(storage, retrying(HOUR))
    assert (await stored(storage, "a")).state is state


WAITING = [JobState.QUEUED, JobState.SCHEDULED, JobState.RETRYING]


@pytest.mark.parametrize("state", WAITING)
async def test_a_waiting_job_ends_cancelled(
    storage: Storage, clock: ManualClock, state: JobState
) -> None:
    await make_waiting(storage, state)
    await clock.advance(SECOND)
    assert await cancel(storage, "a", ttl_ms=MINUTE, value=b"why") == [CancelResult.CANCELLED]
    job = await stored(storage, "a")
    assert (job.state, job.value) == (JobState.CANCELLED, b"why")
    assert (job.finished_ms, job.expires_ms) == (clock.now(), clock.now() + MINUTE)
    assert await result(storage, "a") == (JobState.CANCELLED, b"why")
    assert await storage.counts(QUEUE) == only(cancelled=1)
    assert await claim(storage) == []


@pytest.mark.parametrize("state", WAITING)
async def test_the_cancel_of_a_waiting_job_is_told(
    storage: Storage, clock: ManualClock, state: JobState
) -> None:
    await make_waiting(storage, state)
    async with listening_to_events(storage) as events:
        await cancel(storage, "a")
        (event,) = await events.all()
    assert (event.type, event.id, event.name) == (EventType.CANCELLED, "a", "type")
    assert event.at_ms == clock.now()
    assert event.attempt == (1 if state is JobState.RETRYING else 0)


async def test_waiters_of_a_cancelled_job_are_told(storage: Storage) -> None:
    async with listening_to_replies(storage, "here") as replies:
        await enqueue(storage, new_job("a", reply_to="here"))
        await cancel(storage, "a", value=b"why")
        assert await replies.all() == [("a", JobState.CANCELLED, b"why")]


async def test_a_cancelled_job_is_kept_for_its_own_time(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, new_job("a", ttl_ms=HOUR))
    await cancel(storage, "a", ttl_ms=MINUTE)
    await clock.advance(HOUR - SECOND)
    assert await exists(storage, "a")
    await clock.advance(SECOND)
    assert not await exists(storage, "a")


async def test_a_cancelled_job_without_a_time_is_kept_for_the_one_given(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, "a")
    await cancel(storage, "a", ttl_ms=MINUTE)
    await clock.advance(MINUTE - SECOND)
    assert await exists(storage, "a")
    await clock.advance(SECOND)
    assert not await exists(storage, "a")


async def test_a_batch_is_answered_in_its_order(storage: Storage) -> None:
    await enqueue(storage, "ended", "runs", "waits")
    await run_one(storage, completed())
    await claim_one_of(storage, "runs")
    answers = await cancel(storage, "unknown", "waits", "ended", "runs")
    assert answers == [
        CancelResult.NOT_FOUND,
        CancelResult.CANCELLED,
        CancelResult.FINISHED,
        CancelResult.RUNNING,
    ]
    assert await storage.counts(QUEUE) == only(cancelled=1, completed=1, running=1)


async def claim_one_of(storage: Storage, id: str) -> None:
    (claimed,) = await claim(storage, 1)
    assert claimed.id == id


async def test_an_empty_batch_is_answered_empty(storage: Storage) -> None:
    assert await cancel(storage) == []


async def test_an_unknown_id_is_not_stored_by_a_cancel(storage: Storage) -> None:
    assert await cancel(storage, "a") == [CancelResult.NOT_FOUND]
    assert not await exists(storage, "a")
    assert await storage.counts(QUEUE) == only()


@pytest.mark.parametrize("outcome", [completed(), failed(), cancelled()])
async def test_what_has_ended_stays_as_it_is(storage: Storage, outcome: Outcome) -> None:
    await enqueue(storage, "a")
    await run_one(storage, outcome)
    before = await stored(storage, "a")
    async with listening_to_events(storage) as events:
        assert await cancel(storage, "a", value=b"other") == [CancelResult.FINISHED]
        assert await events.all() == []
    assert await stored(storage, "a") == before


async def test_a_running_job_goes_on_and_is_asked_to_stop(storage: Storage) -> None:
    await enqueue(storage, "a")
    claimed = await claim_one(storage)
    assert not (await stored(storage, "a")).cancel_requested
    assert await cancel(storage, "a") == [CancelResult.RUNNING]
    job = await stored(storage, "a")
    assert (job.state, job.cancel_requested) == (JobState.RUNNING, True)
    assert (job.fence, job.attempt) == (claimed.fence, 1)
    assert await storage.counts(QUEUE) == only(running=1)
    assert (await storage.heartbeat(QUEUE, "w1", held(claimed), LEASE)).cancel_requested == ["a"]


async def test_the_request_to_stop_is_told_for_running_jobs_only(storage: Storage) -> None:
    await enqueue(storage, "a", "b", "waits")
    await claim(storage, 2)
    async with listening(storage, CONTROL) as inbox, listening_to_events(storage) as events:
        await cancel(storage, "waits", "a", "unknown")
        await cancel(storage, "b")
        assert await inbox.wait_for(2) == [CancelRequested("a"), CancelRequested("b")]
        assert [event.id for event in await events.all()] == ["waits"]


@pytest.mark.parametrize("outcome", GIVEN_BACK)
async def test_a_job_asked_to_stop_ends_cancelled_when_it_is_given_back(
    storage: Storage, clock: ManualClock, outcome: Outcome
) -> None:
    await enqueue(storage, new_job("a", name="type"))
    claimed = await claim_one(storage)
    await cancel(storage, "a", ttl_ms=MINUTE, value=b"stop")
    await clock.advance(SECOND)
    async with listening_to_events(storage) as events:
        assert await settle(storage, outcome, claimed) == [True]
        (event,) = await events.all()
    assert (event.type, event.id, event.name) == (EventType.CANCELLED, "a", "type")
    job = await stored(storage, "a")
    assert (job.state, job.value) == (JobState.CANCELLED, b"stop")
    assert (job.finished_ms, job.expires_ms) == (clock.now(), clock.now() + MINUTE)
    assert (await storage.counts(QUEUE))[JobState.CANCELLED] == 1
    await clock.advance(MINUTE - 2 * SECOND)
    assert await exists(storage, "a")
    await clock.advance(2 * SECOND)
    assert not await exists(storage, "a")


@pytest.mark.parametrize("outcome", GIVEN_BACK)
async def test_a_job_that_was_given_back_and_cancelled_does_not_run_again(
    storage: Storage, clock: ManualClock, outcome: Outcome
) -> None:
    await enqueue(storage, "a")
    claimed = await claim_one(storage)
    await cancel(storage, "a")
    await settle(storage, outcome, claimed)
    assert await claim(storage) == []
    await clock.advance(2 * MINUTE)
    assert await claim(storage) == []
    assert await storage.promote(QUEUE, 10) is None
    assert await storage.counts(QUEUE) == only(cancelled=1)


async def test_a_job_asked_to_stop_is_kept_for_its_own_time(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, new_job("a", ttl_ms=HOUR))
    claimed = await claim_one(storage)
    await cancel(storage, "a", ttl_ms=MINUTE)
    await settle(storage, released(), claimed)
    assert (await stored(storage, "a")).expires_ms == clock.now() + HOUR


async def test_waiters_of_a_job_asked_to_stop_are_told_when_it_ended(storage: Storage) -> None:
    async with listening_to_replies(storage, "here") as replies:
        await enqueue(storage, new_job("a", reply_to="here"))
        claimed = await claim_one(storage)
        await cancel(storage, "a", value=b"stop")
        assert await replies.all() == []
        await settle(storage, retrying(), claimed)
        assert await replies.all() == [("a", JobState.CANCELLED, b"stop")]


@pytest.mark.parametrize("outcome", [completed(b"own"), failed(b"own"), cancelled(b"own")])
async def test_an_outcome_that_ends_the_job_wins_over_a_request_to_stop(
    storage: Storage, clock: ManualClock, outcome: Outcome
) -> None:
    await enqueue(storage, "a")
    claimed = await claim_one(storage)
    await cancel(storage, "a", ttl_ms=MINUTE, value=b"stop")
    async with listening_to_events(storage) as events:
        assert await settle(storage, outcome, claimed) == [True]
        assert [event.type for event in await events.all()] == [outcome.event]
    assert await result(storage, "a") == (outcome.state, b"own")
    assert (await stored(storage, "a")).expires_ms == clock.now() + HOUR


async def test_the_first_of_several_requests_to_stop_counts(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, "a")
    claimed = await claim_one(storage)
    assert await cancel(storage, "a", ttl_ms=MINUTE, value=b"first") == [CancelResult.RUNNING]
    assert await cancel(storage, "a", ttl_ms=HOUR, value=b"second") == [CancelResult.RUNNING]
    await settle(storage, released(), claimed)
    job = await stored(storage, "a")
    assert (job.value, job.expires_ms) == (b"first", clock.now() + MINUTE)


async def test_an_empty_reason_is_a_reason(storage: Storage) -> None:
    await enqueue(storage, "runs", "waits")
    claimed = (await claim(storage, 1))[0]
    await cancel(storage, "runs", "waits", value=b"")
    await cancel(storage, "runs", value=b"second")
    await settle(storage, released(), claimed)
    kept = await storage.get(QUEUE, ["runs", "waits"])
    assert [(job and job.state, job and job.value) for job in kept] == [
        (JobState.CANCELLED, b"")
    ] * 2


async def test_an_id_named_twice_is_cancelled_once(storage: Storage) -> None:
    await enqueue(storage, "a")
    async with listening_to_events(storage) as events:
        first, second = await cancel(storage, "a", "a")
        assert [event.type for event in await events.all()] == [EventType.CANCELLED]
    assert first is CancelResult.CANCELLED
    assert second is CancelResult.CANCELLED
    assert (await storage.counts(QUEUE))[JobState.CANCELLED] == 1
