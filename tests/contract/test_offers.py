"""A worker offers to take one job: whether it is handed one or claims it, it gets it once."""

from __future__ import annotations

import asyncio

import pytest

from jobqueue.states import CancelResult, EnqueueStatus, EventType, JobState
from jobqueue.storage.base import Storage
from jobqueue.storage.types import CONTROL, EVENTS, CancelRequested, Claim, Reply, handed, replies
from tests.support.backends import MakeStorage
from tests.support.clock import ManualClock
from tests.support.jobs import (
    HOUR,
    LEASE,
    MINUTE,
    QUEUE,
    WORKER,
    cancel,
    claim,
    claim_one,
    completed,
    enqueue,
    held,
    ids,
    new_job,
    only,
    recover,
    released,
    retrying,
    settle,
    stored,
)
from tests.support.listening import Inbox, listening
from tests.support.names import HOSTILE_NAMES, LOOKALIKES
from tests.support.offers import OFFER, idle_worker, make_offer, settle_offering


async def was_handed(storage: Storage, id: str, queue: str = QUEUE) -> bool:
    """Whether a job that was just enqueued has been handed to somebody: nobody has claimed yet."""
    return (await stored(storage, id, queue)).state is JobState.RUNNING


async def take(
    storage: Storage, inbox: Inbox, id: str, *, worker: str = WORKER, queue: str = QUEUE
) -> Claim:
    """The job as its worker gets it: it hears of it, or else claims it."""
    if await was_handed(storage, id, queue):
        (message,) = await inbox.wait_for(1)
        assert isinstance(message, Claim)
        inbox.messages.clear()
        return message
    return await claim_one(storage, worker=worker, queue=queue)


# -- finish ------------------------------------------------------------------------------------


async def test_finish_answers_as_without(storage: Storage) -> None:
    await enqueue(storage, "a", "b", "c")
    a, b, c = await claim(storage)
    stale = b._replace(fence=b.fence + 1_000)
    unknown = b._replace(id="unknown")
    assert await settle_offering(storage, a) == [True]
    assert await settle_offering(storage, stale) == [False]
    assert await settle_offering(storage, b, stale, unknown, c) == [True, False, False, True]
    assert await storage.counts(QUEUE) == only(completed=3)
    assert await storage.results(QUEUE, ["a"]) == [(JobState.COMPLETED, b"result")]


async def test_finish_tells_as_without(storage: Storage) -> None:
    await enqueue(storage, new_job("a", reply_to="here"))
    claimed = await claim_one(storage)
    async with (
        listening(storage, EVENTS) as events,
        listening(storage, replies("here")) as answers,
    ):
        await settle_offering(storage, claimed)
        (event,) = await events.wait_for(1)
        assert (event.type, event.id, event.worker) == (EventType.COMPLETED, "a", WORKER)
        assert await answers.wait_for(1) == [Reply("a", JobState.COMPLETED, b"result")]


async def test_a_repeat_of_a_finish_answers_as_the_first(storage: Storage) -> None:
    async with listening(storage, handed(WORKER)) as inbox:
        await enqueue(storage, "a")
        claimed = await claim_one(storage)
        assert await settle_offering(storage, claimed) == [True]
        assert await settle_offering(storage, claimed) == [True]
        await enqueue(storage, "b")
        got = await take(storage, inbox, "b")
        # While the job runs that the first one brought, too; and once more when that is over.
        assert await settle_offering(storage, claimed) == [True]
        assert await settle(storage, completed(), got) == [True]
        assert await settle_offering(storage, claimed) == [True]
        assert inbox.messages == []


async def test_an_offer_with_nothing_settled_harms_nobody(storage: Storage) -> None:
    assert await storage.finish(QUEUE, WORKER, [], OFFER) == []
    await enqueue(storage, "a")
    assert (await claim_one(storage, worker="w2")).id == "a"


# -- who gets the job --------------------------------------------------------------------------


async def test_the_job_is_as_any_that_was_claimed(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    async with listening(one, handed(WORKER)) as inbox:
        ran = await make_offer(one)
        async with listening(one, EVENTS) as events:
            await enqueue(other, new_job("a", name="type", spec=b"\0spec", ttl_ms=HOUR))
            got = await take(one, inbox, "a")
            heard = await events.wait_for(2)
        job = await stored(other, "a")
        assert got == Claim(
            "a", "type", b"\0spec", got.fence, 1, job.enqueued_ms, HOUR, False, WORKER
        )
        assert got.fence > ran.fence
        assert (job.state, job.fence, job.attempt) == (JobState.RUNNING, got.fence, 1)
        assert (job.worker, job.spec, job.ttl_ms) == (WORKER, b"\0spec", HOUR)
        assert job.started_ms >= job.enqueued_ms > 0
        told = [(e.type, e.id, e.name, e.attempt, e.worker) for e in heard]
        assert told == [
            (EventType.ENQUEUED, "a", "type", 0, ""),
            (EventType.STARTED, "a", "type", 1, WORKER),
        ]
        assert await one.counts(QUEUE) == only(running=1, completed=1)
        for worker in (WORKER, "w2"):
            assert await claim(other, worker=worker) == []
        assert await settle(one, completed(b"done"), got) == [True]
        assert await other.results(QUEUE, ["a"]) == [(JobState.COMPLETED, b"done")]
        assert inbox.messages == []


async def test_one_offer_after_another(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    async with idle_worker(one) as inbox:
        fences = [0]
        for n in range(20):
            await enqueue(other, f"{n}")
            got = await take(one, inbox, f"{n}")
            fences.append(got.fence)
            assert await settle_offering(one, got) == [True]
        assert fences == sorted(set(fences))
        assert await one.counts(QUEUE) == only(completed=21)


async def test_an_offer_and_a_job_at_the_same_time(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    async with idle_worker(one) as inbox:
        await enqueue(other, "0")
        got = await take(one, inbox, "0")
        for n in range(1, 30):
            await asyncio.gather(settle_offering(one, got), enqueue(other, f"{n}"))
            got = await take(one, inbox, f"{n}")
            assert got.id == f"{n}"
            assert await claim(other, worker="w2") == []


async def test_a_claim_that_waits_and_an_offer_bring_it_once(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    async with idle_worker(one) as inbox:
        assert await claim(one) == []  # the first one does not wait
        for n in range(5):
            waiting = asyncio.create_task(claim(one, 1, block_ms=MINUTE))
            await enqueue(other, f"{n}")
            while not waiting.done() and not inbox.messages:
                await asyncio.wait([waiting], timeout=0.01)
            while not waiting.done():
                await one.unblock(QUEUE, WORKER)
                await asyncio.wait([waiting], timeout=0.01)
            got = [*waiting.result(), *(m for m in inbox.messages if isinstance(m, Claim))]
            inbox.messages.clear()
            assert ids(got) == [f"{n}"]
            assert await settle_offering(one, *got) == [True]


async def test_jobs_start_in_the_order_in_which_they_came(storage: Storage) -> None:
    async with idle_worker(storage) as inbox:
        for id in ("a", "b", "c"):
            await enqueue(storage, id)
        assert (await take(storage, inbox, "a")).id == "a"
        assert ids(await claim(storage, worker="w2")) == ["b", "c"]


async def test_what_waits_goes_first(storage: Storage) -> None:
    async with listening(storage, handed(WORKER)) as inbox:
        await enqueue(storage, "a", "b")
        a, b = await claim(storage)
        assert await settle_offering(storage, a, outcome=released()) == [True]
        await enqueue(storage, "c")
        assert await settle_offering(storage, b) == [True]
        await enqueue(storage, "d")
        assert ids(await claim(storage, worker="w2")) == ["a", "c", "d"]
        assert inbox.messages == []


async def test_of_two_workers_one_gets_it(storage: Storage) -> None:
    async with (
        listening(storage, handed("w1")) as first,
        listening(storage, handed("w2")) as second,
    ):
        await enqueue(storage, "x", "y")
        (x,) = await claim(storage, 1, worker="w1")
        (y,) = await claim(storage, 1, worker="w2")
        await settle_offering(storage, x, worker="w1")
        await settle_offering(storage, y, worker="w2")
        fences = {x.fence, y.fence}
        for id in ("a", "b", "c"):
            await enqueue(storage, id)
            job = await stored(storage, id)
            inbox = first if job.worker == "w1" else second
            got = await take(storage, inbox, id, worker=job.worker or "w1")
            assert got.id == id
            fences.add(got.fence)
        assert len(fences) == 5
        assert first.messages == second.messages == []


@pytest.mark.parametrize("how", ["same request", "no request", "other request"])
async def test_the_same_job_again_reaches_nobody(storage: Storage, how: str) -> None:
    request = "" if how == "no request" else "token"
    job = new_job("a", request=request, reply_to="first")
    again = job._replace(request="other") if how == "other request" else job
    async with idle_worker(storage) as inbox, listening(storage, replies("second")) as second:
        (answer,) = await enqueue(storage, job)
        assert answer.status is EnqueueStatus.QUEUED
        got = await take(storage, inbox, "a")
        (answer,) = await enqueue(storage, again._replace(reply_to="second"))
        status = EnqueueStatus.DUPLICATE if how == "other request" else EnqueueStatus.QUEUED
        assert answer == (status, JobState.RUNNING, None, "")
        assert await claim(storage) == []
        assert await settle_offering(storage, got) == [True]
        (answer,) = await enqueue(storage, again)
        assert answer.state is JobState.COMPLETED
        assert await claim(storage) == []
        assert inbox.messages == []
        told = [Reply("a", JobState.COMPLETED, b"result")] if how == "other request" else []
        assert await second.wait_for(len(told)) == told


# -- what becomes of the job -------------------------------------------------------------------


async def test_who_waits_for_it_is_told(storage: Storage) -> None:
    async with idle_worker(storage) as inbox, listening(storage, replies("here")) as answers:
        await enqueue(storage, new_job("a", reply_to="here"))
        got = await take(storage, inbox, "a")
        await settle(storage, completed(), got)
        assert await answers.wait_for(1) == [Reply("a", JobState.COMPLETED, b"result")]


async def test_it_is_tried_again_and_given_back(storage: Storage, clock: ManualClock) -> None:
    async with idle_worker(storage) as inbox:
        await enqueue(storage, "a")
        first = await take(storage, inbox, "a")
        assert await settle(storage, retrying(MINUTE), first) == [True]
        assert await claim(storage) == []
        await clock.advance(MINUTE)
        second = await claim_one(storage)
        assert (second.id, second.attempt) == ("a", 2)
        assert second.fence > first.fence
        assert await settle(storage, retrying(MINUTE), first) == [True]  # a repeat
        assert await settle(storage, released(), second) == [True]
        assert await settle(storage, completed(b"stale"), first) == [False]
        third = await claim_one(storage)
        assert third.attempt == 2
        assert await settle(storage, completed(), third) == [True]


async def test_it_can_be_stopped(storage: Storage) -> None:
    async with idle_worker(storage) as inbox, listening(storage, CONTROL) as control:
        await enqueue(storage, "a")
        got = await take(storage, inbox, "a")
        assert await cancel(storage, "a") == [CancelResult.RUNNING]
        assert await control.wait_for(1) == [CancelRequested("a")]
        assert await storage.heartbeat(QUEUE, WORKER, held(got), LEASE) == ([], ["a"])
        assert await settle(storage, released(), got) == [True]
        assert (await stored(storage, "a")).state is JobState.CANCELLED


async def test_its_lease_is_extended_and_ends(storage: Storage, clock: ManualClock) -> None:
    async with idle_worker(storage) as inbox:
        await enqueue(storage, "a")
        got = await take(storage, inbox, "a")
        await clock.advance(LEASE - 1)
        assert await recover(storage) == []
        assert await storage.heartbeat(QUEUE, WORKER, held(got), LEASE) == ([], [])
        await clock.advance(LEASE - 1)
        assert await recover(storage) == []
        await clock.advance(1)
        (taken,) = await recover(storage)
        assert (taken.id, taken.attempt, taken.worker) == ("a", 1, WORKER)
        assert taken.fence > got.fence
        assert await settle(storage, completed(b"stale"), got) == [False]
        assert await storage.withdraw(QUEUE, WORKER) is None
        assert await settle(storage, completed(b"valid"), taken, worker="reaper") == [True]
        assert await storage.results(QUEUE, ["a"]) == [(JobState.COMPLETED, b"valid")]


# -- withdraw, leave, obliterate ---------------------------------------------------------------


async def test_who_was_handed_nothing_has_nothing_to_withdraw(storage: Storage) -> None:
    assert await storage.withdraw(QUEUE, WORKER) is None
    await make_offer(storage)
    assert await storage.withdraw(QUEUE, WORKER) is None
    assert await storage.withdraw(QUEUE, "w2") is None
    await enqueue(storage, "a")
    claimed = await claim_one(storage)
    assert await storage.withdraw(QUEUE, WORKER) is None
    assert await settle(storage, completed(), claimed) == [True]


async def test_what_was_handed_over_is_told_as_long_as_it_is_held(
    make_storage: MakeStorage,
) -> None:
    one, other = await make_storage(), await make_storage()
    async with idle_worker(one) as inbox:
        await enqueue(other, new_job("a", name="type", spec=b"x" * 300, ttl_ms=HOUR))
        expected = None
        is_handed = await was_handed(one, "a")
        got = await take(one, inbox, "a")
        if is_handed:
            expected = got
        for handle in (one, other, one):
            assert await handle.withdraw(QUEUE, WORKER) == expected
            assert await handle.withdraw(QUEUE, "w2") is None
        assert await settle(one, completed(), got) == [True]
        assert await one.withdraw(QUEUE, WORKER) is None


async def test_an_offer_that_was_withdrawn_is_not_taken_up(storage: Storage) -> None:
    async with idle_worker(storage) as inbox:
        assert await storage.withdraw(QUEUE, WORKER) is None
        await enqueue(storage, "a")
        assert not await was_handed(storage, "a")
        assert (await claim_one(storage, worker="w2")).id == "a"
        assert inbox.messages == []


async def test_who_has_left_is_handed_nothing(storage: Storage) -> None:
    async with idle_worker(storage) as inbox:
        await storage.leave(QUEUE, WORKER)
        await enqueue(storage, "a")
        assert not await was_handed(storage, "a")
        assert await storage.withdraw(QUEUE, WORKER) is None
        assert (await claim_one(storage, worker="w2")).id == "a"
        assert inbox.messages == []


async def test_who_leaves_leaves_what_was_handed_to_its_lease(
    storage: Storage, clock: ManualClock
) -> None:
    async with idle_worker(storage) as inbox:
        await enqueue(storage, "a")
        await take(storage, inbox, "a")
        await storage.leave(QUEUE, WORKER)
        assert await storage.withdraw(QUEUE, WORKER) is None
        assert await claim(storage, worker="w2") == []
        await clock.advance(LEASE)
        (taken,) = await recover(storage)
        assert (taken.id, taken.worker) == ("a", WORKER)
        assert await settle(storage, completed(), taken, worker="reaper") == [True]


async def test_what_was_obliterated_is_not_held(storage: Storage) -> None:
    async with idle_worker(storage) as inbox:
        await enqueue(storage, "a")
        got = await take(storage, inbox, "a")
        while await storage.obliterate(QUEUE, 100):
            pass
        assert await storage.withdraw(QUEUE, WORKER) is None
        assert await settle_offering(storage, got) == [False]
        await enqueue(storage, "a")
        again = await take(storage, inbox, "a")
        assert again.fence > got.fence
        assert await settle(storage, completed(b"stale"), got) == [False]
        assert await settle(storage, completed(b"valid"), again) == [True]


async def test_an_offer_from_before_an_obliteration_loses_no_job(storage: Storage) -> None:
    async with idle_worker(storage) as inbox:
        while await storage.obliterate(QUEUE, 100):
            pass
        await enqueue(storage, "a")
        assert (await take(storage, inbox, "a")).id == "a"


# -- names -------------------------------------------------------------------------------------

NUMBERS = ["1", "1 2", "1 2 3 w", "99999999999999 1 1 w", " 1", "1 "]


async def test_a_worker_may_have_any_name(storage: Storage) -> None:
    for name in dict.fromkeys([*HOSTILE_NAMES.values(), *LOOKALIKES, *NUMBERS]):
        async with idle_worker(storage, worker=name) as inbox:
            id = f"for {name}"[:100]
            await enqueue(storage, id)
            got = await take(storage, inbox, id, worker=name)
            assert (got.id, got.worker) == (id, name)
            assert (await stored(storage, id)).worker == name
            assert await storage.withdraw(QUEUE, name) in (got, None), repr(name)
            assert await settle(storage, completed(), got, worker=name) == [True]
            assert await storage.withdraw(QUEUE, name) is None
            await storage.obliterate(QUEUE, 100)


async def test_a_queue_and_a_job_may_have_any_name(storage: Storage) -> None:
    for name in dict.fromkeys([*HOSTILE_NAMES.values(), *NUMBERS]):
        async with idle_worker(storage, worker=name, queue=name) as inbox:
            await enqueue(storage, new_job(name, name=name), queue=name)
            got = await take(storage, inbox, name, worker=name, queue=name)
            assert (got.id, got.name) == (name, name)
            assert await storage.withdraw(name, name) in (got, None), repr(name)
            assert await settle(storage, completed(), got, worker=name, queue=name) == [True]


async def test_an_offer_belongs_to_its_worker_and_queue(storage: Storage) -> None:
    for name in LOOKALIKES:
        other = "b" if name != "b" else "c"
        async with idle_worker(storage, worker=name) as inbox:
            await storage.withdraw(QUEUE, other)
            await storage.leave(QUEUE, other)
            await storage.withdraw(other, name)
            await storage.leave(other, name)
            await enqueue(storage, name, queue=other)
            assert not await was_handed(storage, name, other)
            assert (await claim_one(storage, queue=other)).id == name
            assert inbox.messages == []
