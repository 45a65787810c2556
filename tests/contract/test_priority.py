"""Levels: all of a higher one start before any of a lower one, unless ``low`` gets a share."""

from __future__ import annotations

import pytest

from jobqueue.flow import Flow, Priority
from jobqueue.storage.base import Storage
from tests.support.backends import MakeStorage
from tests.support.clock import ManualClock
from tests.support.flows import change, high, low, of_level
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
    ids,
    new_job,
    only,
    recover,
    released,
    requeued,
    retrying,
    run_one,
    settle,
    snoozed,
    stored,
)
from tests.support.waiting import waiting


async def test_a_higher_level_starts_first(storage: Storage) -> None:
    await enqueue(storage, *low("low"), "normal", *high("high"))
    assert ids(await claim(storage, 1)) == ["high"]
    assert ids(await claim(storage, 1)) == ["normal"]
    assert ids(await claim(storage, 1)) == ["low"]


async def test_one_claim_takes_from_all_levels_in_order(storage: Storage) -> None:
    await enqueue(storage, *low("l1"), "n1", *high("h1"), *low("l2"), "n2", *high("h2"))
    assert ids(await claim(storage)) == ["h1", "h2", "n1", "n2", "l1", "l2"]


async def test_first_in_is_first_out_within_a_level_over_handles(
    make_storage: MakeStorage,
) -> None:
    one, other = await make_storage(), await make_storage()
    for n in range(6):
        await enqueue(one if n % 2 else other, *high(f"h{n}"), *low(f"l{n}"))
    claims = [job for n in range(6) for job in await claim(other if n % 2 else one, 2)]
    assert ids(claims) == [f"h{n}" for n in range(6)] + [f"l{n}" for n in range(6)]


async def test_a_high_job_overtakes_all_that_wait(storage: Storage) -> None:
    await enqueue(storage, *(f"{n}" for n in range(500)))
    assert ids(await claim(storage, 2)) == ["0", "1"]
    await enqueue(storage, *high("high"))
    assert ids(await claim(storage, 2)) == ["high", "2"]


async def test_a_job_says_what_it_was_given(storage: Storage) -> None:
    flow = Flow(priority=Priority.HIGH)
    await enqueue(storage, new_job("a", flow=flow), "b")
    assert (await stored(storage, "a")).flow == flow
    assert (await stored(storage, "b")).flow is None
    await run_one(storage, completed())
    assert (await stored(storage, "a")).flow == flow


@pytest.mark.parametrize("level", [Priority.HIGH, Priority.LOW])
@pytest.mark.parametrize("outcome", [released(), requeued()])
async def test_a_released_job_goes_to_the_head_of_its_own_level(
    storage: Storage, level: Priority, outcome
) -> None:
    await enqueue(storage, *of_level(level, "a", "b"))
    claimed = await claim_one(storage)
    await enqueue(storage, *high("h"), "n", *low("l"))
    await settle(storage, outcome, claimed)
    expected = ["a", "b", "h", "n", "l"] if level is Priority.HIGH else ["h", "n", "a", "b", "l"]
    assert ids(await claim(storage)) == expected


async def test_jobs_released_together_keep_the_order_of_each_level(storage: Storage) -> None:
    await enqueue(storage, *high("h1", "h2", "h3"), "n1", "n2", *low("l1", "l2"))
    claims = await claim(storage)
    mixed = [claims[n] for n in (0, 3, 5, 1, 4)]
    await settle(storage, released(), *mixed)
    assert ids(await claim(storage)) == ["h1", "h2", "n1", "n2", "l1"]


async def test_a_promoted_job_goes_to_the_tail_of_its_own_level(
    storage: Storage, clock: ManualClock
) -> None:
    job = new_job("late", delay_ms=SECOND, flow=Flow(priority=Priority.HIGH))
    await enqueue(storage, job, *high("h"), "n")
    await clock.advance(SECOND)
    assert await storage.promote(QUEUE, 10) is None
    await enqueue(storage, *high("h2"))
    assert ids(await claim(storage)) == ["h", "late", "h2", "n"]


@pytest.mark.parametrize("outcome", [retrying(SECOND), snoozed(SECOND)])
async def test_a_job_keeps_its_level_when_it_comes_again(
    storage: Storage, clock: ManualClock, outcome
) -> None:
    await enqueue(storage, *high("a"))
    await run_one(storage, outcome)
    await clock.advance(SECOND)
    await enqueue(storage, "n")
    assert ids(await claim(storage)) == ["a", "n"]


async def test_a_job_of_a_lost_worker_keeps_its_level(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, *low("a"))
    await claim(storage, lease_ms=MINUTE)
    await enqueue(storage, *low("b"), "n")
    await clock.advance(MINUTE)
    taken = await recover(storage)
    await settle(storage, requeued(), *taken, worker="reaper")
    assert ids(await claim(storage)) == ["n", "a", "b"]


async def test_jobs_of_any_level_are_cancelled_and_counted(storage: Storage) -> None:
    await enqueue(storage, *high("h1", "h2"), "n1", *low("l1", "l2"))
    await cancel(storage, "h1", "l1")
    assert await storage.counts(QUEUE) == only(queued=3, cancelled=2)
    assert ids(await claim(storage)) == ["h2", "n1", "l2"]


async def test_a_cancelled_job_stored_anew_waits_in_its_new_level_only(storage: Storage) -> None:
    await enqueue(storage, *low("a", "b"))
    await cancel(storage, "a")
    await enqueue(storage, *high("a"), "n")
    assert ids(await claim(storage)) == ["a", "n", "b"]
    await enqueue(storage, *high("c", "d"))
    await cancel(storage, "c")
    await enqueue(storage, "c")
    assert ids(await claim(storage)) == ["d", "c"]


async def test_levels_of_two_queues_do_not_touch_each_other(storage: Storage) -> None:
    await enqueue(storage, *high("a"), queue="one")
    await enqueue(storage, *low("b"), queue="other")
    assert ids(await claim(storage, queue="other")) == ["b"]
    assert ids(await claim(storage, queue="one")) == ["a"]


@pytest.mark.parametrize("level", Priority)
async def test_a_waiting_claim_is_woken_by_a_job_of_any_level(
    make_storage: MakeStorage, level: Priority
) -> None:
    one, other = await make_storage(), await make_storage()
    async with waiting(one) as waiter:
        await enqueue(other, *of_level(level, "a"))
        assert ids(await waiter.claims()) == ["a"]


async def test_waiting_claims_are_woken_by_levels_released_elsewhere(
    make_storage: MakeStorage,
) -> None:
    one, other = await make_storage(), await make_storage()
    await enqueue(other, *high("h"), *low("l"))
    h, low_one = await claim(other, worker="w2")
    for claimed in (low_one, h):
        async with waiting(one) as waiter:
            await settle(other, released(), claimed, worker="w2")
            assert ids(await waiter.claims()) == [claimed.id]


async def test_a_repeated_claim_gives_the_same_jobs_of_all_levels(storage: Storage) -> None:
    await enqueue(storage, *low("l"), "n", *high("h"))
    first = await claim(storage, 2, token="t")
    assert ids(first) == ["h", "n"]
    assert await claim(storage, 2, token="t") == first
    assert ids(await claim(storage, 2, token="next")) == ["l"]


async def test_what_a_worker_that_leaves_had_in_hand_keeps_its_level(storage: Storage) -> None:
    await enqueue(storage, *low("l"), *high("h"))
    await claim(storage, 1)
    await storage.leave(QUEUE, "w1")
    assert ids(await claim(storage, worker="w2")) == ["l"]


# -- a share for ``low`` -------------------------------------------------------------------------


async def started_order(storage: Storage, each: int = 1) -> list[str]:
    order: list[str] = []
    while found := await claim(storage, each):
        order += ids(found)
        await settle(storage, completed(), *found)
    return order


async def fill(storage: Storage, normal: int, low_count: int) -> None:
    await enqueue(storage, *(f"n{n}" for n in range(normal)))
    await enqueue(storage, *low(*(f"l{n}" for n in range(low_count))))


@pytest.mark.parametrize("each", [1, 2, 3, 100])
async def test_every_so_manieth_is_a_low_one(storage: Storage, each: int) -> None:
    await change(storage, low_every=3)
    await fill(storage, 6, 4)
    order = await started_order(storage, each)
    assert order == ["n0", "n1", "l0", "n2", "n3", "l1", "n4", "n5", "l2", "l3"]


async def test_low_takes_its_turn_from_high_ones_too(storage: Storage) -> None:
    await change(storage, low_every=2)
    await enqueue(storage, *low("l0", "l1"), *high("h0", "h1"), "n0")
    assert await started_order(storage) == ["h0", "l0", "h1", "l1", "n0"]


async def test_a_share_of_one_is_all(storage: Storage) -> None:
    await change(storage, low_every=1)
    await fill(storage, 2, 2)
    assert await started_order(storage) == ["l0", "l1", "n0", "n1"]


async def test_without_a_share_a_low_job_waits_for_all_others(storage: Storage) -> None:
    await change(storage, low_every=2)
    assert (await change(storage, low_every=0)).low_every == 0
    await fill(storage, 4, 1)
    assert await started_order(storage) == ["n0", "n1", "n2", "n3", "l0"]


async def test_only_starts_for_which_a_low_one_waited_are_counted(storage: Storage) -> None:
    await change(storage, low_every=3)
    await enqueue(storage, *(f"n{n}" for n in range(9)))
    assert ids(await claim(storage, 5)) == ["n0", "n1", "n2", "n3", "n4"]
    await enqueue(storage, *low("l0"))
    assert ids(await claim(storage, 4)) == ["n5", "n6", "l0", "n7"]


async def test_a_share_holds_over_workers(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    await change(one, low_every=4)
    await fill(one, 9, 3)
    order = [
        job.id
        for n in range(12)
        for job in await claim(other if n % 2 else one, 1, worker=f"w{n % 2}")
    ]
    assert [n for n, id in enumerate(order) if id.startswith("l")] == [3, 7, 11]


async def test_a_share_of_one_queue_is_not_one_of_another(storage: Storage) -> None:
    await change(storage, low_every=1, queue="other")
    await fill(storage, 1, 1)
    assert await started_order(storage) == ["n0", "l0"]


async def test_a_cancelled_low_job_leaves_no_turn_behind(storage: Storage) -> None:
    await change(storage, low_every=2)
    await fill(storage, 4, 1)
    await cancel(storage, "l0", ttl_ms=HOUR)
    assert await started_order(storage) == ["n0", "n1", "n2", "n3"]
