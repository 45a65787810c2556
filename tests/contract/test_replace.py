"""A later job takes the place of one of its key that has not started: debounce and keep-last."""

from __future__ import annotations

import pytest

from jobqueue.flow import Flow, Priority, Refusal, Unique, UniqueUntil
from jobqueue.states import EnqueueStatus, JobState
from jobqueue.storage.base import Storage
from jobqueue.storage.types import Enqueued
from tests.support.backends import MakeStorage
from tests.support.clock import ManualClock
from tests.support.flows import change, replacing
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
    released,
    retrying,
    run_one,
    settle,
    stored,
)
from tests.support.listening import listening_to_events, listening_to_replies
from tests.support.waiting import waiting

STORED = Enqueued(EnqueueStatus.QUEUED, JobState.QUEUED, None)
LATER = Enqueued(EnqueueStatus.QUEUED, JobState.SCHEDULED, None)


def replaced(id: str, state: JobState = JobState.QUEUED) -> Enqueued:
    return Enqueued(EnqueueStatus.REPLACED, state, None, id)


async def test_one_that_waits_gets_the_spec_of_the_later_one(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    assert await enqueue(one, replacing("a", name="type", spec=b"1"), "next") == [STORED] * 2
    async with listening_to_events(one) as events:
        assert await enqueue(other, replacing("b", name="other", spec=b"2")) == [replaced("a")]
        assert await enqueue(one, replacing("c", spec=b"3", ttl_ms=MINUTE)) == [replaced("a")]
        assert await events.all() == []
    assert not await exists(one, "b")
    job = await stored(one, "a")
    assert (job.name, job.spec, job.ttl_ms) == ("type", b"3", MINUTE)
    claims = await claim(one, 2)
    assert [(job.id, job.name, job.spec) for job in claims] == [
        ("a", "type", b"3"),
        ("next", "task", b"spec"),
    ]
    assert claims[0].ttl_ms == MINUTE


async def test_it_keeps_all_else_that_it_said(storage: Storage, clock: ManualClock) -> None:
    rule = Unique("key", UniqueUntil.STARTED, replace=True)
    flow = Flow(priority=Priority.LOW, group="g", unique=rule)
    await enqueue(storage, new_job("a", flow=flow))
    enqueued = (await stored(storage, "a")).enqueued_ms
    await clock.advance(SECOND)
    urgent = Flow(priority=Priority.HIGH, group="h", unique=rule)
    assert await enqueue(storage, new_job("b", flow=urgent), "n") == [replaced("a"), STORED]
    job = await stored(storage, "a")
    assert (job.flow, job.enqueued_ms) == (flow, enqueued)
    assert ids(await claim(storage)) == ["n", "a"]


async def test_a_time_to_live_is_replaced_by_none(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, replacing("a", ttl_ms=MINUTE))
    await enqueue(storage, replacing("b"))
    assert (await stored(storage, "a")).ttl_ms == 0
    await cancel(storage, "a", ttl_ms=HOUR)
    assert (await stored(storage, "a")).expires_ms == clock.now() + HOUR


async def test_the_last_of_a_batch_wins(storage: Storage) -> None:
    answers = await enqueue(storage, *(replacing(id, spec=id.encode()) for id in "abc"))
    assert answers == [STORED, replaced("a"), replaced("a")]
    assert await storage.counts(QUEUE) == only(queued=1)
    assert (await claim_one(storage)).spec == b"c"


async def test_long_and_short_specs_take_each_others_place(storage: Storage) -> None:
    for spec in (b"x" * 64, b"y" * 65, b"z" * 300, b"", b"w" * 200_000, b"v" * 256, b"u"):
        await enqueue(storage, replacing("a" if spec == b"x" * 64 else "b", spec=spec))
        assert (await stored(storage, "a")).spec == spec
    assert (await claim_one(storage)).spec == b"u"


@pytest.mark.parametrize("spec", [b"2", b"2" * 200])
async def test_a_repeat_of_a_replacement_changes_nothing_again(
    storage: Storage, spec: bytes
) -> None:
    first, second = replacing("a", spec=b"1"), replacing("b", spec=spec)
    await enqueue(storage, first)
    assert await enqueue(storage, second) == [replaced("a")]
    assert await enqueue(storage, second) == [replaced("a")]
    assert (await stored(storage, "a")).spec == spec
    await enqueue(storage, first)
    assert (await stored(storage, "a")).spec == spec


async def test_a_repeat_without_a_request_is_known_by_its_id(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, replacing("a", request="", delay_ms=MINUTE))
    second = replacing("b", request="", delay_ms=MINUTE, spec=b"2")
    await clock.advance(SECOND)
    await enqueue(storage, second)
    due = (await stored(storage, "a")).due_ms
    await clock.advance(SECOND)
    assert await enqueue(storage, second) == [replaced("a", JobState.SCHEDULED)]
    assert (await stored(storage, "a")).due_ms == due


async def test_a_repeat_of_a_replacement_of_one_that_has_started_stores_nothing(
    storage: Storage,
) -> None:
    second = replacing("b", spec=b"2")
    await enqueue(storage, replacing("a"))
    first_answer = await enqueue(storage, second)
    assert (await claim_one(storage)).spec == b"2"
    (answer,) = await enqueue(storage, second)
    assert (answer.status, answer.other_id) == (EnqueueStatus.REPLACED, "a")
    assert first_answer[0].other_id == "a"
    assert not await exists(storage, "b")
    assert await claim(storage) == []


async def test_one_that_has_started_is_left_alone(storage: Storage) -> None:
    await enqueue(storage, replacing("a", spec=b"1"))
    claimed = await claim_one(storage)
    assert await enqueue(storage, replacing("b", spec=b"2")) == [STORED]
    assert await enqueue(storage, replacing("c", spec=b"3")) == [replaced("b")]
    await settle(storage, released(), claimed)
    assert [(job.id, job.spec) for job in await claim(storage)] == [("a", b"1"), ("b", b"3")]


async def test_one_that_comes_again_is_left_alone(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, replacing("a", spec=b"1"))
    await run_one(storage, retrying(MINUTE))
    assert await enqueue(storage, replacing("b", spec=b"2")) == [STORED]
    assert (await stored(storage, "a")).spec == b"1"


async def test_one_that_was_cancelled_is_left_alone(storage: Storage) -> None:
    await enqueue(storage, replacing("a", spec=b"1"))
    await cancel(storage, "a")
    assert await enqueue(storage, replacing("b", spec=b"2")) == [STORED]
    assert (await stored(storage, "a")).spec == b"1"


async def test_the_reply_address_of_the_later_one_is_remembered(storage: Storage) -> None:
    async with listening_to_replies(storage, "here") as replies:
        await enqueue(storage, replacing("a"))
        await enqueue(storage, replacing("b", reply_to="here"))
        await run_one(storage, completed(b"42"))
        assert await replies.all() == [("a", JobState.COMPLETED, b"42")]


async def test_a_queue_that_takes_nothing_new_still_replaces(storage: Storage) -> None:
    await enqueue(storage, replacing("a", spec=b"1"))
    await change(storage, draining=1, max_waiting=1)
    assert await enqueue(storage, replacing("b", spec=b"2")) == [replaced("a")]
    (answer,) = await enqueue(storage, replacing("c", key="other"))
    assert isinstance(answer.status, Refusal)
    assert (await claim_one(storage)).spec == b"2"


async def test_keys_and_queues_are_kept_apart(storage: Storage) -> None:
    await enqueue(storage, replacing("a", key="one", spec=b"1"), replacing("b", key="two"))
    assert await enqueue(storage, replacing("c", key="one"), queue="other") == [STORED]
    await enqueue(storage, replacing("d", key="two", spec=b"2"))
    assert [job.spec for job in await claim(storage)] == [b"1", b"2"]


# -- when it is due ------------------------------------------------------------------------------


async def test_each_later_one_puts_it_off(storage: Storage, clock: ManualClock) -> None:
    assert await enqueue(storage, replacing("a", delay_ms=MINUTE)) == [LATER]
    for n in range(3):
        await clock.advance(MINUTE - SECOND)
        answers = await enqueue(storage, replacing(f"b{n}", delay_ms=MINUTE, spec=b"%d" % n))
        assert answers == [replaced("a", JobState.SCHEDULED)]
        assert (await stored(storage, "a")).due_ms == clock.now() + MINUTE
        assert await claim(storage) == []
    assert await storage.promote(QUEUE, 10) == MINUTE
    await clock.advance(MINUTE)
    (claimed,) = await claim(storage)
    assert (claimed.id, claimed.spec) == ("a", b"2")
    assert await storage.promote(QUEUE, 10) is None


async def test_no_later_one_puts_it_off_for_longer_than_its_maximum(
    storage: Storage, clock: ManualClock
) -> None:
    first = clock.now()
    await enqueue(storage, replacing("a", delay_ms=MINUTE, max_wait_ms=2 * MINUTE))
    await clock.advance(MINUTE - SECOND)
    await enqueue(storage, replacing("b", delay_ms=MINUTE, max_wait_ms=2 * MINUTE))
    assert (await stored(storage, "a")).due_ms == clock.now() + MINUTE
    await clock.advance(MINUTE - SECOND)
    await enqueue(storage, replacing("c", delay_ms=MINUTE, max_wait_ms=2 * MINUTE, spec=b"3"))
    assert (await stored(storage, "a")).due_ms == first + 2 * MINUTE
    await clock.advance(2 * SECOND)
    assert (await claim_one(storage)).spec == b"3"


async def test_one_whose_maximum_is_over_is_due_at_once(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, replacing("a", delay_ms=HOUR), "before")
    await clock.advance(MINUTE)
    later = replacing("b", delay_ms=HOUR, max_wait_ms=MINUTE, spec=b"2")
    assert await enqueue(storage, later) == [replaced("a")]
    job = await stored(storage, "a")
    assert (job.state, job.due_ms) == (JobState.QUEUED, 0)
    assert ids(await claim(storage)) == ["before", "a"]
    assert await storage.promote(QUEUE, 10) is None


@pytest.mark.parametrize("due_ms", [0, 1])
async def test_a_later_one_that_is_due_at_once_brings_it_forward(
    storage: Storage, clock: ManualClock, due_ms: int
) -> None:
    await enqueue(storage, replacing("a", delay_ms=HOUR), "before")
    assert await enqueue(storage, replacing("b", due_ms=due_ms)) == [replaced("a")]
    assert await storage.counts(QUEUE) == only(queued=2)
    assert ids(await claim(storage)) == ["before", "a"]
    await clock.advance(HOUR)
    assert await claim(storage) == []


async def test_a_later_one_may_name_a_moment(storage: Storage, clock: ManualClock) -> None:
    due = clock.now() + MINUTE
    await enqueue(storage, replacing("a", delay_ms=HOUR))
    assert await enqueue(storage, replacing("b", due_ms=due)) == [replaced("a", JobState.SCHEDULED)]
    assert (await stored(storage, "a")).due_ms == due
    assert await storage.promote(QUEUE, 10) == MINUTE


async def test_one_that_is_queued_keeps_its_turn(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, replacing("a"), "next")
    assert await enqueue(storage, replacing("b", delay_ms=HOUR, spec=b"2")) == [replaced("a")]
    assert [(job.id, job.spec) for job in await claim(storage)] == [("a", b"2"), ("next", b"spec")]


async def test_one_that_became_due_but_was_not_promoted_keeps_no_others_waiting(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, replacing("a", delay_ms=MINUTE))
    await clock.advance(MINUTE)
    await storage.promote(QUEUE, 10)
    assert await enqueue(storage, replacing("b", delay_ms=MINUTE, spec=b"2")) == [replaced("a")]
    assert (await claim_one(storage)).spec == b"2"


async def test_a_waiting_claim_is_woken_by_a_replacement_that_is_due_at_once(
    make_storage: MakeStorage,
) -> None:
    one, other = await make_storage(), await make_storage()
    await enqueue(other, replacing("a", delay_ms=HOUR))
    async with waiting(one) as waiter:
        await enqueue(other, replacing("b"))
        assert ids(await waiter.claims()) == ["a"]


async def test_a_waiting_claim_is_woken_at_the_time_of_a_replacement(
    make_storage: MakeStorage,
) -> None:
    one, other = await make_storage(), await make_storage()
    await enqueue(other, replacing("a", delay_ms=HOUR))
    async with waiting(one) as waiter:
        await enqueue(other, replacing("b", delay_ms=200))
        assert ids(await waiter.claims()) == ["a"]


# -- one runs, one waits -------------------------------------------------------------------------


async def test_one_runs_and_the_last_one_waits(storage: Storage) -> None:
    await enqueue(storage, replacing("a", alone="x", spec=b"1"))
    claimed = await claim_one(storage)
    assert await enqueue(storage, replacing("b", alone="x", spec=b"2")) == [STORED]
    assert await claim(storage) == []
    assert await enqueue(storage, replacing("c", alone="x", spec=b"3")) == [replaced("b")]
    assert await claim(storage) == []
    await settle(storage, completed(), claimed)
    (following,) = await claim(storage)
    assert (following.id, following.spec) == ("b", b"3")
    assert await storage.counts(QUEUE) == only(running=1, completed=1)


async def test_one_that_waits_for_the_one_that_runs_may_be_cancelled(storage: Storage) -> None:
    await enqueue(storage, replacing("a", alone="x"))
    claimed = await claim_one(storage)
    await enqueue(storage, replacing("b", alone="x"))
    assert await claim(storage) == []
    await cancel(storage, "b")
    assert await enqueue(storage, replacing("c", alone="x")) == [STORED]
    await settle(storage, completed(), claimed)
    assert ids(await claim(storage)) == ["c"]
