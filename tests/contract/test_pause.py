"""What holds for a whole queue: paused, draining, full."""

from __future__ import annotations

import pytest

from jobqueue.flow import OPEN, Control, Refusal
from jobqueue.states import EnqueueStatus, EventType, JobState
from jobqueue.storage.base import Storage
from jobqueue.storage.types import Enqueued
from tests.support.backends import MakeStorage
from tests.support.clock import ManualClock
from tests.support.flows import change, high, low
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
    exists,
    held,
    ids,
    new_job,
    only,
    recover,
    released,
    retrying,
    run_one,
    settle,
    stored,
)
from tests.support.listening import listening_to_events
from tests.support.waiting import waiting

FULL = Enqueued(Refusal.FULL, JobState.QUEUED, None)
DRAINING = Enqueued(Refusal.DRAINING, JobState.QUEUED, None)


async def test_a_queue_about_which_nobody_said_anything_is_open(storage: Storage) -> None:
    assert await storage.control(QUEUE) == OPEN
    assert await storage.control(QUEUE, {}) == OPEN
    await enqueue(storage, "a")
    assert await storage.control(QUEUE) == OPEN


async def test_a_change_says_what_holds_now(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    assert await change(one, paused=1) == Control(paused=True)
    assert await change(other, draining=1, max_waiting=7) == Control(
        paused=True, draining=True, max_waiting=7
    )
    assert await change(one, paused=0, low_every=5) == Control(
        draining=True, max_waiting=7, low_every=5
    )
    assert await one.control(QUEUE) == await other.control(QUEUE)
    assert await change(one, draining=0, max_waiting=0, low_every=0) == OPEN
    assert await other.control(QUEUE) == OPEN


async def test_a_repeated_change_is_answered_as_the_first(storage: Storage) -> None:
    first = await change(storage, paused=1, max_waiting=3)
    assert await change(storage, paused=1, max_waiting=3) == first


async def test_control_belongs_to_its_queue(storage: Storage) -> None:
    await change(storage, "one", paused=1, draining=1, max_waiting=1)
    assert await storage.control("other") == OPEN
    await enqueue(storage, "a", "b", queue="other")
    assert ids(await claim(storage, queue="other")) == ["a", "b"]


# -- paused --------------------------------------------------------------------------------------


async def test_nothing_is_started_while_the_queue_is_paused(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    await enqueue(one, "a", *high("h"), *low("l"))
    await change(other, paused=1)
    assert await claim(one) == []
    await enqueue(one, "b")
    assert await claim(one) == []
    assert await one.counts(QUEUE) == only(queued=4)
    await change(other, paused=0)
    assert ids(await claim(one)) == ["h", "a", "b", "l"]


async def test_what_runs_goes_on_while_the_queue_is_paused(storage: Storage) -> None:
    await enqueue(storage, "a", "b", "c")
    a, b, c = await claim(storage, token="t")
    await change(storage, paused=1)
    assert (await storage.heartbeat(QUEUE, "w1", held(a, b, c), LEASE)).lost == []
    assert await settle(storage, completed(), a) == [True]
    assert await settle(storage, released(), b) == [True]
    assert await claim(storage, token="t") == [c]
    assert await storage.counts(QUEUE) == only(completed=1, queued=1, running=1)


async def test_jobs_become_due_and_are_recovered_while_the_queue_is_paused(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, "a", new_job("due", delay_ms=MINUTE))
    await claim(storage, lease_ms=MINUTE)
    await change(storage, paused=1)
    await clock.advance(MINUTE)
    assert await storage.promote(QUEUE, 10) is None
    (taken,) = await recover(storage)
    await settle(storage, released(), taken, worker="reaper")
    assert await storage.counts(QUEUE) == only(queued=2)
    assert await claim(storage) == []
    await change(storage, paused=0)
    assert ids(await claim(storage)) == ["a", "due"]


async def test_a_waiting_claim_takes_nothing_from_a_paused_queue(
    make_storage: MakeStorage,
) -> None:
    one, other = await make_storage(), await make_storage()
    async with waiting(one) as waiter:
        await change(other, paused=1)
        await enqueue(other, "a", *high("h"))
        await enqueue(other, new_job("due", delay_ms=20))
        async with waiting(other, worker="w2"):
            assert not waiter.ended()
        assert (await other.counts(QUEUE))[JobState.RUNNING] == 0
        await change(other, paused=0)
        assert ids(await waiter.claims()) == ["h"]


async def test_a_waiting_claim_is_woken_when_the_queue_is_resumed(
    make_storage: MakeStorage,
) -> None:
    one, other = await make_storage(), await make_storage()
    await enqueue(one, "a")
    await change(one, paused=1)
    async with waiting(one) as waiter:
        await change(other, paused=0)
        assert ids(await waiter.claims()) == ["a"]


async def test_several_waiting_claims_are_woken_when_the_queue_is_resumed(
    make_storage: MakeStorage,
) -> None:
    one, other = await make_storage(), await make_storage()
    await enqueue(one, "a", "b")
    await change(one, paused=1)
    async with waiting(one, worker="w1") as first, waiting(other, worker="w2") as second:
        await change(one, paused=0)
        claims = await first.claims() + await second.claims()
    assert sorted(ids(claims)) == ["a", "b"]


async def test_what_is_handed_over_is_not_lost_by_a_pause(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    async with waiting(one) as waiter:
        await enqueue(other, "a")
        await change(other, paused=1)
        await change(other, paused=0)
        assert ids(await waiter.claims()) == ["a"]
    assert await claim(other, worker="w2") == []


# -- draining ------------------------------------------------------------------------------------


async def test_a_draining_queue_refuses_what_is_new(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    await enqueue(one, "a")
    await change(other, draining=1)
    async with listening_to_events(other, "elsewhere"), listening_to_events(one) as events:
        answers = await enqueue(one, "b", new_job("c", delay_ms=HOUR))
        assert answers == [DRAINING, DRAINING]
        await change(one, draining=0)
        assert [event.id for event in await events.all()] == []
    assert not await exists(one, "b")
    assert not await exists(one, "c")
    assert ids(await claim(one, 1)) == ["a"]


async def test_a_draining_queue_knows_the_ids_that_it_has(storage: Storage) -> None:
    first = new_job("a", request="token")
    await enqueue(storage, "done", first, "cancelled")
    await run_one(storage, completed(b"result"))
    await cancel(storage, "cancelled")
    await change(storage, draining=1)
    answers = await enqueue(storage, "new", "done", first, "a", "cancelled")
    assert answers == [
        DRAINING,
        (EnqueueStatus.COMPLETED, JobState.COMPLETED, b"result", ""),
        (EnqueueStatus.QUEUED, JobState.QUEUED, None, ""),
        (EnqueueStatus.DUPLICATE, JobState.QUEUED, None, ""),
        DRAINING,
    ]
    assert (await stored(storage, "cancelled")).state is JobState.CANCELLED


async def test_a_draining_queue_finishes_what_is_there(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, "a", "b", new_job("later", delay_ms=MINUTE))
    await change(storage, draining=1)
    await run_one(storage, retrying(MINUTE))
    await run_one(storage, released())
    await run_one(storage, completed())
    await clock.advance(MINUTE)
    assert sorted(ids(await claim(storage))) == ["a", "later"]


async def test_a_refused_job_is_stored_when_it_is_asked_again(storage: Storage) -> None:
    job = new_job("a", request="token")
    await change(storage, draining=1)
    assert await enqueue(storage, job) == [DRAINING]
    assert await enqueue(storage, job) == [DRAINING]
    await change(storage, draining=0)
    (answer,) = await enqueue(storage, job)
    assert (answer.status, answer.state) == (EnqueueStatus.QUEUED, JobState.QUEUED)


# -- full ----------------------------------------------------------------------------------------


async def test_a_full_queue_refuses_job_by_job(storage: Storage) -> None:
    await change(storage, max_waiting=2)
    answers = await enqueue(storage, "a", "b", "c", "a", "d")
    assert [answer.status for answer in answers] == [
        EnqueueStatus.QUEUED,
        EnqueueStatus.QUEUED,
        Refusal.FULL,
        EnqueueStatus.DUPLICATE,
        Refusal.FULL,
    ]
    assert answers[2] == FULL
    assert await storage.counts(QUEUE) == only(queued=2)
    assert ids(await claim(storage)) == ["a", "b"]


async def test_scheduled_and_queued_jobs_fill_a_queue_and_no_others(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, "retries", "runs", "ended", "cancelled")
    retries, _, ended = await claim(storage, 3)
    await settle(storage, retrying(MINUTE), retries)
    await settle(storage, completed(), ended)
    await cancel(storage, "cancelled")
    await change(storage, max_waiting=2)
    answers = await enqueue(storage, new_job("scheduled", delay_ms=HOUR), "queued", "more")
    assert [answer.status for answer in answers] == ["queued", "queued", "full"]
    await clock.advance(MINUTE)
    assert await storage.counts(QUEUE) == only(
        retrying=1, running=1, completed=1, cancelled=1, scheduled=1, queued=1
    )


async def test_a_queue_that_is_full_takes_more_when_one_leaves(storage: Storage) -> None:
    await change(storage, max_waiting=1)
    await enqueue(storage, "a")
    assert await enqueue(storage, "b") == [FULL]
    await claim(storage)
    assert (await enqueue(storage, "b"))[0].status is EnqueueStatus.QUEUED
    await cancel(storage, "b")
    assert (await enqueue(storage, "c"))[0].status is EnqueueStatus.QUEUED
    assert await enqueue(storage, "d") == [FULL]


async def test_all_levels_and_handles_share_one_maximum(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    await change(one, max_waiting=3)
    await enqueue(one, *high("h"), *low("l"))
    answers = await enqueue(other, "n", *high("h2"))
    assert [answer.status for answer in answers] == ["queued", "full"]


async def test_what_comes_back_is_never_refused(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, "a", "b")
    a, b = await claim(storage)
    await change(storage, max_waiting=1, draining=1)
    await settle(storage, released(), a)
    await settle(storage, retrying(SECOND), b)
    await clock.advance(SECOND)
    assert await storage.promote(QUEUE, 10) is None
    assert await storage.counts(QUEUE) == only(queued=2)


async def test_a_maximum_below_what_waits_refuses_until_it_fits(storage: Storage) -> None:
    await enqueue(storage, "a", "b", "c")
    await change(storage, max_waiting=2)
    await claim(storage, 1)
    assert await enqueue(storage, "d") == [FULL]
    await claim(storage, 1)
    assert (await enqueue(storage, "d"))[0].status is EnqueueStatus.QUEUED
    await change(storage, max_waiting=0)
    assert (await enqueue(storage, "e"))[0].status is EnqueueStatus.QUEUED


async def test_a_full_queue_answers_a_repeat_as_the_first(storage: Storage) -> None:
    await change(storage, max_waiting=1)
    batch = [new_job("a", request="1"), new_job("b", request="2")]
    first = await enqueue(storage, *batch)
    assert [answer.status for answer in first] == ["queued", "full"]
    assert await enqueue(storage, *batch) == first


@pytest.mark.parametrize("state", ["paused", "draining"])
async def test_each_change_is_seen_by_another_handle_at_once(
    make_storage: MakeStorage, state: str
) -> None:
    one, other = await make_storage(), await make_storage()
    await enqueue(one, "a")
    for value in (1, 0, 1):
        await one.control(QUEUE, {state: value})
        assert getattr(await other.control(QUEUE), state) == bool(value)
    if state == "paused":
        assert await claim(other) == []
    else:
        assert await enqueue(other, "b") == [DRAINING]


async def test_the_events_of_a_full_queue_are_of_stored_jobs(storage: Storage) -> None:
    await change(storage, max_waiting=1)
    async with listening_to_events(storage) as events:
        await enqueue(storage, "a", "b")
        claimed = await claim_one(storage)
        told = [(event.type, event.id) for event in await events.all()]
    assert told == [(EventType.ENQUEUED, "a"), (EventType.STARTED, "a")]
    assert claimed.id == "a"
