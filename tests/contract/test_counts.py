"""Exact numbers of jobs in each state."""

from __future__ import annotations

from jobqueue.states import JobState
from jobqueue.storage.base import Storage
from tests.support.backends import MakeStorage
from tests.support.clock import ManualClock
from tests.support.jobs import (
    HOUR,
    MINUTE,
    QUEUE,
    cancel,
    cancelled,
    claim,
    completed,
    enqueue,
    failed,
    new_job,
    only,
    recover,
    released,
    retrying,
    run_one,
    settle,
    snoozed,
)


async def test_every_state_is_present_in_an_unknown_queue(storage: Storage) -> None:
    counts = await storage.counts("never heard of")
    assert counts == dict.fromkeys(JobState, 0)
    assert all(type(number) is int for number in counts.values())


async def test_every_state_is_counted(storage: Storage) -> None:
    await enqueue(storage, *(f"job {n}" for n in range(20)), new_job("later", delay_ms=HOUR))
    claims = await claim(storage, 15)
    await settle(storage, completed(), *claims[:5])
    await settle(storage, failed(), *claims[5:9])
    await settle(storage, cancelled(), *claims[9:12])
    await settle(storage, retrying(HOUR), *claims[12:14])
    assert await storage.counts(QUEUE) == only(
        queued=5, scheduled=1, running=1, completed=5, failed=4, cancelled=3, retrying=2
    )


async def test_each_step_of_a_job_is_counted(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, new_job("a", delay_ms=MINUTE))
    assert await storage.counts(QUEUE) == only(scheduled=1)
    await clock.advance(MINUTE)
    await storage.promote(QUEUE, 10)
    assert await storage.counts(QUEUE) == only(queued=1)
    await run_one(storage, retrying(MINUTE))
    assert await storage.counts(QUEUE) == only(retrying=1)
    await clock.advance(MINUTE)
    await run_one(storage, snoozed(MINUTE))
    assert await storage.counts(QUEUE) == only(scheduled=1)
    await clock.advance(MINUTE)
    await run_one(storage, released())
    assert await storage.counts(QUEUE) == only(queued=1)
    (claimed,) = await claim(storage, lease_ms=MINUTE)
    assert await storage.counts(QUEUE) == only(running=1)
    await clock.advance(MINUTE)
    (taken,) = await recover(storage, 10, lease_ms=MINUTE)
    assert await storage.counts(QUEUE) == only(running=1)
    await settle(storage, failed(ttl_ms=MINUTE), taken, worker="reaper")
    assert await storage.counts(QUEUE) == only(failed=1)
    assert await settle(storage, completed(), claimed) == [False]
    assert await storage.counts(QUEUE) == only(failed=1)
    await clock.advance(MINUTE)
    assert await storage.counts(QUEUE) == only()


async def test_a_due_job_is_waiting_until_it_is_promoted_or_claimed(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, new_job("a", delay_ms=MINUTE))
    await clock.advance(MINUTE)
    counts = await storage.counts(QUEUE)
    assert counts[JobState.SCHEDULED] + counts[JobState.QUEUED] == 1
    await claim(storage)
    assert await storage.counts(QUEUE) == only(running=1)


async def test_repeats_and_cancels_are_counted_once(storage: Storage) -> None:
    for _ in range(3):
        await enqueue(storage, new_job("a"), new_job("b", delay_ms=HOUR))
        await cancel(storage, "a", "b")
        await cancel(storage, "a", "b")
    assert await storage.counts(QUEUE) == only(cancelled=2)
    await enqueue(storage, "a", "b", "a")
    assert await storage.counts(QUEUE) == only(queued=2)


async def test_many_jobs_are_counted_exactly_through_every_handle(
    make_storage: MakeStorage,
) -> None:
    one, other = await make_storage(), await make_storage()
    for part in range(3):
        await enqueue(one, *(f"{part}/{n}" for n in range(400)))
    for _ in range(2):
        await settle(other, completed(), *await claim(other, 300))
    for storage in (one, other):
        assert await storage.counts(QUEUE) == only(queued=600, completed=600)
