"""A job whose time to live is over does not exist, for every verb, at once."""

from __future__ import annotations

import pytest

from jobqueue.outcome import Outcome
from jobqueue.states import CancelResult, EnqueueStatus, JobState, TtlResult
from jobqueue.storage.base import Storage
from jobqueue.storage.types import Claim, Enqueued, Reply
from tests.support.backends import MakeStorage
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
    ids,
    new_job,
    only,
    recover,
    result,
    run_one,
    settle,
)
from tests.support.listening import listening_to_replies


async def expire(storage: Storage, clock: ManualClock, outcome: Outcome) -> Claim:
    """Job ``a``, which ended so and whose time is over."""
    await enqueue(storage, new_job("a", request="first"))
    claimed = await run_one(storage, outcome)
    await clock.advance(outcome.ttl_ms - SECOND)
    assert await exists(storage, "a")
    await clock.advance(SECOND)
    return claimed


ENDS = [completed(ttl_ms=MINUTE), failed(ttl_ms=MINUTE), cancelled(ttl_ms=MINUTE)]


@pytest.mark.parametrize("outcome", ENDS)
async def test_it_is_counted_no_more(
    storage: Storage, clock: ManualClock, outcome: Outcome
) -> None:
    await expire(storage, clock, outcome)
    assert await storage.counts(QUEUE) == only()


@pytest.mark.parametrize("outcome", ENDS)
async def test_it_can_be_enqueued_anew(
    storage: Storage, clock: ManualClock, outcome: Outcome
) -> None:
    old = await expire(storage, clock, outcome)
    answers = await enqueue(storage, new_job("a", spec=b"new", request="first"))
    assert answers == [Enqueued(EnqueueStatus.QUEUED, JobState.QUEUED, None)]
    assert await storage.counts(QUEUE) == only(queued=1)
    claimed = await claim_one(storage)
    assert (claimed.spec, claimed.attempt) == (b"new", 1)
    assert claimed.fence > old.fence


async def test_it_cannot_be_read(storage: Storage, clock: ManualClock) -> None:
    await expire(storage, clock, completed(ttl_ms=MINUTE))
    assert await storage.get(QUEUE, ["a"]) == [None]
    assert await storage.results(QUEUE, ["a"]) == [None]
    assert await storage.results(QUEUE, ["a"], "here") == [None]


async def test_it_cannot_be_cancelled(storage: Storage, clock: ManualClock) -> None:
    await expire(storage, clock, completed(ttl_ms=MINUTE))
    assert await cancel(storage, "a") == [CancelResult.NOT_FOUND]
    assert await storage.counts(QUEUE) == only()


async def test_its_time_to_live_cannot_be_changed(storage: Storage, clock: ManualClock) -> None:
    await expire(storage, clock, completed(ttl_ms=MINUTE))
    assert await storage.set_result_ttl(QUEUE, ["a"], HOUR) == [TtlResult.NOT_FOUND]
    assert not await exists(storage, "a")
    assert await storage.counts(QUEUE) == only()


async def test_it_cannot_be_finished(storage: Storage, clock: ManualClock) -> None:
    old = await expire(storage, clock, completed(ttl_ms=MINUTE))
    assert await settle(storage, completed(ttl_ms=HOUR), old) == [False]
    assert not await exists(storage, "a")
    assert await storage.counts(QUEUE) == only()


async def test_it_cannot_be_held(storage: Storage, clock: ManualClock) -> None:
    old = await expire(storage, clock, completed(ttl_ms=MINUTE))
    assert await storage.heartbeat(QUEUE, "w1", held(old), LEASE) == (["a"], [])
    assert not await exists(storage, "a")


async def test_its_old_fence_does_not_hold_the_new_job(
    storage: Storage, clock: ManualClock
) -> None:
    old = await expire(storage, clock, completed(ttl_ms=MINUTE))
    await enqueue(storage, "a")
    fresh = await claim_one(storage)
    assert await settle(storage, completed(b"stale"), old) == [False]
    assert await settle(storage, completed(b"fresh"), fresh) == [True]
    assert await result(storage, "a") == (JobState.COMPLETED, b"fresh")


async def test_it_is_neither_claimed_nor_recovered(storage: Storage, clock: ManualClock) -> None:
    await expire(storage, clock, completed(ttl_ms=MINUTE))
    assert await claim(storage) == []
    assert await recover(storage, 10) == []
    assert await storage.promote(QUEUE, 10) is None


async def test_a_cancelled_waiting_job_expires_too(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, "a", new_job("b", delay_ms=HOUR))
    await cancel(storage, "a", "b", ttl_ms=MINUTE)
    await clock.advance(MINUTE)
    assert await storage.get(QUEUE, ["a", "b"]) == [None, None]
    assert await storage.counts(QUEUE) == only()
    await enqueue(storage, "b", "a")
    assert ids(await claim(storage)) == ["b", "a"]


async def test_what_has_not_ended_never_expires(storage: Storage, clock: ManualClock) -> None:
    await enqueue(
        storage,
        new_job("runs", ttl_ms=1),
        new_job("waits", ttl_ms=1),
        new_job("later", ttl_ms=1, delay_ms=1000 * HOUR),
    )
    await claim(storage, 1)
    await clock.advance(100 * HOUR)
    assert await storage.prune(QUEUE, 100) == 0
    assert await storage.counts(QUEUE) == only(running=1, queued=1, scheduled=1)


async def test_jobs_expire_each_at_its_own_time(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, "a", "b", "c")
    await run_one(storage, completed(ttl_ms=3 * MINUTE))
    await run_one(storage, completed(ttl_ms=MINUTE))
    await run_one(storage, failed(ttl_ms=2 * MINUTE))
    await clock.advance(MINUTE)
    assert await storage.counts(QUEUE) == only(completed=1, failed=1)
    await clock.advance(MINUTE)
    assert await storage.counts(QUEUE) == only(completed=1)
    assert await exists(storage, "a")
    await clock.advance(MINUTE)
    assert await storage.counts(QUEUE) == only()


@pytest.mark.parametrize("end", [completed, failed, cancelled])
async def test_a_job_that_is_not_to_be_kept_is_forgotten_at_once(storage: Storage, end) -> None:
    async with listening_to_replies(storage, "here") as replies:
        await enqueue(storage, new_job("a", reply_to="here"))
        await run_one(storage, end(b"v", ttl_ms=0))
        assert not await exists(storage, "a")
        assert (await storage.counts(QUEUE))[end().state] == 0
        assert await replies.wait_for(1) == [Reply("a", end().state, b"v")]


async def test_a_cancelled_job_that_is_not_to_be_kept_is_forgotten_at_once(
    storage: Storage,
) -> None:
    await enqueue(storage, "a")
    assert await cancel(storage, "a", ttl_ms=0) == [CancelResult.CANCELLED]
    assert not await exists(storage, "a")
    assert await storage.counts(QUEUE) == only()
    assert await claim(storage) == []
    await enqueue(storage, "a")
    assert ids(await claim(storage)) == ["a"]
    assert await claim(storage) == []


async def test_prune_drops_what_has_expired(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, *(f"job {n}" for n in range(6)))
    claims = await claim(storage)
    await settle(storage, completed(ttl_ms=MINUTE), *claims[:4])
    await settle(storage, completed(ttl_ms=HOUR), claims[4])
    assert await storage.prune(QUEUE, 100) == 0
    await clock.advance(MINUTE)
    assert await storage.prune(QUEUE, 100) == 4
    assert await storage.prune(QUEUE, 100) == 0
    assert await storage.counts(QUEUE) == only(completed=1, running=1)


async def test_prune_drops_no_more_than_its_limit(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, *(f"job {n}" for n in range(6)))
    claims = await claim(storage)
    await settle(storage, completed(ttl_ms=MINUTE), *claims[:5])
    await settle(storage, completed(ttl_ms=HOUR), claims[5])
    await clock.advance(MINUTE)
    assert [await storage.prune(QUEUE, 2) for _ in range(4)] == [2, 2, 1, 0]


async def test_the_limit_of_prune_holds_for_all_states_together(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, *(f"job {n}" for n in range(9)))
    claims = await claim(storage)
    for end, (first, second, kept) in zip(
        (completed, failed, cancelled), (claims[:3], claims[3:6], claims[6:]), strict=True
    ):
        await settle(storage, end(ttl_ms=MINUTE), first, second)
        await settle(storage, end(ttl_ms=HOUR), kept)
    await clock.advance(MINUTE)
    assert [await storage.prune(QUEUE, 4) for _ in range(3)] == [4, 2, 0]
    assert await storage.counts(QUEUE) == only(completed=1, failed=1, cancelled=1)


async def test_prune_leaves_an_id_that_was_enqueued_anew(
    make_storage: MakeStorage, clock: ManualClock
) -> None:
    one, other = await make_storage(), await make_storage()
    await expire(one, clock, completed(ttl_ms=MINUTE))
    await enqueue(one, "a")
    await other.prune(QUEUE, 100)
    assert await one.counts(QUEUE) == only(queued=1)
    await run_one(one, completed(ttl_ms=HOUR))
    await other.prune(QUEUE, 100)
    assert await one.counts(QUEUE) == only(completed=1)
    assert await result(one, "a") == (JobState.COMPLETED, b"result")
