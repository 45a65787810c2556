"""Jobs that are not worth starting after a time: they end ``cancelled`` and never run."""

from __future__ import annotations

import pytest

from jobqueue.flow import LimitKind
from jobqueue.outcome import EXPIRED
from jobqueue.states import CancelResult, EnqueueStatus, EventType, JobState
from jobqueue.storage.base import Storage
from tests.support.backends import MakeStorage
from tests.support.clock import ManualClock
from tests.support.flows import change, expiring, set_limit
from tests.support.jobs import (
    HOUR,
    MINUTE,
    QUEUE,
    SECOND,
    cancel,
    claim,
    claim_one,
    completed,
    enqueue,
    exists,
    ids,
    new_job,
    only,
    recover,
    released,
    requeued,
    result,
    retrying,
    run_one,
    settle,
    snoozed,
    stored,
)
from tests.support.listening import listening_to_events, listening_to_replies
from tests.support.waiting import waiting


async def end_by_claim(storage: Storage) -> None:
    assert await claim(storage) == []


async def end_by_promote(storage: Storage) -> None:
    await storage.promote(QUEUE, 10)


both_ends = pytest.mark.parametrize("end", [end_by_claim, end_by_promote])


async def test_a_job_that_starts_in_time_runs(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, expiring("a", MINUTE))
    await clock.advance(MINUTE - 1)
    assert ids(await claim(storage)) == ["a"]


@both_ends
async def test_a_job_that_does_not_start_in_time_ends(
    storage: Storage, clock: ManualClock, end
) -> None:
    await enqueue(storage, expiring("a", MINUTE, ttl_ms=HOUR))
    await clock.advance(MINUTE)
    await end(storage)
    job = await stored(storage, "a")
    assert (job.state, job.value, job.attempt) == (JobState.CANCELLED, EXPIRED, 0)
    assert (job.finished_ms, job.expires_ms) == (clock.now(), clock.now() + HOUR)
    assert await result(storage, "a") == (JobState.CANCELLED, EXPIRED)
    assert await storage.counts(QUEUE) == only(cancelled=1)
    assert await claim(storage) == []
    await clock.advance(HOUR)
    assert not await exists(storage, "a")


@both_ends
async def test_its_end_is_told(storage: Storage, clock: ManualClock, end) -> None:
    async with listening_to_replies(storage, "here") as replies:
        await enqueue(storage, expiring("a", MINUTE, reply_to="here", name="type"))
        await clock.advance(MINUTE)
        async with listening_to_events(storage) as events:
            await end(storage)
            (event,) = await events.all()
        assert (event.type, event.id, event.name) == (EventType.CANCELLED, "a", "type")
        assert (event.at_ms, event.attempt, event.worker) == (clock.now(), 0, "")
        assert await replies.all() == [("a", JobState.CANCELLED, EXPIRED)]


async def test_a_claim_passes_over_it_to_those_behind(storage: Storage, clock: ManualClock) -> None:
    jobs = [expiring("a", SECOND), "b", expiring("c", SECOND), expiring("d", HOUR)]
    await enqueue(storage, *jobs)
    await clock.advance(SECOND)
    assert ids(await claim(storage, 2)) == ["b", "d"]
    assert await storage.promote(QUEUE, 10) is None
    assert await storage.counts(QUEUE) == only(running=2, cancelled=2)


async def test_a_claim_passes_over_hundreds(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, *(expiring(f"{n}", SECOND) for n in range(500)))
    await enqueue(storage, *(expiring(f"{n}", SECOND) for n in range(500, 600)), "last")
    await clock.advance(SECOND)
    assert ids(await claim(storage, 1)) == ["last"]


async def test_a_job_that_started_in_time_never_expires(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, *(expiring(id, MINUTE) for id in ("a", "b", "c", "d")))
    a, b, c, d = await claim(storage, lease_ms=MINUTE)
    await settle(storage, released(), a)
    await settle(storage, retrying(HOUR), b)
    await settle(storage, snoozed(HOUR), c)
    await clock.advance(2 * MINUTE)
    (lost,) = await recover(storage)
    assert lost.id == d.id
    await settle(storage, requeued(), lost, worker="reaper")
    assert await storage.promote(QUEUE, 10) == HOUR - 2 * MINUTE
    await clock.advance(HOUR)
    assert sorted(ids(await claim(storage))) == ["a", "b", "c", "d"]


async def test_a_running_job_does_not_expire(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, expiring("a", SECOND))
    claimed = await claim_one(storage)
    await clock.advance(SECOND)
    assert await storage.promote(QUEUE, 10) is None
    assert await settle(storage, completed(), claimed) == [True]


@both_ends
async def test_a_scheduled_job_expires_too(storage: Storage, clock: ManualClock, end) -> None:
    await enqueue(storage, expiring("a", MINUTE, delay_ms=HOUR))
    assert await storage.promote(QUEUE, 10) == MINUTE
    await clock.advance(MINUTE)
    await end(storage)
    assert (await stored(storage, "a")).value == EXPIRED
    assert await storage.counts(QUEUE) == only(cancelled=1)
    await clock.advance(HOUR - MINUTE)
    assert await claim(storage) == []


async def test_its_time_runs_from_its_enqueue_not_from_when_it_is_due(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, expiring("a", MINUTE, delay_ms=MINUTE - SECOND))
    await clock.advance(MINUTE - SECOND)
    assert await storage.promote(QUEUE, 10) == SECOND
    await clock.advance(SECOND)
    assert await claim(storage) == []


async def test_promote_says_when_the_next_job_expires(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, expiring("a", MINUTE), new_job("later", delay_ms=HOUR))
    assert await storage.promote(QUEUE, 10) == MINUTE
    await clock.advance(SECOND)
    assert await storage.promote(QUEUE, 10) == MINUTE - SECOND
    await claim(storage)
    assert await storage.promote(QUEUE, 10) == HOUR - SECOND
    await cancel(storage, "later")
    assert await storage.promote(QUEUE, 10) is None


async def test_promote_ends_no_more_than_its_limit(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, *(expiring(f"{n}", SECOND) for n in range(5)))
    await clock.advance(SECOND)
    assert await storage.promote(QUEUE, 2) == 0
    assert await storage.counts(QUEUE) == only(queued=3, cancelled=2)
    assert await storage.promote(QUEUE, 2) == 0
    assert await storage.promote(QUEUE, 2) is None
    assert await storage.counts(QUEUE) == only(cancelled=5)


async def test_a_cancelled_job_does_not_expire_again(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, expiring("a", MINUTE))
    assert await cancel(storage, "a", value=b"why") == [CancelResult.CANCELLED]
    await clock.advance(MINUTE)
    async with listening_to_events(storage) as events:
        assert await storage.promote(QUEUE, 10) is None
        assert await events.all() == []
    assert (await stored(storage, "a")).value == b"why"


async def test_an_expired_job_can_be_stored_anew(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, expiring("a", MINUTE))
    await clock.advance(MINUTE)
    await storage.promote(QUEUE, 10)
    (answer,) = await enqueue(storage, expiring("a", HOUR))
    assert answer.status is EnqueueStatus.QUEUED
    assert await storage.promote(QUEUE, 10) == HOUR
    await clock.advance(MINUTE)
    assert ids(await claim(storage)) == ["a"]


async def test_a_job_stored_anew_without_an_expiry_has_none(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, expiring("a", MINUTE))
    await cancel(storage, "a")
    await enqueue(storage, "a")
    assert await storage.promote(QUEUE, 10) is None
    await clock.advance(MINUTE)
    assert ids(await claim(storage)) == ["a"]


async def test_a_job_expires_while_the_queue_is_paused(
    storage: Storage, clock: ManualClock
) -> None:
    await change(storage, paused=1)
    await enqueue(storage, expiring("a", MINUTE))
    await clock.advance(MINUTE)
    await storage.promote(QUEUE, 10)
    assert await storage.counts(QUEUE) == only(cancelled=1)
    await change(storage, paused=0)
    assert await claim(storage) == []


@both_ends
async def test_a_job_that_a_limit_holds_back_expires(
    storage: Storage, clock: ManualClock, end
) -> None:
    await set_limit(storage, LimitKind.TYPE, concurrency=1)
    await enqueue(storage, "a", expiring("b", MINUTE), "c")
    claimed = await claim_one(storage, lease_ms=HOUR)
    assert await claim(storage) == []
    await clock.advance(MINUTE)
    await end(storage)
    assert await storage.counts(QUEUE) == only(running=1, queued=1, cancelled=1)
    await settle(storage, completed(), claimed)
    assert ids(await claim(storage)) == ["c"]


async def test_a_repeated_enqueue_does_not_revive_an_expired_job(
    storage: Storage, clock: ManualClock
) -> None:
    job = expiring("a", MINUTE, request="token")
    await enqueue(storage, job)
    await clock.advance(MINUTE)
    await storage.promote(QUEUE, 10)
    (answer,) = await enqueue(storage, job)
    assert (answer.status, answer.state) == (EnqueueStatus.QUEUED, JobState.CANCELLED)
    assert await claim(storage) == []


async def test_a_repeated_claim_gives_what_it_took_not_what_expired(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, expiring("a", MINUTE), "b", "c")
    await clock.advance(MINUTE)
    first = await claim(storage, 1, token="t")
    assert ids(first) == ["b"]
    assert await claim(storage, 1, token="t") == first


async def test_expiry_belongs_to_its_queue(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, expiring("a", MINUTE), queue="one")
    await enqueue(storage, "a", queue="other")
    assert await storage.promote("other", 10) is None
    await clock.advance(MINUTE)
    assert ids(await claim(storage, queue="other")) == ["a"]
    assert await storage.counts("one") == only(queued=1)
    assert await claim(storage, queue="one") == []


async def test_a_waiting_claim_is_not_ended_by_an_expiry(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    await change(other, paused=1)
    await enqueue(other, expiring("a", 1))
    async with waiting(one) as waiter:
        await change(other, paused=0)
        await enqueue(other, "b")
        assert ids(await waiter.claims()) == ["b"]


async def test_what_has_run_once_is_kept_for_the_time_of_its_outcome(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, expiring("a", MINUTE))
    await run_one(storage, completed(ttl_ms=2 * HOUR))
    assert (await stored(storage, "a")).expires_ms == clock.now() + 2 * HOUR
