"""Calls that are made again because their answer was lost."""

from __future__ import annotations

import pytest

from jobqueue.states import CancelResult, EnqueueStatus, EventType, JobState
from jobqueue.storage.base import Storage
from tests.support.backends import MakeStorage
from tests.support.clock import ManualClock
from tests.support.jobs import (
    HOUR,
    LEASE,
    MINUTE,
    QUEUE,
    cancel,
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
from tests.support.listening import listening_to_events, listening_to_replies


@pytest.mark.parametrize("request_token", ["", "token"])
async def test_a_repeated_enqueue_is_answered_as_the_first(
    storage: Storage, request_token: str
) -> None:
    batch = [
        new_job("a", request=request_token),
        new_job("b", request=request_token, delay_ms=HOUR),
    ]
    first = await storage.enqueue(QUEUE, batch)
    async with listening_to_events(storage) as events:
        assert await storage.enqueue(QUEUE, batch) == first
        assert await events.all() == []
    assert await storage.counts(QUEUE) == only(queued=2, scheduled=1)  # with the marker


@pytest.mark.parametrize("request_token", ["", "token"])
@pytest.mark.parametrize("end", [None, completed, failed, retrying])
async def test_a_repeated_enqueue_is_answered_queued_whatever_became_of_the_job(
    storage: Storage, request_token: str, end
) -> None:
    job = new_job("a", request=request_token)
    await enqueue(storage, job)
    claimed = await claim_one(storage)
    if end is not None:
        await settle(storage, end(), claimed)
    before = await stored(storage, "a")

    (answer,) = await enqueue(storage, job)
    assert (answer.status, answer.value) == (EnqueueStatus.QUEUED, None)
    assert await stored(storage, "a") == before
    assert await claim(storage) == []


@pytest.mark.parametrize("request_token", ["", "token"])
async def test_a_repeated_enqueue_does_not_revive_a_cancelled_job(
    storage: Storage, request_token: str
) -> None:
    job = new_job("a", request=request_token)
    await enqueue(storage, job)
    await cancel(storage, "a")
    (answer,) = await enqueue(storage, job)
    assert answer.status is EnqueueStatus.QUEUED
    assert (await stored(storage, "a")).state is JobState.CANCELLED
    assert await claim(storage) == []


async def test_the_token_of_a_job_stored_anew_replaces_the_old_one(storage: Storage) -> None:
    await enqueue(storage, new_job("a", request="one"))
    await cancel(storage, "a")
    await enqueue(storage, new_job("a", request="two"))
    (own,) = await enqueue(storage, new_job("a", request="two"))
    (other,) = await enqueue(storage, new_job("a", request="one"))
    assert (own.status, other.status) == (EnqueueStatus.QUEUED, EnqueueStatus.DUPLICATE)


async def test_a_request_without_a_token_is_no_repeat_of_one_with_a_token(
    storage: Storage,
) -> None:
    await enqueue(storage, new_job("a", request="token"), new_job("b", request=""))
    answers = await enqueue(storage, new_job("a", request=""), new_job("b", request="token"))
    assert [answer.status for answer in answers] == [EnqueueStatus.DUPLICATE] * 2


async def test_a_token_counts_for_its_own_id_only(storage: Storage) -> None:
    answers = await enqueue(storage, new_job("a", request="token"), new_job("b", request="token"))
    assert [answer.status for answer in answers] == [EnqueueStatus.QUEUED] * 2
    assert ids(await claim(storage)) == ["a", "b"]


async def test_a_repeated_claim_gives_the_same_jobs(storage: Storage) -> None:
    await enqueue(storage, "a", "b", "c")
    first = await claim(storage, 2, token="t")
    async with listening_to_events(storage) as events:
        assert await claim(storage, 2, token="t") == first
        assert await events.all() == []
    assert ids(first) == ["a", "b"]
    assert await storage.counts(QUEUE) == only(running=2, queued=2)  # with the marker


async def test_a_repeated_claim_works_through_another_handle(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    await enqueue(one, "a")
    assert await claim(one, token="t") == await claim(other, token="t") != []


async def test_a_repeated_claim_leaves_out_what_was_finished(storage: Storage) -> None:
    await enqueue(storage, "a", "b", "c")
    a, b, c = await claim(storage, 3, token="t")
    await settle(storage, completed(), b)
    assert await claim(storage, 3, token="t") == [a, c]


async def test_a_repeated_claim_leaves_out_what_was_given_back(storage: Storage) -> None:
    await enqueue(storage, "a", "b")
    a, b = await claim(storage, 2, token="t")
    await settle(storage, released(), a)
    assert await claim(storage, 2, token="t") == [b]


async def test_a_repeated_claim_leaves_out_what_was_claimed_again(storage: Storage) -> None:
    await enqueue(storage, "a", "b")
    a, b = await claim(storage, 2, token="t")
    await settle(storage, released(), a)
    again = await claim_one(storage, worker="w2")
    assert again.id == "a"
    assert await claim(storage, 2, token="t") == [b]


async def test_a_repeated_claim_leaves_out_what_was_taken_over(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, "a", "b")
    a, b = await claim(storage, 2, token="t", lease_ms=MINUTE)
    await storage.heartbeat(QUEUE, "w1", held(b), HOUR)
    await clock.advance(MINUTE)
    (taken,) = await recover(storage, 10, lease_ms=HOUR)
    assert taken.id == a.id
    assert await claim(storage, 2, token="t") == [b]


async def test_a_repeated_claim_takes_nothing_new_when_all_was_finished(storage: Storage) -> None:
    await enqueue(storage, "a", "b")
    claimed = await claim(storage, 1, token="t")
    await settle(storage, completed(), *claimed)
    assert await claim(storage, 1, token="t") == []
    assert ids(await claim(storage, 1, token="next")) == ["b"]


async def test_a_new_token_gives_new_jobs(storage: Storage) -> None:
    await enqueue(storage, "a", "b")
    assert ids(await claim(storage, 1, token="t1")) == ["a"]
    assert ids(await claim(storage, 1, token="t2")) == ["b"]


async def test_a_token_belongs_to_its_worker(storage: Storage) -> None:
    await enqueue(storage, "a", "b")
    assert ids(await claim(storage, 1, worker="w1", token="t")) == ["a"]
    assert ids(await claim(storage, 1, worker="w2", token="t")) == ["b"]


async def test_a_claim_that_found_nothing_can_be_asked_again_with_a_new_token(
    storage: Storage,
) -> None:
    assert await claim(storage, token="t1") == []
    await enqueue(storage, "a")
    assert ids(await claim(storage, token="t2")) == ["a"]


@pytest.mark.parametrize(
    "outcome", [completed(), failed(), retrying(HOUR), snoozed(HOUR), released(), requeued()]
)
async def test_a_repeated_finish_is_true_and_changes_nothing(storage: Storage, outcome) -> None:
    await enqueue(storage, "a")
    claimed = await claim_one(storage)
    assert await settle(storage, outcome, claimed) == [True]
    before = await stored(storage, "a")
    async with listening_to_events(storage) as events:
        assert await settle(storage, outcome, claimed) == [True]
        assert await events.all() == []
    assert await stored(storage, "a") == before
    counts = only(**{outcome.state.value: 1})
    counts[JobState.QUEUED] += 1  # the marker
    assert await storage.counts(QUEUE) == counts


async def test_a_repeated_finish_tells_waiters_once(storage: Storage) -> None:
    async with listening_to_replies(storage, "here") as replies:
        await enqueue(storage, new_job("a", reply_to="here"))
        claimed = await claim_one(storage)
        await settle(storage, completed(), claimed)
        await settle(storage, completed(), claimed)
        assert len(await replies.all()) == 1


async def test_a_repeated_release_leaves_one_job_to_claim(storage: Storage) -> None:
    await enqueue(storage, "a", "b")
    claims = await claim(storage)
    for _ in range(3):
        assert await settle(storage, released(), *claims) == [True, True]
    assert ids(await claim(storage)) == ["a", "b"]
    assert await claim(storage) == []


async def test_a_repeated_finish_is_true_while_the_next_holder_runs_the_job(
    storage: Storage,
) -> None:
    await enqueue(storage, "a")
    first = await run_one(storage, requeued())
    second = await claim_one(storage, worker="w2")
    assert await settle(storage, requeued(), first) == [True]
    job = await stored(storage, "a")
    assert (job.state, job.fence, job.worker) == (JobState.RUNNING, second.fence, "w2")


async def test_a_repeated_finish_is_false_once_somebody_else_settled_the_job(
    storage: Storage,
) -> None:
    await enqueue(storage, "a")
    first = await run_one(storage, requeued())
    await run_one(storage, completed(b"of the second"), worker="w2")
    assert await settle(storage, requeued(), first) == [False]
    assert await result(storage, "a") == (JobState.COMPLETED, b"of the second")


async def test_only_who_settled_the_job_last_is_told_so_again(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, "a")
    frozen = await claim_one(storage, lease_ms=MINUTE)
    await clock.advance(MINUTE)
    (taken,) = await recover(storage, 10, lease_ms=HOUR)

    async def answers() -> list[bool]:
        return await settle(storage, requeued(), frozen, taken)

    assert await settle(storage, requeued(), frozen) == [False]
    assert await answers() == [False, True]  # settled now
    assert await answers() == [False, True]
    last = await claim_one(storage)
    assert await answers() == [False, True]
    await settle(storage, completed(), last)
    assert await answers() == [False, False]
    assert await settle(storage, completed(), last) == [True]


async def test_the_first_of_two_outcomes_for_one_lease_stays(storage: Storage) -> None:
    await enqueue(storage, "a")
    claimed = await claim_one(storage)
    assert await settle(storage, completed(b"first"), claimed) == [True]
    for other in (failed(b"second"), retrying(0), released(), completed(b"second")):
        await settle(storage, other, claimed)
        assert await result(storage, "a") == (JobState.COMPLETED, b"first")
    assert await storage.counts(QUEUE) == only(completed=1)
    assert await claim(storage) == []


async def lose(storage: Storage, clock: ManualClock, *names: str) -> None:
    """Jobs whose worker gave no sign of life for its lease."""
    await enqueue(storage, *names)
    await claim(storage, worker="lost one", lease_ms=MINUTE)
    await clock.advance(MINUTE)


async def test_a_repeated_recovery_gives_the_same_jobs(
    storage: Storage, clock: ManualClock
) -> None:
    await lose(storage, clock, "a", "b", "c")
    await cancel(storage, "a")
    first = await recover(storage, 2, token="t")
    before = [await stored(storage, id) for id in "abc"]
    async with listening_to_events(storage) as events:
        assert await recover(storage, 2, token="t") == first
        assert await events.all() == []
    assert [await stored(storage, id) for id in "abc"] == before
    assert [(job.id, job.worker, job.cancel_requested) for job in first] == [
        ("a", "lost one", True),
        ("b", "lost one", False),
    ]
    assert ids(await recover(storage, token="next")) == ["c"]


async def test_a_repeated_recovery_works_through_another_handle(
    make_storage: MakeStorage, clock: ManualClock
) -> None:
    one, other = await make_storage(), await make_storage()
    await lose(one, clock, "a")
    assert await recover(one, token="t") == await recover(other, token="t") != []


async def test_a_repeated_recovery_leaves_out_what_was_settled(
    storage: Storage, clock: ManualClock
) -> None:
    await lose(storage, clock, "a", "b")
    a, b = await recover(storage, token="t")
    await settle(storage, requeued(), a, worker="reaper")
    assert await recover(storage, token="t") == [b]
    await settle(storage, failed(), b, worker="reaper")
    assert await recover(storage, token="t") == []


async def test_a_repeated_recovery_leaves_out_what_another_reaper_took_over(
    storage: Storage, clock: ManualClock
) -> None:
    await lose(storage, clock, "a", "b")
    a, b = await recover(storage, token="t", lease_ms=MINUTE)
    await storage.heartbeat(QUEUE, "reaper", held(b), HOUR)
    await clock.advance(MINUTE)
    (taken,) = await recover(storage, reaper="other")
    assert taken.id == a.id
    assert await recover(storage, token="t") == [b]


async def test_a_repeated_recovery_takes_over_nothing_new(
    storage: Storage, clock: ManualClock
) -> None:
    await lose(storage, clock, "a", "b")
    first = await recover(storage, 1, token="t")
    assert await recover(storage, 100, token="t") == first
    await settle(storage, requeued(), *first, worker="reaper")
    assert await recover(storage, token="t") == []
    assert len(await recover(storage, token="next")) == 1


async def test_the_token_of_a_recovery_belongs_to_its_reaper(
    storage: Storage, clock: ManualClock
) -> None:
    await lose(storage, clock, "a", "b")
    first = await recover(storage, 1, reaper="r1", token="t")
    (second,) = await recover(storage, 1, reaper="r2", token="t")
    assert second.id != first[0].id
    assert await recover(storage, 1, reaper="r1", token="t") == first


async def test_a_recovery_that_found_nothing_finds_what_is_there_now(
    storage: Storage, clock: ManualClock
) -> None:
    assert await recover(storage, token="t") == []
    await lose(storage, clock, "a")
    assert ids(await recover(storage, token="t")) == ["a"]


async def test_a_reaper_is_no_worker_whose_jobs_run(storage: Storage, clock: ManualClock) -> None:
    await lose(storage, clock, "a")
    (taken,) = await recover(storage, token="t", lease_ms=MINUTE)
    await clock.advance(2 * MINUTE)
    (again,) = await recover(storage, reaper="other")
    assert (again.id, again.worker) == ("a", "reaper")
    assert await settle(storage, requeued(), taken, worker="reaper") == [False]


async def waiting(storage: Storage) -> None:
    await enqueue(storage, "a")


async def later(storage: Storage) -> None:
    await enqueue(storage, new_job("a", delay_ms=HOUR))


async def running(storage: Storage) -> None:
    await enqueue(storage, "a")
    await claim_one(storage)


async def ended(storage: Storage) -> None:
    await enqueue(storage, "a")
    await run_one(storage, completed())


@pytest.mark.parametrize(
    ("prepare", "answer"),
    [
        (waiting, CancelResult.CANCELLED),
        (later, CancelResult.CANCELLED),
        (running, CancelResult.RUNNING),
        (ended, CancelResult.FINISHED),
        (None, CancelResult.NOT_FOUND),
    ],
)
async def test_a_repeated_cancel_is_answered_alike_and_changes_nothing(
    storage: Storage, prepare, answer: CancelResult
) -> None:
    if prepare is not None:
        await prepare(storage)
    assert await cancel(storage, "a", value=b"why", request="t") == [answer]
    before = await storage.get(QUEUE, ["a"])
    async with listening_to_events(storage) as events:
        assert await cancel(storage, "a", value=b"why", request="t") == [answer]
        assert await events.all() == []
    assert await storage.get(QUEUE, ["a"]) == before


@pytest.mark.parametrize("outcome", [completed(), failed(), cancelled(), released()])
async def test_a_repeated_cancel_of_what_ran_is_answered_alike_when_it_has_ended(
    storage: Storage, outcome
) -> None:
    await enqueue(storage, "a")
    claimed = await claim_one(storage)
    assert await cancel(storage, "a", request="t") == [CancelResult.RUNNING]
    await settle(storage, outcome, claimed)
    before = await stored(storage, "a")
    assert await cancel(storage, "a", request="t") == [CancelResult.RUNNING]
    assert await stored(storage, "a") == before


async def test_another_cancel_is_no_repeat(storage: Storage) -> None:
    await enqueue(storage, "a")
    assert await cancel(storage, "a", request="one") == [CancelResult.CANCELLED]
    assert await cancel(storage, "a", request="two") == [CancelResult.FINISHED]
    assert await cancel(storage, "a", request="one") == [CancelResult.CANCELLED]


async def test_a_repeated_cancel_leaves_a_job_stored_anew_alone(storage: Storage) -> None:
    await enqueue(storage, "a")
    assert await cancel(storage, "a", request="one") == [CancelResult.CANCELLED]
    await enqueue(storage, "a")
    assert await cancel(storage, "a", request="one") == [CancelResult.CANCELLED]
    assert (await stored(storage, "a")).state is JobState.QUEUED
    assert await cancel(storage, "a", request="two") == [CancelResult.CANCELLED]
    assert (await stored(storage, "a")).state is JobState.CANCELLED


async def test_a_job_stored_anew_can_be_asked_to_stop(storage: Storage) -> None:
    await enqueue(storage, "a")
    await cancel(storage, "a", request="one")
    await enqueue(storage, "a")
    claimed = await claim_one(storage)
    assert not (await stored(storage, "a")).cancel_requested
    assert await cancel(storage, "a", request="two") == [CancelResult.RUNNING]
    assert (await storage.heartbeat(QUEUE, "w1", held(claimed), LEASE)).cancel_requested == ["a"]
    await settle(storage, completed(), claimed)
    assert await cancel(storage, "a", request="two") == [CancelResult.RUNNING]


async def test_the_token_of_a_cancel_counts_for_its_own_id_only(storage: Storage) -> None:
    await enqueue(storage, "a", "b")
    assert await cancel(storage, "a", request="t") == [CancelResult.CANCELLED]
    assert await cancel(storage, "a", "b", request="t") == [CancelResult.CANCELLED] * 2
    assert await claim(storage) == []


async def test_a_repeated_promotion_changes_nothing(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, new_job("a", delay_ms=MINUTE), new_job("b", delay_ms=HOUR))
    await clock.advance(MINUTE)
    first = await storage.promote(QUEUE, 10)
    assert await storage.promote(QUEUE, 10) == first == HOUR - MINUTE
    assert await storage.counts(QUEUE) == only(queued=1, scheduled=1)
    assert ids(await claim(storage)) == ["a"]


async def test_a_repeated_prune_changes_nothing(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, "a", "b")
    await run_one(storage, completed(ttl_ms=MINUTE))
    await clock.advance(MINUTE)
    await storage.prune(QUEUE, 10)
    assert await storage.prune(QUEUE, 10) == 0
    assert await storage.counts(QUEUE) == only(queued=1)


async def test_a_repeated_heartbeat_is_answered_alike(storage: Storage) -> None:
    await enqueue(storage, "a", "b")
    a, b = await claim(storage)
    await settle(storage, completed(), a)
    await cancel(storage, "b")
    first = await storage.heartbeat(QUEUE, "w1", held(a, b), LEASE)
    assert await storage.heartbeat(QUEUE, "w1", held(a, b), LEASE) == first == (["a"], ["b"])


async def test_a_repeated_change_of_the_time_to_live_is_answered_alike(storage: Storage) -> None:
    await enqueue(storage, "a")
    await run_one(storage, completed())
    first = await storage.set_result_ttl(QUEUE, ["a"], MINUTE)
    assert await storage.set_result_ttl(QUEUE, ["a"], MINUTE) == first


async def test_a_repeated_leave_is_no_error(storage: Storage) -> None:
    await claim(storage)
    await storage.leave(QUEUE, "w1")
    await storage.leave(QUEUE, "w1")


async def test_events_of_a_repeated_enqueue_name_the_job_once(storage: Storage) -> None:
    job = new_job("a", request="token")
    async with listening_to_events(storage) as events:
        for _ in range(3):
            await enqueue(storage, job)
        assert [(e.type, e.id) for e in await events.all()] == [(EventType.ENQUEUED, "a")]
