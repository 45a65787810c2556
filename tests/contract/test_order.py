"""Who is first: the order in which jobs are claimed."""

from __future__ import annotations

from jobqueue.storage.base import Storage
from tests.support.backends import MakeStorage
from tests.support.clock import ManualClock
from tests.support.jobs import (
    MINUTE,
    QUEUE,
    SECOND,
    cancel,
    claim,
    completed,
    enqueue,
    ids,
    new_job,
    recover,
    released,
    requeued,
    retrying,
    run_one,
    settle,
    snoozed,
)


async def test_first_in_is_first_out_over_batches(storage: Storage) -> None:
    await enqueue(storage, "c", "a")
    await enqueue(storage, "d")
    await enqueue(storage, "b", "e")
    assert ids(await claim(storage)) == ["c", "a", "d", "b", "e"]


async def test_first_in_is_first_out_over_handles(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    for n in range(10):
        await enqueue(one if n % 2 else other, f"{n}")
    claims = [job for n in range(5) for job in await claim(other if n % 2 else one, 2)]
    assert ids(claims) == [f"{n}" for n in range(10)]


async def test_first_in_is_first_out_one_at_a_time(storage: Storage) -> None:
    await enqueue(storage, "a", "b", "c")
    assert [(await run_one(storage, completed())).id for _ in range(3)] == ["a", "b", "c"]


async def test_a_released_job_is_next(storage: Storage) -> None:
    await enqueue(storage, "a", "b")
    await run_one(storage, released())
    assert ids(await claim(storage)) == ["a", "b"]


async def test_several_released_jobs_keep_their_order(storage: Storage) -> None:
    await enqueue(storage, "a", "b", "c", "d")
    claims = await claim(storage, 3)
    await settle(storage, released(), *claims)
    assert ids(await claim(storage)) == ["a", "b", "c", "d"]


async def test_a_later_release_goes_before_an_earlier_one(storage: Storage) -> None:
    await enqueue(storage, "a", "b", "c")
    a, b = await claim(storage, 2)
    await settle(storage, released(), a)
    await settle(storage, released(), b)
    assert ids(await claim(storage)) == ["b", "a", "c"]


async def test_a_job_of_a_lost_worker_is_next(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, "a", "b")
    await claim(storage, 1, lease_ms=MINUTE)
    await clock.advance(MINUTE)
    taken = await recover(storage, 10, lease_ms=MINUTE)
    await settle(storage, requeued(), *taken, worker="reaper")
    assert ids(await claim(storage)) == ["a", "b"]


async def test_a_retry_goes_behind_what_is_ready_when_it_is_due(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, "a", "b")
    await run_one(storage, retrying(SECOND))
    assert ids(await claim(storage, 1)) == ["b"]
    await enqueue(storage, "c")
    await clock.advance(SECOND)
    await enqueue(storage, "d")
    assert ids(await claim(storage)) == ["c", "d", "a"]


async def test_a_retry_without_delay_goes_behind_what_is_ready(storage: Storage) -> None:
    await enqueue(storage, "a", "b")
    await run_one(storage, retrying(0))
    assert ids(await claim(storage)) == ["b", "a"]


async def test_a_snoozed_job_goes_behind_what_is_ready_when_it_is_due(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, "a", "b")
    await run_one(storage, snoozed(SECOND))
    await clock.advance(SECOND)
    assert ids(await claim(storage)) == ["b", "a"]


async def test_due_jobs_join_the_tail_by_due_time(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, new_job("late", delay_ms=3 * SECOND), new_job("soon", delay_ms=SECOND))
    await enqueue(storage, new_job("middle", delay_ms=2 * SECOND), "now")
    await clock.advance(MINUTE)
    await enqueue(storage, "after")
    assert ids(await claim(storage)) == ["now", "after", "soon", "middle", "late"]


async def test_scheduled_and_retrying_jobs_mix_by_due_time(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, "retry", "snooze")
    retry, snooze = await claim(storage)
    await settle(storage, retrying(2 * SECOND), retry)
    await settle(storage, snoozed(4 * SECOND), snooze)
    await enqueue(storage, new_job("first", delay_ms=SECOND), new_job("third", delay_ms=3 * SECOND))
    await clock.advance(MINUTE)
    assert ids(await claim(storage)) == ["first", "retry", "third", "snooze"]


async def test_promotion_fixes_the_place(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, new_job("due", delay_ms=SECOND), "before")
    await clock.advance(SECOND)
    await storage.promote(QUEUE, 10)
    await enqueue(storage, "after")
    assert ids(await claim(storage)) == ["before", "due", "after"]


async def test_a_small_claim_promotes_too(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, "a", "b", new_job("due", delay_ms=SECOND))
    await clock.advance(SECOND)
    assert ids(await claim(storage, 1)) == ["a"]
    await enqueue(storage, "c")
    assert ids(await claim(storage)) == ["b", "due", "c"]


async def test_a_cancelled_job_leaves_the_order_of_the_others(storage: Storage) -> None:
    await enqueue(storage, "a", "b", "c", "d")
    await cancel(storage, "a", "c")
    assert ids(await claim(storage, 1)) == ["b"]
    assert ids(await claim(storage)) == ["d"]
