"""So many at a time: of a queue, of a type, of each key, of those that run alone."""

from __future__ import annotations

import pytest

from jobqueue.flow import Flow, Limit, LimitKind, LimitScope, Priority, Rate
from jobqueue.states import CancelResult, JobState
from jobqueue.storage.base import Storage
from jobqueue.storage.types import NewJob
from tests.support.backends import MakeStorage
from tests.support.clock import ManualClock
from tests.support.flows import alone, high, keyed, lift_limit, limit_info, low, set_limit
from tests.support.jobs import (
    HOUR,
    LEASE,
    MINUTE,
    QUEUE,
    SECOND,
    cancel,
    claim,
    claim_one,
    completed,
    enqueue,
    failed,
    held,
    ids,
    new_job,
    only,
    recover,
    released,
    requeued,
    retrying,
    settle,
    snoozed,
    stored,
)
from tests.support.names import HOSTILE_NAMES, LOOKALIKES

TYPE, KEY = LimitKind.TYPE, LimitKind.KEY


def others(*ids: str) -> list[NewJob]:
    """Jobs of another type."""
    return [new_job(id, name="other") for id in ids]


# What makes jobs fall under one limit of one at a time, by each of the ways there are.


async def limit_by_queue(storage: Storage) -> None:
    await set_limit(storage, LimitKind.QUEUE, concurrency=1)


async def limit_by_type(storage: Storage) -> None:
    await set_limit(storage, TYPE, concurrency=1)


async def limit_by_key(storage: Storage) -> None:
    await set_limit(storage, KEY, concurrency=1)


async def limit_by_nothing_else(storage: Storage) -> None:
    return


def plain(*ids: str) -> list[NewJob]:
    return [new_job(id) for id in ids]


def of_key(*ids: str) -> list[NewJob]:
    return keyed("k", *ids)


def of_lone(*ids: str) -> list[NewJob]:
    return alone("x", *ids)


one_at_a_time = pytest.mark.parametrize(
    ("limit", "jobs"),
    [
        (limit_by_queue, plain),
        (limit_by_type, plain),
        (limit_by_key, of_key),
        (limit_by_nothing_else, of_lone),
    ],
    ids=["queue", "type", "key", "alone"],
)


@one_at_a_time
async def test_one_at_a_time_in_order(make_storage: MakeStorage, limit, jobs) -> None:
    one, other = await make_storage(), await make_storage()
    await limit(one)
    await enqueue(one, *jobs("a", "b", "c"))
    for id in ("a", "b", "c"):
        claimed = await claim(other)
        assert ids(claimed) == [id]
        assert await claim(one, worker="w2") == []
        assert (await one.counts(QUEUE))[JobState.RUNNING] == 1
        await settle(other, completed(), *claimed)
    assert await one.counts(QUEUE) == only(completed=3)


@one_at_a_time
@pytest.mark.parametrize(
    "outcome",
    [completed(), failed(), retrying(HOUR), snoozed(HOUR), retrying(0), released(), requeued()],
    ids=["completed", "failed", "retrying", "snoozed", "at once", "released", "requeued"],
)
async def test_every_outcome_frees_the_place(storage: Storage, limit, jobs, outcome) -> None:
    await limit(storage)
    await enqueue(storage, *jobs("a", "b"))
    (claimed,) = await claim(storage)
    await settle(storage, outcome, claimed)
    (following,) = await claim(storage)
    assert (await storage.counts(QUEUE))[JobState.RUNNING] == 1
    await settle(storage, completed(), following)
    left = await claim(storage)
    assert len(left) == (
        outcome.state in (JobState.QUEUED, JobState.RETRYING) and not outcome.delay_ms
    )


@one_at_a_time
async def test_a_cancel_of_what_runs_does_not_free_its_place(storage: Storage, limit, jobs) -> None:
    await limit(storage)
    await enqueue(storage, *jobs("a", "b"))
    claimed = await claim(storage)
    assert await cancel(storage, "a") == [CancelResult.RUNNING]
    assert await claim(storage) == []
    await settle(storage, released(), *claimed)
    assert ids(await claim(storage)) == ["b"]


@one_at_a_time
async def test_a_place_is_held_over_a_recovery(
    storage: Storage, clock: ManualClock, limit, jobs
) -> None:
    await limit(storage)
    await enqueue(storage, *jobs("a", "b"))
    await claim(storage, lease_ms=MINUTE)
    await clock.advance(MINUTE)
    assert await claim(storage, worker="w2") == []
    (taken,) = await recover(storage)
    assert await claim(storage, worker="w2") == []
    await settle(storage, failed(), taken, worker="reaper")
    assert ids(await claim(storage, worker="w2")) == ["b"]
    assert await claim(storage) == []


@one_at_a_time
async def test_a_late_finish_frees_no_place_of_another(
    storage: Storage, clock: ManualClock, limit, jobs
) -> None:
    await limit(storage)
    await enqueue(storage, *jobs("a", "b", "c"))
    (late,) = await claim(storage, lease_ms=MINUTE)
    await clock.advance(MINUTE)
    (taken,) = await recover(storage)
    await settle(storage, failed(), taken, worker="reaper")
    assert ids(await claim(storage, worker="w2")) == ["b"]
    assert await settle(storage, completed(), late) == [False]
    assert await settle(storage, failed(), taken, worker="reaper") == [True]
    assert await claim(storage) == []


@one_at_a_time
async def test_what_waits_behind_a_limit_can_be_cancelled(storage: Storage, limit, jobs) -> None:
    await limit(storage)
    await enqueue(storage, *jobs("a", "b", "c"))
    claimed = await claim(storage)
    assert await claim(storage) == []
    assert await cancel(storage, "b") == [CancelResult.CANCELLED]
    await settle(storage, completed(), *claimed)
    assert ids(await claim(storage)) == ["c"]
    assert await storage.counts(QUEUE) == only(completed=1, cancelled=1, running=1)


@one_at_a_time
async def test_what_was_cancelled_there_and_stored_anew_comes_once(
    storage: Storage, limit, jobs
) -> None:
    await limit(storage)
    await enqueue(storage, *jobs("a", "b", "c"))
    claimed = await claim(storage)
    assert await claim(storage) == []
    await cancel(storage, "b")
    await enqueue(storage, *jobs("b"))
    order: list[str] = []
    while claimed:
        assert len(claimed) == 1
        order += ids(claimed)
        await settle(storage, completed(), *claimed)
        claimed = await claim(storage)
    assert order == ["a", "c", "b"]


@one_at_a_time
async def test_what_is_held_back_is_queued(storage: Storage, limit, jobs) -> None:
    await limit(storage)
    await enqueue(storage, *jobs("a", "b"))
    await claim(storage)
    assert await claim(storage) == []
    assert await storage.counts(QUEUE) == only(running=1, queued=1)
    assert (await stored(storage, "b")).state is JobState.QUEUED
    assert await storage.promote(QUEUE, 10) is None


@one_at_a_time
async def test_a_repeated_claim_takes_no_second_place(storage: Storage, limit, jobs) -> None:
    await limit(storage)
    await enqueue(storage, *jobs("a", "b"))
    first = await claim(storage, token="t")
    assert await claim(storage, token="t") == first
    await settle(storage, completed(), *first)
    await settle(storage, completed(), *first)
    assert ids(await claim(storage)) == ["b"]
    assert await claim(storage) == []


@one_at_a_time
async def test_a_limit_in_one_queue_leaves_the_other(storage: Storage, limit, jobs) -> None:
    await limit(storage)
    await enqueue(storage, *jobs("a", "b"))
    await enqueue(storage, *jobs("a"), queue="other")
    assert ids(await claim(storage)) == ["a"]
    assert ids(await claim(storage, queue="other")) == ["a"]


# -- those behind, and those of other limits ------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "jobs"),
    [(limit_by_type, plain), (limit_by_key, of_key), (limit_by_nothing_else, of_lone)],
    ids=["type", "key", "alone"],
)
async def test_nobody_waits_behind_one_that_is_held_back(storage: Storage, limit, jobs) -> None:
    await limit(storage)
    await enqueue(storage, *jobs("a", "b"), *others("o1"), *jobs("c"), *others("o2"))
    assert ids(await claim(storage)) == ["a", "o1", "o2"]


async def test_hundreds_that_are_held_back_stand_in_nobodys_way(storage: Storage) -> None:
    await set_limit(storage, TYPE, concurrency=1)
    for part in range(3):
        await enqueue(storage, *(f"{part}/{n}" for n in range(400)))
    await enqueue(storage, *others("o"))
    assert ids(await claim(storage, 2)) == ["0/0", "o"]
    assert (await limit_info(storage, TYPE)).held_back == 1199


async def test_a_queue_whose_limit_is_reached_starts_nothing(storage: Storage) -> None:
    await set_limit(storage, LimitKind.QUEUE, concurrency=2)
    await enqueue(storage, "a", *others("b"), *keyed("k", "c"), *high("d"))
    assert ids(await claim(storage)) == ["d", "a"]
    assert await claim(storage) == []
    info = await limit_info(storage, LimitKind.QUEUE)
    assert (info.limit, info.running, info.held_back) == (Limit(2), 2, 0)


async def test_types_have_limits_of_their_own(storage: Storage) -> None:
    await set_limit(storage, TYPE, concurrency=2)
    await set_limit(storage, TYPE, "other", concurrency=1)
    await enqueue(storage, *plain("a", "b", "c"), *others("o1", "o2"), new_job("f", name="free"))
    assert ids(await claim(storage)) == ["a", "b", "o1", "f"]


async def test_each_key_has_places_of_its_own(storage: Storage) -> None:
    await set_limit(storage, KEY, concurrency=2)
    await enqueue(storage, *keyed("k", "k1", "k2", "k3"), *keyed("l", "l1"), *keyed("m", "m1"))
    assert ids(await claim(storage)) == ["k1", "k2", "l1", "m1"]
    info = await limit_info(storage, KEY)
    assert (info.running, info.held_back) == (4, 1)


async def test_limits_by_key_are_kept_apart_by_name(storage: Storage) -> None:
    await set_limit(storage, KEY, "one", concurrency=1)
    await set_limit(storage, KEY, "two", concurrency=1)
    await enqueue(storage, *keyed("k", "a", "b", limit="one"), *keyed("k", "c", limit="two"))
    await enqueue(storage, *keyed("k", "d", "e", limit="of which nothing is said"))
    assert ids(await claim(storage)) == ["a", "c", "d", "e"]


async def test_those_that_run_alone_are_kept_apart_by_their_text(storage: Storage) -> None:
    await enqueue(storage, *alone("x", "x1", "x2"), *alone("y", "y1", "y2"), "plain")
    assert ids(await claim(storage)) == ["x1", "y1", "plain"]


async def test_those_that_run_alone_do_so_over_all_types(storage: Storage) -> None:
    jobs = [new_job(id, name=id, flow=Flow(alone="x")) for id in ("a", "b")]
    await enqueue(storage, *jobs)
    assert ids(await claim(storage)) == ["a"]


async def test_all_limits_of_a_job_hold_at_once(storage: Storage) -> None:
    await set_limit(storage, LimitKind.QUEUE, concurrency=3)
    await set_limit(storage, TYPE, concurrency=2)
    await set_limit(storage, KEY, concurrency=1)
    await enqueue(storage, *keyed("k", "k1", "k2"), *keyed("l", "l1"), *keyed("m", "m1"))
    await enqueue(storage, *others("o1", "o2"))
    k1, l1, o1 = await claim(storage)
    assert (k1.id, l1.id, o1.id) == ("k1", "l1", "o1")
    await settle(storage, completed(), l1)
    assert ids(await claim(storage)) == ["m1"]
    await settle(storage, completed(), k1)
    assert ids(await claim(storage)) == ["k2"]
    await settle(storage, completed(), o1)
    assert ids(await claim(storage)) == ["o2"]


async def test_one_that_is_held_back_twice_takes_no_place_while_it_waits(
    storage: Storage,
) -> None:
    await set_limit(storage, TYPE, concurrency=2)
    jobs = [new_job(id, flow=Flow(alone="x")) for id in ("a", "b")]
    await enqueue(storage, *jobs, "c", "d")
    a, c = await claim(storage)
    assert (a.id, c.id) == ("a", "c")
    await settle(storage, completed(), c)
    assert ids(await claim(storage)) == ["d"]
    assert await claim(storage) == []
    await settle(storage, completed(), a)
    assert ids(await claim(storage)) == ["b"]


async def test_one_freed_by_one_limit_is_held_back_by_the_next(storage: Storage) -> None:
    await set_limit(storage, TYPE, concurrency=1)
    await enqueue(storage, new_job("a", name="first", flow=Flow(alone="x")))
    await enqueue(storage, new_job("b", flow=Flow(alone="x")), "c")
    a, c = await claim(storage)
    assert (a.id, c.id) == ("a", "c")
    await settle(storage, completed(), a)
    assert await claim(storage) == []
    await settle(storage, completed(), c)
    assert ids(await claim(storage)) == ["b"]


# -- in which order they start ---------------------------------------------------------------------


async def test_those_held_back_start_by_level_then_by_turn(storage: Storage) -> None:
    await set_limit(storage, TYPE, concurrency=1)
    await enqueue(storage, "a")
    claimed = await claim(storage)
    for batch in (low("l1"), plain("n1"), high("h1"), low("l2"), plain("n2"), high("h2")):
        await enqueue(storage, *batch)
        assert await claim(storage) == []
    order: list[str] = []
    while claimed:
        await settle(storage, completed(), *claimed)
        claimed = await claim(storage)
        order += ids(claimed)
    assert order == ["h1", "h2", "n1", "n2", "l1", "l2"]


async def test_one_that_was_held_back_goes_before_those_that_came_later(storage: Storage) -> None:
    await set_limit(storage, TYPE, concurrency=1)
    await enqueue(storage, "a", "b")
    claimed = await claim(storage)
    assert await claim(storage) == []
    await enqueue(storage, *others("o"), "c")
    await settle(storage, completed(), *claimed)
    assert ids(await claim(storage, 1)) == ["b"]
    assert ids(await claim(storage)) == ["o"]


async def test_a_lower_level_runs_while_the_higher_one_is_held_back(storage: Storage) -> None:
    await set_limit(storage, TYPE, concurrency=1)
    await enqueue(storage, *high("h1", "h2"))
    low_other = new_job("l", name="other", flow=Flow(priority=Priority.LOW))
    await enqueue(storage, low_other)
    assert ids(await claim(storage)) == ["h1", "l"]


@pytest.mark.parametrize("freed", [1, 2, 3])
async def test_as_many_start_as_places_were_freed(storage: Storage, freed: int) -> None:
    await set_limit(storage, TYPE, concurrency=3)
    await enqueue(storage, *(f"{n}" for n in range(9)))
    claims = await claim(storage)
    assert await claim(storage) == []
    await settle(storage, completed(), *claims[:freed])
    assert ids(await claim(storage)) == [f"{n}" for n in range(3, 3 + freed)]
    info = await limit_info(storage, TYPE)
    assert (info.running, info.held_back) == (3, 6 - freed)


async def test_a_released_job_and_one_held_back_share_the_places(storage: Storage) -> None:
    await set_limit(storage, TYPE, concurrency=2)
    await enqueue(storage, "a", "b", "c", "d")
    a, b = await claim(storage)
    assert await claim(storage) == []
    await settle(storage, released(), a)
    (first,) = await claim(storage)
    assert first.id in ("a", "c")
    await settle(storage, completed(), b, first)
    assert len(await claim(storage)) == 2


async def test_a_retry_under_a_limit_waits_for_a_place_when_it_is_due(
    storage: Storage, clock: ManualClock
) -> None:
    await set_limit(storage, TYPE, concurrency=1)
    await enqueue(storage, "a", "b")
    (a,) = await claim(storage)
    await settle(storage, retrying(SECOND), a)
    (b,) = await claim(storage, lease_ms=HOUR)
    await clock.advance(SECOND)
    assert await claim(storage) == []
    await settle(storage, completed(), b)
    (again,) = await claim(storage)
    assert (again.id, again.attempt) == ("a", 2)


async def test_a_job_that_is_due_waits_for_a_place(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, *alone("x", "a"), new_job("b", delay_ms=1, flow=Flow(alone="x")))
    claimed = await claim_one(storage, lease_ms=HOUR)
    await clock.advance(1)
    assert await claim(storage) == []
    assert await storage.promote(QUEUE, 10) is None
    await settle(storage, completed(), claimed)
    assert ids(await claim(storage)) == ["b"]


# -- limits that change ----------------------------------------------------------------------------


async def test_a_limit_counts_what_runs_when_it_comes_into_force(storage: Storage) -> None:
    await enqueue(storage, *keyed("k", "a", "b"), *keyed("l", "c"), *others("o"))
    a, b, c, o = await claim(storage)
    await set_limit(storage, LimitKind.QUEUE, concurrency=9)
    await set_limit(storage, TYPE, concurrency=4)
    await set_limit(storage, KEY, concurrency=1)
    running = {info.scope: info.running for info in await storage.limits(QUEUE)}
    assert running == {
        LimitScope(LimitKind.QUEUE): 4,
        LimitScope(TYPE, "task"): 3,
        LimitScope(KEY, "customer"): 3,
    }
    await enqueue(storage, *keyed("k", "k3"), *keyed("l", "l2"), *keyed("m", "m1"))
    assert ids(await claim(storage)) == ["m1"]
    await settle(storage, completed(), a)
    assert await claim(storage) == []
    await settle(storage, completed(), b, c, o)
    assert ids(await claim(storage)) == ["k3", "l2"]


async def test_what_ran_before_runs_on_under_a_lower_limit(storage: Storage) -> None:
    await enqueue(storage, "a", "b", "c", "d")
    a, b, c = await claim(storage, 3)
    await set_limit(storage, TYPE, concurrency=1)
    beat = await storage.heartbeat(QUEUE, "w1", held(a, b, c), LEASE)
    assert beat.lost == []
    for claimed in (a, b):
        assert await settle(storage, completed(), claimed) == [True]
        assert await claim(storage) == []
    await settle(storage, completed(), c)
    assert ids(await claim(storage)) == ["d"]


@pytest.mark.parametrize("scope", [LimitKind.QUEUE, TYPE, KEY])
async def test_a_limit_is_raised_lowered_and_ended(storage: Storage, scope: LimitKind) -> None:
    await set_limit(storage, scope, concurrency=1)
    await enqueue(storage, *keyed("k", *(f"{n}" for n in range(8))))
    assert ids(await claim(storage)) == ["0"]
    await set_limit(storage, scope, concurrency=3)
    assert ids(await claim(storage)) == ["1", "2"]
    await set_limit(storage, scope, concurrency=2)
    assert await claim(storage) == []
    await lift_limit(storage, scope)
    assert await storage.limits(QUEUE) == []
    assert ids(await claim(storage)) == ["3", "4", "5", "6", "7"]


async def test_what_an_ended_limit_held_back_keeps_its_place(storage: Storage) -> None:
    await set_limit(storage, TYPE, concurrency=1)
    await enqueue(storage, "a", "b", *others("o"), *low("l"), *high("h"))
    assert ids(await claim(storage)) == ["h", "o"]
    await enqueue(storage, *others("o2"))
    await lift_limit(storage, TYPE)
    assert ids(await claim(storage)) == ["a", "b", "o2", "l"]


async def test_what_a_limit_let_go_goes_before_what_it_held_back_until_its_end(
    storage: Storage,
) -> None:
    await set_limit(storage, TYPE, concurrency=1)
    await enqueue(storage, "a", "b", "c", "d")
    assert ids(await claim(storage)) == ["a"]
    await set_limit(storage, TYPE, concurrency=2)
    await lift_limit(storage, TYPE)
    assert ids(await claim(storage)) == ["b", "c", "d"]


async def test_what_an_ended_limit_held_back_comes_once(storage: Storage) -> None:
    await set_limit(storage, TYPE, concurrency=1)
    await enqueue(storage, "a", "b", "c", "d")
    (a,) = await claim(storage)
    assert await claim(storage) == []
    await settle(storage, completed(), a)
    await lift_limit(storage, TYPE)
    assert ids(await claim(storage, 1)) == ["b"]
    assert ids(await claim(storage)) == ["c", "d"]
    assert await claim(storage) == []


async def test_a_limit_that_ends_while_jobs_run_counts_anew_when_it_comes_back(
    storage: Storage,
) -> None:
    await set_limit(storage, KEY, concurrency=1)
    await enqueue(storage, *keyed("k", "a", "b", "c"))
    (a,) = await claim(storage)
    await lift_limit(storage, KEY)
    b, c = await claim(storage)
    await settle(storage, completed(), a)
    await set_limit(storage, KEY, concurrency=2)
    assert (await limit_info(storage, KEY)).running == 2
    await enqueue(storage, *keyed("k", "d"))
    assert await claim(storage) == []
    await settle(storage, completed(), b, c)
    assert ids(await claim(storage)) == ["d"]


async def test_a_repeated_change_of_a_limit_changes_nothing(storage: Storage) -> None:
    await set_limit(storage, TYPE, concurrency=1)
    await enqueue(storage, "a", "b")
    await claim(storage)
    assert await claim(storage) == []
    before = await storage.limits(QUEUE)
    await set_limit(storage, TYPE, concurrency=1)
    assert await storage.limits(QUEUE) == before
    assert await claim(storage) == []
    await lift_limit(storage, TYPE)
    await lift_limit(storage, TYPE)
    assert ids(await claim(storage)) == ["b"]


async def test_a_limit_that_is_not_there_is_ended_in_vain(storage: Storage) -> None:
    await lift_limit(storage, LimitKind.QUEUE)
    await lift_limit(storage, TYPE)
    await lift_limit(storage, KEY)
    assert await storage.limits(QUEUE) == []


async def test_all_limits_are_told_by_kind_and_name(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    assert await one.limits(QUEUE) == []
    rate = Rate(3, 500)
    await set_limit(one, KEY, "b", concurrency=4)
    await set_limit(one, TYPE, "z", rate=rate)
    await set_limit(one, KEY, "a", concurrency=3)
    await set_limit(one, LimitKind.QUEUE, concurrency=2)
    await one.set_limit(QUEUE, LimitScope(TYPE, "y"), Limit(1, rate, pinned=True))
    assert await other.limits(QUEUE) == [
        (LimitScope(LimitKind.QUEUE), Limit(2), 0, 0),
        (LimitScope(TYPE, "y"), Limit(1, rate, True), 0, 0),
        (LimitScope(TYPE, "z"), Limit(0, rate), 0, 0),
        (LimitScope(KEY, "a"), Limit(3), 0, 0),
        (LimitScope(KEY, "b"), Limit(4), 0, 0),
    ]
    assert await other.limits("elsewhere") == []


async def test_all_names_live_side_by_side_as_keys_and_texts(storage: Storage) -> None:
    names = list(dict.fromkeys([*HOSTILE_NAMES.values(), *LOOKALIKES]))
    await set_limit(storage, KEY, concurrency=1)
    for n, name in enumerate(names):
        await enqueue(storage, *keyed(name, f"k{n}", f"more k{n}"))
        await enqueue(storage, *alone(name, f"x{n}", f"more x{n}"))
    claims = await claim(storage, 500)
    assert ids(claims) == [f"{kind}{n}" for n in range(len(names)) for kind in "kx"]
    assert await claim(storage) == []
    await settle(storage, completed(), *claims)
    following = ids(await claim(storage, 500))
    assert sorted(following) == sorted(
        f"more {kind}{n}" for n in range(len(names)) for kind in "kx"
    )


async def test_all_names_live_side_by_side_as_limits_and_types(storage: Storage) -> None:
    names = list(dict.fromkeys([*HOSTILE_NAMES.values(), *LOOKALIKES]))
    for n, name in enumerate(names):
        await set_limit(storage, KEY, name, concurrency=1)
        await set_limit(storage, TYPE, name, concurrency=2)
        flow = Flow(limit=name, key=name)
        jobs = [new_job(f"k{n}/{m}", name="keyed", flow=flow) for m in range(2)]
        await enqueue(storage, *jobs, *(new_job(f"t{n}/{m}", name=name) for m in range(3)))
    taken = sorted(ids(await claim(storage, 500)))
    assert taken == sorted(
        id for n in range(len(names)) for id in (f"k{n}/0", f"t{n}/0", f"t{n}/1")
    )
    for info in await storage.limits(QUEUE):
        assert info.held_back == 1, info
        assert info.running == info.limit.concurrency
