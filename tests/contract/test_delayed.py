"""Jobs that wait for their time."""

from __future__ import annotations

from jobqueue.states import CancelResult, JobState
from jobqueue.storage.base import Storage
from tests.support.backends import MakeStorage
from tests.support.clock import ManualClock
from tests.support.jobs import (
    HOUR,
    MINUTE,
    QUEUE,
    SECOND,
    cancel,
    claim,
    enqueue,
    ids,
    new_job,
    only,
    retrying,
    run_one,
    snoozed,
    stored,
)


async def test_a_delayed_job_waits_for_its_time(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, new_job("a", delay_ms=MINUTE))
    job = await stored(storage, "a")
    assert (job.state, job.due_ms) == (JobState.SCHEDULED, clock.now() + MINUTE)
    assert await storage.counts(QUEUE) == only(scheduled=1)
    await clock.advance(MINUTE - 1)
    assert await claim(storage) == []
    await clock.advance(1)
    assert ids(await claim(storage)) == ["a"]
    assert await storage.counts(QUEUE) == only(running=1)


async def test_a_job_for_a_moment_waits_for_it(storage: Storage, clock: ManualClock) -> None:
    due = clock.now() + MINUTE
    await enqueue(storage, new_job("a", due_ms=due))
    job = await stored(storage, "a")
    assert (job.state, job.due_ms) == (JobState.SCHEDULED, due)
    await clock.advance(MINUTE - 1)
    assert await claim(storage) == []
    await clock.advance(1)
    assert ids(await claim(storage)) == ["a"]


async def test_a_moment_that_is_not_in_the_future_is_at_once(
    storage: Storage, clock: ManualClock
) -> None:
    now = clock.now()
    jobs = [
        new_job("now", due_ms=now),
        new_job("past", due_ms=now - HOUR),
        new_job("old", due_ms=1),
    ]
    answers = await enqueue(storage, *jobs)
    assert [answer.state for answer in answers] == [JobState.QUEUED] * 3
    assert await storage.counts(QUEUE) == only(queued=3)
    assert ids(await claim(storage)) == ["now", "past", "old"]


async def test_a_moment_just_ahead_is_in_the_future(storage: Storage, clock: ManualClock) -> None:
    (answer,) = await enqueue(storage, new_job("a", due_ms=clock.now() + 1))
    assert answer.state is JobState.SCHEDULED
    assert await claim(storage) == []


async def test_the_far_future_is_kept_to_the_millisecond(
    storage: Storage, clock: ManualClock
) -> None:
    due = clock.now() + 100 * 365 * 24 * HOUR + 1
    await enqueue(storage, new_job("a", due_ms=due))
    assert (await stored(storage, "a")).due_ms == due
    await clock.advance(due - clock.now() - 1)
    assert await claim(storage) == []
    await clock.advance(1)
    assert ids(await claim(storage)) == ["a"]


async def test_promote_moves_due_jobs_only(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, new_job("due", delay_ms=SECOND), new_job("later", delay_ms=HOUR))
    await clock.advance(SECOND)
    assert await storage.promote(QUEUE, 10) == HOUR - SECOND
    assert (await stored(storage, "due")).state is JobState.QUEUED
    assert (await stored(storage, "later")).state is JobState.SCHEDULED
    assert await storage.counts(QUEUE) == only(queued=1, scheduled=1)


async def test_promote_says_when_the_next_job_is_due(storage: Storage, clock: ManualClock) -> None:
    assert await storage.promote(QUEUE, 10) is None
    await enqueue(storage, "at once")
    assert await storage.promote(QUEUE, 10) is None
    await enqueue(storage, new_job("a", delay_ms=HOUR), new_job("b", delay_ms=MINUTE))
    assert await storage.promote(QUEUE, 10) == MINUTE
    await clock.advance(SECOND)
    assert await storage.promote(QUEUE, 10) == MINUTE - SECOND
    await clock.advance(HOUR)
    assert await storage.promote(QUEUE, 10) is None


async def test_promote_moves_no_more_than_its_limit(storage: Storage, clock: ManualClock) -> None:
    for n in range(5):
        await enqueue(storage, new_job(f"{n}", delay_ms=SECOND * (5 - n)))
    await clock.advance(MINUTE)
    assert await storage.promote(QUEUE, 2) == 0
    assert await storage.counts(QUEUE) == only(queued=2, scheduled=3)
    assert await storage.promote(QUEUE, 2) == 0
    assert await storage.promote(QUEUE, 2) is None
    assert ids(await claim(storage)) == ["4", "3", "2", "1", "0"]


async def test_promote_moves_retries_and_snoozes(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, "a", "b")
    await run_one(storage, retrying(SECOND))
    await run_one(storage, snoozed(MINUTE))
    assert await storage.counts(QUEUE) == only(retrying=1, scheduled=1)
    await clock.advance(SECOND)
    assert await storage.promote(QUEUE, 10) == MINUTE - SECOND
    assert (await stored(storage, "a")).state is JobState.QUEUED
    await clock.advance(MINUTE)
    assert await storage.promote(QUEUE, 10) is None
    assert ids(await claim(storage)) == ["a", "b"]


async def test_a_job_promoted_by_one_handle_is_claimed_once(
    make_storage: MakeStorage, clock: ManualClock
) -> None:
    one, other = await make_storage(), await make_storage()
    await enqueue(one, new_job("a", delay_ms=SECOND))
    await clock.advance(SECOND)
    await one.promote(QUEUE, 10)
    await other.promote(QUEUE, 10)
    assert ids(await claim(other)) == ["a"]
    assert await claim(one) == []


async def test_a_cancelled_job_does_not_come_when_it_would_be_due(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, new_job("a", delay_ms=MINUTE), "b")
    await run_one(storage, retrying(MINUTE))
    assert await cancel(storage, "a", "b") == [CancelResult.CANCELLED] * 2
    assert await storage.promote(QUEUE, 10) is None
    await clock.advance(MINUTE)
    assert await claim(storage) == []
    assert await storage.counts(QUEUE) == only(cancelled=2)


async def test_a_cancelled_job_stored_anew_waits_for_its_new_time_only(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, new_job("a", delay_ms=MINUTE))
    await cancel(storage, "a")
    await enqueue(storage, new_job("a", delay_ms=HOUR))
    await clock.advance(MINUTE)
    assert await claim(storage) == []
    assert await storage.promote(QUEUE, 10) == HOUR - MINUTE
    await clock.advance(HOUR - MINUTE)
    assert ids(await claim(storage)) == ["a"]
    assert await claim(storage) == []


async def test_a_job_is_due_again_and_again(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, new_job("a", delay_ms=SECOND))
    for attempt in range(1, 5):
        assert await claim(storage) == []
        await clock.advance(SECOND)
        assert (await run_one(storage, retrying(SECOND))).attempt == attempt
