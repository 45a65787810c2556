"""Groups of one level take turns; those without a group are one more."""

from __future__ import annotations

import pytest

from jobqueue.flow import Flow, Priority
from jobqueue.storage.base import Storage
from jobqueue.storage.types import NewJob
from tests.support.backends import MakeStorage
from tests.support.clock import ManualClock
from tests.support.flows import alone, change, grouped, high
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
    settle,
    stored,
)
from tests.support.names import HOSTILE_NAMES, LOOKALIKES
from tests.support.waiting import waiting


async def order_of(storage: Storage, each: int = 1) -> list[str]:
    """What starts, in order, each ended at once."""
    order: list[str] = []
    while found := await claim(storage, each):
        order += ids(found)
        await settle(storage, completed(), *found)
    return order


each_size = pytest.mark.parametrize("each", [1, 2, 3, 100])


@each_size
async def test_groups_take_turns(storage: Storage, each: int) -> None:
    await enqueue(storage, *grouped("a", "a1", "a2", "a3", "a4"))
    await enqueue(storage, *grouped("b", "b1", "b2"), *grouped("c", "c1"))
    assert await order_of(storage, each) == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]


@each_size
async def test_those_without_a_group_are_one_more(storage: Storage, each: int) -> None:
    await enqueue(storage, *grouped("a", "a1", "a2"), "p1", "p2", *grouped("b", "b1"))
    assert await order_of(storage, each) == ["a1", "p1", "b1", "a2", "p2"]


async def test_a_small_group_does_not_wait_for_a_large_one(storage: Storage) -> None:
    await enqueue(storage, *grouped("large", *(f"l{n}" for n in range(400))))
    assert ids(await claim(storage, 3)) == ["l0", "l1", "l2"]
    await enqueue(storage, *grouped("small", "s0", "s1"))
    assert ids(await claim(storage, 4)) == ["l3", "s0", "l4", "s1"]


async def test_many_that_waited_without_a_group_are_one_more(storage: Storage) -> None:
    await enqueue(storage, *(f"{n}" for n in range(400)))
    await enqueue(storage, *grouped("g", "g1", "g2"))
    assert ids(await claim(storage, 5)) == ["0", "g1", "1", "g2", "2"]
    await enqueue(storage, *(f"more {n}" for n in range(2)))
    assert ids(await claim(storage, 2)) == ["3", "4"]


async def test_without_groups_first_in_is_first_out_again(storage: Storage) -> None:
    await enqueue(storage, *grouped("g", "g1"), "a", "b")
    assert await order_of(storage) == ["g1", "a", "b"]
    await enqueue(storage, "c", "d")
    assert await order_of(storage) == ["c", "d"]


async def test_a_group_that_comes_again_joins_the_end(storage: Storage) -> None:
    await enqueue(storage, *grouped("a", "a1"), *grouped("b", "b1", "b2"))
    assert ids(await claim(storage, 1)) == ["a1"]
    await enqueue(storage, *grouped("c", "c1"), *grouped("a", "a2"))
    assert await order_of(storage) == ["b1", "c1", "a2", "b2"]


async def test_the_turns_go_on_over_workers_and_handles(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    await enqueue(one, *grouped("a", "a1", "a2", "a3"))
    await enqueue(other, *grouped("b", "b1", "b2", "b3"))
    order = [
        job.id
        for n in range(6)
        for job in await claim(other if n % 2 else one, 1, worker=f"w{n % 2}")
    ]
    assert order == ["a1", "b1", "a2", "b2", "a3", "b3"]


async def test_each_level_has_turns_of_its_own(storage: Storage) -> None:
    def of(level: Priority, group: str, *names: str) -> list[NewJob]:
        return [new_job(id, flow=Flow(priority=level, group=group)) for id in names]

    await enqueue(storage, *of(Priority.LOW, "a", "la1", "la2"), *of(Priority.LOW, "b", "lb1"))
    await enqueue(storage, *of(Priority.HIGH, "a", "ha1", "ha2"), *of(Priority.HIGH, "b", "hb1"))
    await enqueue(storage, *grouped("a", "na1"), "n1", *high("h1"))
    assert await order_of(storage) == [
        *("ha1", "hb1", "h1", "ha2"),
        *("na1", "n1"),
        *("la1", "lb1", "la2"),
    ]


async def test_a_low_share_is_shared_by_groups_too(storage: Storage) -> None:
    await change(storage, low_every=2)
    jobs = [new_job(id, flow=Flow(priority=Priority.LOW, group=id[0])) for id in ("a1", "a2", "b1")]
    await enqueue(storage, *jobs, "n1", "n2", "n3")
    assert await order_of(storage) == ["n1", "a1", "n2", "b1", "n3", "a2"]


@pytest.mark.parametrize("outcome", [released(), requeued()])
async def test_a_released_job_is_the_next_of_its_group(storage: Storage, outcome) -> None:
    await enqueue(storage, *grouped("a", "a1", "a2"), *grouped("b", "b1", "b2"))
    claimed = await claim_one(storage)
    await settle(storage, outcome, claimed)
    assert await order_of(storage) == ["b1", "a1", "b2", "a2"]


async def test_a_released_job_without_a_group_is_the_next_of_those(storage: Storage) -> None:
    await enqueue(storage, "p1", "p2", *grouped("a", "a1", "a2"))
    claimed = await claim_one(storage)
    await settle(storage, released(), claimed)
    assert await order_of(storage) == ["a1", "p1", "a2", "p2"]


async def test_jobs_released_together_keep_the_order_of_each_group(storage: Storage) -> None:
    await enqueue(storage, *grouped("a", "a1", "a2", "a3"), *grouped("b", "b1", "b2", "b3"))
    claims = await claim(storage, 4)
    assert ids(claims) == ["a1", "b1", "a2", "b2"]
    await settle(storage, released(), *claims)
    order = await order_of(storage)
    assert [id for id in order if id.startswith("a")] == ["a1", "a2", "a3"]
    assert [id for id in order if id.startswith("b")] == ["b1", "b2", "b3"]


async def test_a_promoted_job_is_the_last_of_its_group(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, new_job("a0", delay_ms=SECOND, flow=Flow(group="a")))
    await enqueue(storage, *grouped("a", "a1", "a2"), *grouped("b", "b1"))
    await clock.advance(SECOND)
    assert await order_of(storage) == ["a1", "b1", "a2", "a0"]


async def test_a_retry_keeps_its_group(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, *grouped("a", "a1", "a2"))
    claimed = await claim_one(storage)
    await settle(storage, retrying(SECOND), claimed)
    await enqueue(storage, *grouped("b", "b1", "b2"))
    await clock.advance(SECOND)
    assert await order_of(storage) == ["a2", "b1", "a1", "b2"]


async def test_a_job_of_a_lost_worker_is_the_next_of_its_group(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, *grouped("a", "a1", "a2"), *grouped("b", "b1"))
    await claim(storage, 1, lease_ms=MINUTE)
    await clock.advance(MINUTE)
    await settle(storage, requeued(), *await recover(storage), worker="reaper")
    assert await order_of(storage) == ["b1", "a1", "a2"]


async def test_a_group_of_which_all_were_cancelled_has_no_turn(storage: Storage) -> None:
    await enqueue(storage, *grouped("a", "a1", "a2"), *grouped("b", "b1"), *grouped("c", "c1"))
    await cancel(storage, "b1", "a1", ttl_ms=HOUR)
    assert await storage.counts(QUEUE) == only(queued=2, cancelled=2)
    assert await order_of(storage) == ["a2", "c1"]
    await enqueue(storage, *grouped("c", "c2", "c3"), *grouped("b", "b2"))
    assert await order_of(storage) == ["c2", "b2", "c3"]


async def test_one_that_is_held_back_lets_its_group_go_on(storage: Storage) -> None:
    jobs = [new_job(id, flow=Flow(group="a", alone="x")) for id in ("a1", "a2")]
    await enqueue(storage, *jobs, *grouped("a", "a3"), *grouped("b", "b1"))
    claims = await claim(storage)
    assert sorted(ids(claims)) == ["a1", "a3", "b1"]
    await settle(storage, completed(), claims[0])
    assert claims[0].id == "a1"
    assert await order_of(storage) == ["a2"]


async def test_a_group_changes_nothing_of_other_rules(storage: Storage) -> None:
    await enqueue(storage, *alone("x", "x1", "x2"), *grouped("g", "g1"))
    (job,) = [job for job in await claim(storage) if job.id == "g1"]
    assert (await stored(storage, job.id)).flow == Flow(group="g")
    assert await storage.counts(QUEUE) == only(running=2, queued=1)


async def test_groups_of_two_queues_do_not_touch_each_other(storage: Storage) -> None:
    await enqueue(storage, *grouped("a", "1", "2"), queue="one")
    await enqueue(storage, *grouped("a", "1"), *grouped("b", "2"), queue="other")
    assert ids(await claim(storage, queue="other")) == ["1", "2"]
    assert ids(await claim(storage, queue="one")) == ["1", "2"]


async def test_all_names_live_side_by_side_as_groups(storage: Storage) -> None:
    names = list(dict.fromkeys([*HOSTILE_NAMES.values(), *LOOKALIKES]))
    for n, name in enumerate(names):
        await enqueue(storage, *grouped(name, f"{n}/1", f"{n}/2"))
    first = [f"{n}/1" for n in range(len(names))]
    second = [f"{n}/2" for n in range(len(names))]
    assert ids(await claim(storage, 500)) == first + second


async def test_a_waiting_claim_is_woken_by_a_job_of_a_group(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    async with waiting(one) as waiter:
        await enqueue(other, *grouped("g", "a"))
        assert ids(await waiter.claims()) == ["a"]


async def test_a_waiting_claim_is_woken_by_a_release_into_a_group(
    make_storage: MakeStorage,
) -> None:
    one, other = await make_storage(), await make_storage()
    await enqueue(other, *grouped("g", "a"))
    claimed = await claim_one(other, worker="w2")
    async with waiting(one) as waiter:
        await settle(other, released(), claimed, worker="w2")
        assert ids(await waiter.claims()) == ["a"]


async def test_a_repeated_claim_takes_no_further_turn(storage: Storage) -> None:
    await enqueue(storage, *grouped("a", "a1", "a2"), *grouped("b", "b1", "b2"))
    first = await claim(storage, 3, token="t")
    assert await claim(storage, 3, token="t") == first
    assert ids(first) == ["a1", "b1", "a2"]
    assert ids(await claim(storage)) == ["b2"]
