"""Settling leases: each outcome, and what a stale fence must not do."""

from __future__ import annotations

import pytest

from jobqueue.outcome import Outcome
from jobqueue.states import EventType, JobState
from jobqueue.storage.base import Storage
from jobqueue.storage.types import Held, Settlement
from tests.support.clock import ManualClock
from tests.support.jobs import (
    HOUR,
    LEASE,
    MINUTE,
    QUEUE,
    SECOND,
    cancelled,
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
    result,
    retrying,
    run_one,
    settle,
    snoozed,
    stored,
)
from tests.support.listening import listening_to_events

EVERY_OUTCOME = [
    completed(),
    failed(),
    cancelled(),
    retrying(SECOND),
    retrying(0),
    snoozed(SECOND),
    released(),
    requeued(),
]


@pytest.mark.parametrize("outcome", [completed(b"v"), failed(b"v"), cancelled(b"v")])
async def test_a_job_that_ended_keeps_its_value_and_its_times(
    storage: Storage, clock: ManualClock, outcome: Outcome
) -> None:
    await enqueue(storage, "a")
    claimed = await claim_one(storage)
    started_ms = clock.now()
    await clock.advance(7)
    assert await settle(storage, outcome, claimed) == [True]

    job = await stored(storage, "a")
    assert (job.state, job.value, job.attempt) == (outcome.state, b"v", 1)
    assert (job.started_ms, job.finished_ms) == (started_ms, clock.now())
    assert job.expires_ms == clock.now() + outcome.ttl_ms
    assert await result(storage, "a") == (outcome.state, b"v")
    assert await storage.counts(QUEUE) == only(**{outcome.state: 1})
    assert await claim(storage) == []


@pytest.mark.parametrize("outcome", [completed(), failed(), cancelled()])
async def test_the_outcome_says_how_long_a_job_is_kept(
    storage: Storage, clock: ManualClock, outcome: Outcome
) -> None:
    await enqueue(storage, new_job("a", ttl_ms=MINUTE))
    await run_one(storage, outcome)
    await clock.advance(HOUR - SECOND)
    assert (await stored(storage, "a")).state is outcome.state
    await clock.advance(SECOND)
    assert await storage.get(QUEUE, ["a"]) == [None]


async def test_a_value_comes_back_byte_for_byte(storage: Storage) -> None:
    values = [b"\0", bytes(range(256)), b"\xff" * 200_000, b"123", b"nil", b"1e400"]
    await enqueue(storage, *(f"job {n}" for n in range(len(values))))
    for value in values:
        await run_one(storage, completed(value))
    answers = await storage.results(QUEUE, [f"job {n}" for n in range(len(values))])
    assert answers == [(JobState.COMPLETED, value) for value in values]


async def test_a_retry_waits_for_its_time_and_keeps_the_attempt(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, "a")
    await run_one(storage, retrying(MINUTE, value=b"why"))
    job = await stored(storage, "a")
    assert (job.state, job.attempt) == (JobState.RETRYING, 1)
    assert (job.due_ms, job.value) == (clock.now() + MINUTE, b"why")
    assert await result(storage, "a") == (JobState.RETRYING, None)
    assert await storage.counts(QUEUE) == only(retrying=1)

    await clock.advance(MINUTE - 1)
    assert await claim(storage) == []
    await clock.advance(1)
    assert (await claim_one(storage)).attempt == 2


async def test_the_result_replaces_the_last_error(storage: Storage) -> None:
    await enqueue(storage, "a")
    await run_one(storage, retrying(0, value=b"why"))
    await run_one(storage, completed(b"done"))
    assert (await stored(storage, "a")).value == b"done"
    assert await result(storage, "a") == (JobState.COMPLETED, b"done")


async def test_a_snooze_waits_for_its_time_and_gives_the_attempt_back(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, "a")
    first = await run_one(storage, snoozed(MINUTE))
    job = await stored(storage, "a")
    assert (job.state, job.attempt, job.due_ms) == (JobState.SCHEDULED, 0, clock.now() + MINUTE)
    assert await storage.counts(QUEUE) == only(scheduled=1)

    await clock.advance(MINUTE - 1)
    assert await claim(storage) == []
    await clock.advance(1)
    second = await claim_one(storage)
    assert second.attempt == 1
    assert second.fence > first.fence


async def test_a_release_gives_the_job_and_the_attempt_back(storage: Storage) -> None:
    await enqueue(storage, "a")
    first = await run_one(storage, released())
    job = await stored(storage, "a")
    assert (job.state, job.attempt) == (JobState.QUEUED, 0)
    assert await storage.counts(QUEUE) == only(queued=1)
    second = await claim_one(storage, worker="w2")
    assert (second.attempt, second.worker) == (1, "w2")
    assert second.fence > first.fence


async def test_a_charged_release_keeps_the_attempt(storage: Storage) -> None:
    await enqueue(storage, "a")
    await run_one(storage, requeued())
    assert (await stored(storage, "a")).attempt == 1
    assert (await claim_one(storage)).attempt == 2


async def test_a_refund_takes_back_one_attempt_of_several(storage: Storage) -> None:
    await enqueue(storage, "a")
    await run_one(storage, retrying(0))
    await run_one(storage, released())
    assert (await stored(storage, "a")).attempt == 1
    assert (await claim_one(storage)).attempt == 2


@pytest.mark.parametrize("outcome", EVERY_OUTCOME)
async def test_a_stale_fence_changes_nothing(storage: Storage, outcome: Outcome) -> None:
    await enqueue(storage, "a")
    await run_one(storage, requeued())
    current = await claim_one(storage, worker="w2")
    before = await stored(storage, "a")
    async with listening_to_events(storage) as events:
        for fence in (current.fence + 1, current.fence + 1000, 0):
            assert await settle(storage, outcome, Held("a", fence)) == [False]
        assert await events.all() == []
    assert await stored(storage, "a") == before
    assert await settle(storage, completed(), current, worker="w2") == [True]


@pytest.mark.parametrize("outcome", EVERY_OUTCOME)
async def test_a_job_that_was_never_claimed_cannot_be_finished(
    storage: Storage, outcome: Outcome
) -> None:
    await enqueue(storage, "a", new_job("later", delay_ms=HOUR))
    answers = await settle(storage, outcome, Held("a", 1), Held("later", 1))
    assert answers == [False, False]
    assert await storage.counts(QUEUE) == only(queued=1, scheduled=1)


@pytest.mark.parametrize("outcome", EVERY_OUTCOME)
async def test_an_unknown_job_cannot_be_finished(storage: Storage, outcome: Outcome) -> None:
    assert await settle(storage, outcome, Held("nothing", 1)) == [False]
    assert await storage.get(QUEUE, ["nothing"]) == [None]
    assert await storage.counts(QUEUE) == only()
    assert await claim(storage) == []


async def test_a_fence_of_another_job_does_not_hold(storage: Storage) -> None:
    await enqueue(storage, "a", "b")
    _, b = await claim(storage)
    assert await settle(storage, completed(), Held("a", b.fence)) == [False]
    assert (await stored(storage, "a")).state is JobState.RUNNING


async def test_a_batch_is_answered_one_by_one(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, "a", "b", "c", "d", "e")
    a, b, c, d, e = await claim(storage)
    answers = await storage.finish(
        QUEUE,
        "w1",
        [
            Settlement("e", e.fence, retrying(MINUTE)),
            Settlement("b", b.fence + 100, completed()),
            Settlement("a", a.fence, completed(b"of a")),
            Settlement("nothing", 1, completed()),
            Settlement("d", d.fence, snoozed(MINUTE)),
            Settlement("c", c.fence, failed(b"of c")),
        ],
    )
    assert answers == [True, False, True, False, True, True]
    assert await storage.results(QUEUE, ["a", "b", "c", "d", "e"]) == [
        (JobState.COMPLETED, b"of a"),
        (JobState.RUNNING, None),
        (JobState.FAILED, b"of c"),
        (JobState.SCHEDULED, None),
        (JobState.RETRYING, None),
    ]
    assert await storage.counts(QUEUE) == only(
        completed=1, running=1, failed=1, scheduled=1, retrying=1
    )


async def test_an_empty_batch_is_answered_empty(storage: Storage) -> None:
    assert await storage.finish(QUEUE, "w1", []) == []


@pytest.mark.parametrize(
    ("outcome", "type"),
    [
        (completed(), EventType.COMPLETED),
        (failed(), EventType.FAILED),
        (cancelled(), EventType.CANCELLED),
        (retrying(), EventType.RETRYING),
        (requeued(), EventType.RETRYING),
        (snoozed(), EventType.RELEASED),
        (released(), EventType.RELEASED),
    ],
)
async def test_the_event_of_the_outcome_is_told(
    storage: Storage, clock: ManualClock, outcome: Outcome, type: EventType
) -> None:
    await enqueue(storage, new_job("a", name="job type"))
    claimed = await claim_one(storage, worker="somebody")
    await clock.advance(SECOND)
    async with listening_to_events(storage) as events:
        await settle(storage, outcome, claimed, worker="somebody")
        (event,) = await events.all()
    assert (event.type, event.id, event.name) == (type, "a", "job type")
    assert (event.at_ms, event.worker) == (clock.now(), "somebody")
    if not outcome.refund:
        assert event.attempt == 1


async def test_a_whole_life_is_told_in_order(storage: Storage, clock: ManualClock) -> None:
    async with listening_to_events(storage) as events:
        await enqueue(storage, "a")
        await run_one(storage, retrying(SECOND))
        await clock.advance(SECOND)
        await run_one(storage, completed(), worker="w2")
        told = await events.all()
    assert [(event.type, event.attempt, event.worker) for event in told] == [
        (EventType.ENQUEUED, 0, ""),
        (EventType.STARTED, 1, "w1"),
        (EventType.RETRYING, 1, "w1"),
        (EventType.STARTED, 2, "w2"),
        (EventType.COMPLETED, 2, "w2"),
    ]


@pytest.mark.parametrize("outcome", EVERY_OUTCOME)
async def test_a_settled_job_is_leased_no_more(
    storage: Storage, clock: ManualClock, outcome: Outcome
) -> None:
    await enqueue(storage, "a")
    claimed = await run_one(storage, outcome)
    answer = await storage.heartbeat(QUEUE, "w1", held(claimed), LEASE)
    assert answer == (["a"], [])
    await clock.advance(2 * LEASE)
    assert await recover(storage, 10) == []
    assert (await stored(storage, "a")).state is outcome.state


async def test_a_late_finish_counts_while_nobody_took_the_job_over(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, "a")
    claimed = await claim_one(storage, lease_ms=MINUTE)
    await clock.advance(HOUR)
    assert await settle(storage, completed(b"late"), claimed) == [True]
    assert await result(storage, "a") == (JobState.COMPLETED, b"late")
    assert await recover(storage, 10) == []


async def test_nothing_is_left_in_the_order_of_a_job_that_ended(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, "a", "b")
    await run_one(storage, released())
    await run_one(storage, retrying(0))
    await run_one(storage, completed(), worker="w2")
    await run_one(storage, completed(), worker="w2")
    await clock.advance(MINUTE)
    assert ids(await claim(storage)) == []
    assert await storage.counts(QUEUE) == only(completed=2)
