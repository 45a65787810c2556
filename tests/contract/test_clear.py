"""Emptying a queue: of what waits, and of everything."""

from __future__ import annotations

import pytest

from jobqueue.flow import OPEN, Flow, LimitKind, Priority, StoredSchedule, UniqueUntil
from jobqueue.states import EnqueueStatus, EventType, JobState
from jobqueue.storage.base import Storage
from jobqueue.storage.types import MAX_BATCH
from tests.support.backends import MakeStorage
from tests.support.clock import ManualClock
from tests.support.flows import (
    alone,
    change,
    expiring,
    grouped,
    high,
    keyed,
    limit_info,
    low,
    set_limit,
    unique,
)
from tests.support.jobs import (
    HOUR,
    LEASE,
    MINUTE,
    QUEUE,
    cancel,
    claim,
    claim_one,
    completed,
    enqueue,
    exists,
    held,
    ids,
    new_job,
    only,
    recover,
    result,
    retrying,
    run_one,
    settle,
    stored,
)
from tests.support.listening import listening_to_events, listening_to_replies
from tests.support.names import HOSTILE_NAMES
from tests.support.waiting import waiting


async def clear(storage: Storage, limit: int = 100, *, queue: str = QUEUE) -> int:
    return await storage.clear(queue, limit, MINUTE, b"cleared")


async def fill(storage: Storage) -> None:
    """Jobs in every state: ``runs``, ``retries``, ``done``, ``gone`` and others that wait."""
    await enqueue(storage, "runs", "retries", "done")
    _, retries, done = await claim(storage)
    await settle(storage, retrying(HOUR), retries)
    await settle(storage, completed(), done)
    await enqueue(storage, "gone")
    await cancel(storage, "gone", value=b"why")
    await enqueue(storage, "n", *high("h"), *low("l"), new_job("s", delay_ms=HOUR))
    await enqueue(storage, *grouped("g", "g1", "g2"))


# -- clear ---------------------------------------------------------------------------------------


async def test_clear_ends_what_waits_and_nothing_else(storage: Storage, clock: ManualClock) -> None:
    await fill(storage)
    assert await clear(storage) == 7
    assert await storage.counts(QUEUE) == only(running=1, completed=1, cancelled=8)
    for id in ("retries", "n", "h", "l", "s", "g1", "g2"):
        job = await stored(storage, id)
        assert (job.state, job.value) == (JobState.CANCELLED, b"cleared"), id
        assert (job.finished_ms, job.expires_ms) == (clock.now(), clock.now() + MINUTE)
    assert await result(storage, "gone") == (JobState.CANCELLED, b"why")
    assert await claim(storage) == []
    assert await storage.promote(QUEUE, 10) is None
    await clock.advance(2 * HOUR)
    assert await claim(storage) == []


async def test_clear_again_finds_nothing(storage: Storage) -> None:
    assert await clear(storage) == 0
    await fill(storage)
    await clear(storage)
    assert await clear(storage) == 0


async def test_clear_ends_no_more_than_its_limit(storage: Storage) -> None:
    await enqueue(storage, *(f"{n}" for n in range(3)), new_job("s", delay_ms=HOUR), *high("h"))
    assert [await clear(storage, 2) for _ in range(4)] == [2, 2, 1, 0]
    assert await storage.counts(QUEUE) == only(cancelled=5)


@pytest.mark.parametrize("forget", [False, True])
async def test_no_call_finds_nothing_while_a_job_waits(
    storage: Storage, clock: ManualClock, forget: bool
) -> None:
    await enqueue(storage, new_job("gone", delay_ms=HOUR))
    await cancel(storage, "gone")
    await enqueue(storage, unique("waits"))  # the first that says something in this queue
    await clock.advance(HOUR)
    if forget:
        assert [await storage.obliterate(QUEUE, 1) for _ in range(2)] == [1, 0]
        assert not await exists(storage, "waits")
    else:
        assert [await clear(storage, 1) for _ in range(2)] == [1, 0]
        assert (await stored(storage, "waits")).value == b"cleared"


async def test_a_call_finds_a_job_behind_those_that_were_cancelled(storage: Storage) -> None:
    await enqueue(storage, new_job("later", delay_ms=HOUR), "gone", "waits")
    await cancel(storage, "later", "gone")
    await enqueue(storage, *high("h"))
    await cancel(storage, "h")
    assert await clear(storage, 1) == 1
    assert (await stored(storage, "waits")).value == b"cleared"


async def test_clear_ends_a_whole_batch(storage: Storage) -> None:
    await enqueue(storage, *(f"{n}" for n in range(MAX_BATCH)))
    await enqueue(storage, "one more")
    assert await clear(storage, MAX_BATCH) == MAX_BATCH
    assert await clear(storage, MAX_BATCH) == 1


async def test_a_cleared_job_is_kept_for_its_own_time(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, new_job("a", ttl_ms=HOUR))
    await clear(storage)
    assert (await stored(storage, "a")).expires_ms == clock.now() + HOUR


async def test_the_end_of_what_is_cleared_is_told(storage: Storage, clock: ManualClock) -> None:
    async with listening_to_replies(storage, "here") as replies:
        await enqueue(storage, new_job("a", name="type", reply_to="here"))
        async with listening_to_events(storage) as events:
            await clear(storage)
            (event,) = await events.all()
        assert (event.type, event.id, event.name) == (EventType.CANCELLED, "a", "type")
        assert event.at_ms == clock.now()
        assert await replies.all() == [("a", JobState.CANCELLED, b"cleared")]


async def test_clear_ends_what_a_limit_holds_back(storage: Storage) -> None:
    await set_limit(storage, LimitKind.TYPE, concurrency=1)
    await enqueue(storage, "a", "b", *alone("x", "c"))
    claimed = await claim_one(storage)
    assert await claim(storage) == []
    assert await clear(storage) == 2
    info = await limit_info(storage, LimitKind.TYPE)
    assert (info.running, info.held_back) == (1, 0)
    await settle(storage, completed(), claimed)
    assert await claim(storage) == []
    await enqueue(storage, "d")
    assert ids(await claim(storage)) == ["d"]


async def test_clear_frees_unique_keys_and_room(storage: Storage) -> None:
    await change(storage, max_waiting=1)
    await enqueue(storage, unique("a"))
    await clear(storage)
    (answer,) = await enqueue(storage, unique("b"))
    assert answer.status is EnqueueStatus.QUEUED


async def test_what_was_cleared_can_be_stored_anew(storage: Storage) -> None:
    await enqueue(storage, expiring("a", HOUR), *high("b"))
    await clear(storage)
    await enqueue(storage, "b", "a")
    assert ids(await claim(storage)) == ["b", "a"]


async def test_clear_of_one_queue_leaves_the_other(storage: Storage) -> None:
    await enqueue(storage, "a", queue="one")
    await enqueue(storage, "a", queue="other")
    assert await clear(storage, queue="one") == 1
    assert ids(await claim(storage, queue="other")) == ["a"]


async def test_clear_leaves_what_holds_for_the_queue(storage: Storage) -> None:
    await change(storage, paused=1, max_waiting=5)
    await set_limit(storage, LimitKind.TYPE, concurrency=1)
    await enqueue(storage, "a")
    await clear(storage)
    assert (await storage.control(QUEUE)).paused
    assert len(await storage.limits(QUEUE)) == 1


async def test_odd_names_are_cleared_and_obliterated(storage: Storage) -> None:
    for name in HOSTILE_NAMES.values():
        flow = Flow(group=name, limit=name, key=name, alone=name, priority=Priority.LOW)
        await enqueue(storage, new_job(name, name=name, flow=flow), queue=name)
    for name in HOSTILE_NAMES.values():
        assert await clear(storage, queue=name) == 1
        assert await storage.obliterate(name, 10) == 1
        assert await storage.obliterate(name, 10) == 0


# -- obliterate ----------------------------------------------------------------------------------


async def test_obliterate_forgets_every_job(storage: Storage, clock: ManualClock) -> None:
    await fill(storage)
    assert await storage.obliterate(QUEUE, 100) == 10
    assert await storage.counts(QUEUE) == only()
    for id in ("runs", "retries", "done", "gone", "n", "h", "l", "s", "g1", "g2"):
        assert not await exists(storage, id)
    assert await claim(storage) == []
    assert await storage.promote(QUEUE, 10) is None
    await clock.advance(2 * HOUR)
    assert await claim(storage) == []
    assert await recover(storage) == []
    assert await storage.delayed(QUEUE, 10) == []


async def test_obliterate_forgets_no_more_than_its_limit(storage: Storage) -> None:
    await fill(storage)
    assert [await storage.obliterate(QUEUE, 4) for _ in range(4)] == [4, 4, 2, 0]


async def test_nobody_is_told(storage: Storage) -> None:
    async with listening_to_replies(storage, "here") as replies:
        await enqueue(storage, new_job("a", reply_to="here"))
        async with listening_to_events(storage) as events:
            await storage.obliterate(QUEUE, 10)
            assert await events.all() == []
        assert await replies.all() == []


async def test_who_runs_one_has_lost_its_lease(storage: Storage) -> None:
    await enqueue(storage, "a")
    claimed = await claim(storage, token="t")
    await storage.obliterate(QUEUE, 10)
    assert (await storage.heartbeat(QUEUE, "w1", held(*claimed), LEASE)).lost == ["a"]
    assert await settle(storage, completed(), *claimed) == [False]
    assert await claim(storage, token="t") == []
    assert await storage.counts(QUEUE) == only()


async def test_fences_rise_over_an_obliteration(storage: Storage) -> None:
    await enqueue(storage, "a")
    before = await claim_one(storage)
    await storage.obliterate(QUEUE, 10)
    await storage.obliterate(QUEUE, 10)
    await enqueue(storage, "a")
    after = await claim_one(storage)
    assert after.fence > before.fence
    assert await settle(storage, completed(), before) == [False]


async def test_a_forgotten_job_is_as_if_it_had_never_been(storage: Storage) -> None:
    job = new_job("a", request="token")
    await enqueue(storage, job)
    await run_one(storage, completed())
    await storage.obliterate(QUEUE, 10)
    assert await enqueue(storage, job) == [(EnqueueStatus.QUEUED, JobState.QUEUED, None, "")]
    assert (await claim_one(storage)).attempt == 1


async def test_the_call_that_finds_none_forgets_all_else(storage: Storage) -> None:
    await change(storage, paused=1, low_every=2)
    await set_limit(storage, LimitKind.TYPE, concurrency=1)
    await set_limit(storage, LimitKind.KEY, concurrency=1)
    await storage.put_schedule(QUEUE, StoredSchedule("s", b"record", 1, "token", 5))
    await enqueue(storage, "a")
    assert await storage.obliterate(QUEUE, 10) == 1
    assert await storage.control(QUEUE) != OPEN
    assert await storage.obliterate(QUEUE, 10) == 0
    assert await storage.control(QUEUE) == OPEN
    assert await storage.limits(QUEUE) == []
    found = await storage.schedules(QUEUE)
    assert (found.next_ms, found.found) == (0, [])
    await enqueue(storage, "a", "b")
    assert ids(await claim(storage)) == ["a", "b"]


@pytest.mark.parametrize("until", UniqueUntil)
async def test_unique_keys_and_slots_are_forgotten_too(
    storage: Storage, until: UniqueUntil
) -> None:
    window = HOUR if until is UniqueUntil.ELAPSED else 0
    await set_limit(storage, LimitKind.KEY, concurrency=1)
    await enqueue(storage, unique("u", until, window_ms=window), *keyed("k", "k1", "k2"))
    await enqueue(storage, *alone("x", "x1", "x2"))
    assert len(await claim(storage)) == 3
    await storage.obliterate(QUEUE, 10)
    info = await limit_info(storage, LimitKind.KEY)
    assert (info.running, info.held_back) == (0, 0)
    (answer,) = await enqueue(storage, unique("v", until, window_ms=window))
    assert answer.status is EnqueueStatus.QUEUED
    await enqueue(storage, *keyed("k", "k3"), *alone("x", "x3"))
    assert sorted(ids(await claim(storage))) == ["k3", "v", "x3"]


async def test_obliterating_one_queue_leaves_the_other(storage: Storage) -> None:
    for queue in ("one", "other"):
        await enqueue(storage, "a", queue=queue)
        await change(storage, queue, max_waiting=9)
    while await storage.obliterate("one", 10):
        pass
    assert (await storage.control("other")).max_waiting == 9
    assert ids(await claim(storage, queue="other")) == ["a"]


async def test_a_waiting_claim_gets_what_comes_after_an_obliteration(
    make_storage: MakeStorage,
) -> None:
    one, other = await make_storage(), await make_storage()
    await change(other, paused=1)
    await enqueue(other, "a")
    async with waiting(one) as waiter:
        while await other.obliterate(QUEUE, 10):
            pass
        await enqueue(other, "b")
        assert ids(await waiter.claims()) == ["b"]
