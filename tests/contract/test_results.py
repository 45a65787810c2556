"""Reading jobs and results, waiting for them, and how long they are kept."""

from __future__ import annotations

import pytest

from jobqueue.outcome import Outcome
from jobqueue.states import EnqueueStatus, JobState, TtlResult
from jobqueue.storage.base import Storage
from jobqueue.storage.types import INLINE_BYTES, Reply, StoredJob, StoredResult
from tests.support.backends import MakeStorage
from tests.support.clock import ManualClock
from tests.support.jobs import (
    HOUR,
    MINUTE,
    QUEUE,
    SECOND,
    cancelled,
    claim,
    claim_one,
    completed,
    enqueue,
    exists,
    failed,
    new_job,
    only,
    released,
    result,
    retrying,
    run_one,
    settle,
    snoozed,
    stored,
)
from tests.support.listening import listening_to_replies


async def test_results_are_given_in_the_order_asked(storage: Storage) -> None:
    await enqueue(storage, "done", "broken", "runs", "waits", new_job("later", delay_ms=HOUR))
    await run_one(storage, completed(b"value"))
    await run_one(storage, failed(b"error"))
    await claim(storage, 1)
    answers = await storage.results(
        QUEUE, ["waits", "unknown", "done", "later", "broken", "runs", "done"]
    )
    assert answers == [
        StoredResult(JobState.QUEUED, None),
        None,
        StoredResult(JobState.COMPLETED, b"value"),
        StoredResult(JobState.SCHEDULED, None),
        StoredResult(JobState.FAILED, b"error"),
        StoredResult(JobState.RUNNING, None),
        StoredResult(JobState.COMPLETED, b"value"),
    ]


async def test_nothing_asked_is_nothing_answered(storage: Storage) -> None:
    assert await storage.results(QUEUE, []) == []
    assert await storage.results(QUEUE, [], "here") == []
    assert await storage.get(QUEUE, []) == []
    assert await storage.set_result_ttl(QUEUE, [], MINUTE) == []


async def test_jobs_are_given_in_the_order_asked(storage: Storage) -> None:
    await enqueue(storage, "a", "b")
    answers = await storage.get(QUEUE, ["b", "unknown", "a", "b"])
    assert [job and job.id for job in answers] == ["b", None, "a", "b"]


async def test_a_new_job_is_read_whole(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, new_job("a", name="type", spec=b"what to do", ttl_ms=MINUTE))
    assert await stored(storage, "a") == StoredJob(
        id="a",
        name="type",
        spec=b"what to do",
        state=JobState.QUEUED,
        attempt=0,
        fence=0,
        enqueued_ms=clock.now(),
        ttl_ms=MINUTE,
    )


async def test_a_scheduled_job_is_read_whole(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, new_job("a", name="type", delay_ms=MINUTE))
    assert await stored(storage, "a") == StoredJob(
        id="a",
        name="type",
        spec=b"spec",
        state=JobState.SCHEDULED,
        attempt=0,
        fence=0,
        enqueued_ms=clock.now(),
        due_ms=clock.now() + MINUTE,
    )


async def test_a_running_job_is_read_whole(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, new_job("a", name="type", ttl_ms=MINUTE))
    enqueued_ms = clock.now()
    await clock.advance(SECOND)
    claimed = await claim_one(storage, worker="somebody")
    assert await stored(storage, "a") == StoredJob(
        id="a",
        name="type",
        spec=b"spec",
        state=JobState.RUNNING,
        attempt=1,
        fence=claimed.fence,
        enqueued_ms=enqueued_ms,
        started_ms=clock.now(),
        ttl_ms=MINUTE,
        worker="somebody",
    )


async def test_a_job_that_ended_is_read_whole(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, new_job("a", name="type", ttl_ms=MINUTE))
    enqueued_ms = clock.now()
    await clock.advance(SECOND)
    claimed = await claim_one(storage, worker="somebody")
    started_ms = clock.now()
    await clock.advance(SECOND)
    await settle(storage, completed(b"value", ttl_ms=HOUR), claimed, worker="somebody")
    assert await stored(storage, "a") == StoredJob(
        id="a",
        name="type",
        spec=b"spec",
        state=JobState.COMPLETED,
        attempt=1,
        fence=claimed.fence,
        enqueued_ms=enqueued_ms,
        started_ms=started_ms,
        finished_ms=clock.now(),
        expires_ms=clock.now() + HOUR,
        ttl_ms=MINUTE,
        worker="somebody",
        value=b"value",
    )


# -- replies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [completed(b"v"), failed(b"v"), cancelled(b"v")])
async def test_who_waits_is_told_when_the_job_ends(storage: Storage, outcome: Outcome) -> None:
    async with listening_to_replies(storage, "here") as replies:
        await enqueue(storage, new_job("a", reply_to="here"))
        await run_one(storage, outcome)
        assert await replies.all() == [Reply("a", outcome.state, b"v")]


@pytest.mark.parametrize("outcome", [retrying(0), snoozed(0), released()])
async def test_who_waits_is_not_told_before_the_job_ends(
    storage: Storage, outcome: Outcome
) -> None:
    async with listening_to_replies(storage, "here") as replies:
        await enqueue(storage, new_job("a", reply_to="here"))
        await run_one(storage, outcome)
        assert await replies.all() == []
        await run_one(storage, completed(b"v"))
        assert await replies.all() == [Reply("a", JobState.COMPLETED, b"v")]


async def test_a_reply_through_another_handle_arrives(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    async with listening_to_replies(one, "here") as replies:
        await enqueue(one, new_job("a", reply_to="here"))
        await run_one(other, completed(b"v"))
        await replies.wait_for(1)
        assert replies.messages == [Reply("a", JobState.COMPLETED, b"v")]


async def test_a_reply_carries_what_fits(storage: Storage) -> None:
    async with listening_to_replies(storage, "here") as replies:
        await enqueue(
            storage, new_job("fits", reply_to="here"), new_job("too large", reply_to="here")
        )
        await run_one(storage, completed(b"x" * INLINE_BYTES))
        await run_one(storage, completed(b"x" * (INLINE_BYTES + 1)))
        assert await replies.all() == [
            Reply("fits", JobState.COMPLETED, b"x" * INLINE_BYTES),
            Reply("too large", JobState.COMPLETED, None),
        ]


async def test_a_large_result_is_fetched_whole(storage: Storage) -> None:
    value = bytes(range(256)) * 20_000  # 5 MB
    async with listening_to_replies(storage, "here") as replies:
        await enqueue(storage, new_job("a", reply_to="here"))
        await run_one(storage, completed(value))
        assert await replies.all() == [Reply("a", JobState.COMPLETED, None)]
    assert await result(storage, "a") == (JobState.COMPLETED, value)
    assert (await stored(storage, "a")).value == value


async def test_everybody_who_waits_is_told(storage: Storage) -> None:
    async with (
        listening_to_replies(storage, "one") as one,
        listening_to_replies(storage, "two") as two,
        listening_to_replies(storage, "three") as three,
    ):
        await enqueue(storage, new_job("a", reply_to="one"))
        (answer,) = await enqueue(storage, new_job("a", reply_to="two"))
        assert answer.status is EnqueueStatus.DUPLICATE
        assert await storage.results(QUEUE, ["a"], "three") == [(JobState.QUEUED, None)]
        await run_one(storage, completed(b"v"))
        for replies in (one, two, three):
            assert await replies.all() == [Reply("a", JobState.COMPLETED, b"v")]


@pytest.mark.parametrize("state", ["scheduled", "queued", "running", "retrying"])
async def test_one_can_begin_to_wait_for_whatever_has_not_ended(
    storage: Storage, clock: ManualClock, state: str
) -> None:
    await enqueue(storage, new_job("a", delay_ms=SECOND if state == "scheduled" else 0))
    claimed = None
    if state in ("running", "retrying"):
        claimed = await claim_one(storage)
    if state == "retrying":
        await settle(storage, retrying(SECOND), claimed)
        claimed = None
    assert await storage.results(QUEUE, ["a", "unknown"], "by-results") == [(state, None), None]
    await enqueue(storage, new_job("a", reply_to="by-enqueue"))

    async with (
        listening_to_replies(storage, "by-results") as one,
        listening_to_replies(storage, "by-enqueue") as two,
    ):
        await clock.advance(SECOND)
        await settle(storage, completed(b"v"), claimed or await claim_one(storage))
        assert await one.all() == await two.all() == [Reply("a", JobState.COMPLETED, b"v")]


async def test_who_asks_after_the_end_is_answered_at_once_and_not_told(storage: Storage) -> None:
    async with listening_to_replies(storage, "here") as replies:
        await enqueue(storage, "a")
        await run_one(storage, completed(b"v"))
        assert await storage.results(QUEUE, ["a"], "here") == [(JobState.COMPLETED, b"v")]
        await enqueue(storage, new_job("a", reply_to="here"))
        assert await replies.all() == []


async def test_reading_a_result_does_not_begin_to_wait(storage: Storage) -> None:
    async with listening_to_replies(storage, "here") as replies:
        await enqueue(storage, "a")
        await storage.results(QUEUE, ["a"])
        await storage.get(QUEUE, ["a"])
        await run_one(storage, completed())
        assert await replies.all() == []


async def test_an_unknown_id_cannot_be_waited_for(storage: Storage) -> None:
    async with listening_to_replies(storage, "here") as replies:
        assert await storage.results(QUEUE, ["a"], "here") == [None]
        await enqueue(storage, "a")
        await run_one(storage, completed())
        assert await replies.all() == []


async def test_a_job_stored_with_no_waiter_is_not_told_to_an_empty_address(
    storage: Storage,
) -> None:
    async with listening_to_replies(storage, "None") as one:
        await enqueue(storage, "a")
        await run_one(storage, completed())
        assert await one.all() == []


# -- how long they are kept ----------------------------------------------------------------------


async def test_the_time_to_live_of_finished_jobs_can_be_changed(storage: Storage) -> None:
    await enqueue(storage, "done", "broken", "runs", "waits", new_job("later", delay_ms=HOUR))
    await run_one(storage, completed())
    await run_one(storage, failed())
    await claim(storage, 1)
    answers = await storage.set_result_ttl(
        QUEUE, ["waits", "done", "unknown", "later", "runs", "broken"], MINUTE
    )
    assert answers == [
        TtlResult.NOT_FINISHED,
        TtlResult.UPDATED,
        TtlResult.NOT_FOUND,
        TtlResult.NOT_FINISHED,
        TtlResult.NOT_FINISHED,
        TtlResult.UPDATED,
    ]


@pytest.mark.parametrize("outcome", [completed(), failed(), cancelled()])
async def test_a_time_to_live_can_be_shortened(
    storage: Storage, clock: ManualClock, outcome: Outcome
) -> None:
    await enqueue(storage, "a")
    await run_one(storage, outcome)
    await clock.advance(SECOND)
    assert await storage.set_result_ttl(QUEUE, ["a"], MINUTE) == [TtlResult.UPDATED]
    assert (await stored(storage, "a")).expires_ms == clock.now() + MINUTE
    await clock.advance(MINUTE - SECOND)
    assert await exists(storage, "a")
    await clock.advance(SECOND)
    assert not await exists(storage, "a")
    assert await storage.counts(QUEUE) == only()


async def test_a_time_to_live_can_be_extended(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, "a")
    await run_one(storage, completed(b"v", ttl_ms=MINUTE))
    await storage.set_result_ttl(QUEUE, ["a"], HOUR)
    await clock.advance(HOUR - SECOND)
    assert await storage.prune(QUEUE, 100) == 0
    assert await result(storage, "a") == (JobState.COMPLETED, b"v")
    assert await storage.counts(QUEUE) == only(completed=1)
    await clock.advance(SECOND)
    assert await result(storage, "a") is None
    assert await storage.counts(QUEUE) == only()


async def test_a_finished_job_can_be_forgotten_at_once(storage: Storage) -> None:
    await enqueue(storage, "a")
    await run_one(storage, completed())
    assert await storage.set_result_ttl(QUEUE, ["a"], 0) == [TtlResult.UPDATED]
    assert not await exists(storage, "a")
    assert await storage.counts(QUEUE) == only()


async def test_a_change_of_the_time_to_live_does_not_touch_what_has_not_ended(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, "a")
    before = await stored(storage, "a")
    await storage.set_result_ttl(QUEUE, ["a"], MINUTE)
    assert await stored(storage, "a") == before
    await clock.advance(HOUR)
    assert await storage.counts(QUEUE) == only(queued=1)
