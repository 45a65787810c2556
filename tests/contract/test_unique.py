"""One at a time of a unique key: which job keeps which others away, and for how long."""

from __future__ import annotations

import pytest

from jobqueue.flow import Flow, Refusal, Unique, UniqueUntil
from jobqueue.outcome import EXPIRED
from jobqueue.states import EnqueueStatus, EventType, JobState
from jobqueue.storage.base import Storage
from jobqueue.storage.types import INLINE_BYTES, Enqueued
from tests.support.backends import MakeStorage
from tests.support.clock import ManualClock
from tests.support.flows import change, expiring, unique
from tests.support.jobs import (
    HOUR,
    MINUTE,
    QUEUE,
    SECOND,
    cancel,
    cancelled,
    claim,
    claim_one,
    completed,
    enqueue,
    exists,
    failed,
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
from tests.support.listening import listening_to_events, listening_to_replies
from tests.support.names import HOSTILE_NAMES, LOOKALIKES

STARTED, FINISHED, ELAPSED = UniqueUntil
STORED = Enqueued(EnqueueStatus.QUEUED, JobState.QUEUED, None)


def kept_away(by: str, state: JobState, value: bytes | None = None) -> Enqueued:
    return Enqueued(EnqueueStatus.DUPLICATE, state, value, by)


def job_until(until: UniqueUntil, id: str, **options):
    return unique(id, until, window_ms=MINUTE if until is ELAPSED else 0, **options)


every_until = pytest.mark.parametrize("until", UniqueUntil)


@every_until
async def test_one_that_waits_keeps_others_of_its_key_away(
    make_storage: MakeStorage, until: UniqueUntil
) -> None:
    one, other = await make_storage(), await make_storage()
    assert await enqueue(one, job_until(until, "a")) == [STORED]
    async with listening_to_events(other) as events:
        (answer,) = await enqueue(other, job_until(until, "b", spec=b"other"))
        assert await events.all() == []
    assert answer == kept_away("a", JobState.QUEUED)
    assert not await exists(one, "b")
    assert (await stored(one, "a")).spec == b"spec"
    assert ids(await claim(one, 1)) == ["a"]


@every_until
async def test_one_that_is_scheduled_keeps_others_away(
    storage: Storage, clock: ManualClock, until: UniqueUntil
) -> None:
    await enqueue(storage, job_until(until, "a", delay_ms=SECOND))
    assert await enqueue(storage, job_until(until, "b")) == [kept_away("a", JobState.SCHEDULED)]


@every_until
async def test_a_batch_is_held_against_itself_in_order(
    storage: Storage, until: UniqueUntil
) -> None:
    answers = await enqueue(
        storage,
        job_until(until, "a"),
        job_until(until, "x", key="another"),
        job_until(until, "b"),
        "plain",
        job_until(until, "a"),
    )
    assert answers == [
        STORED,
        STORED,
        kept_away("a", JobState.QUEUED),
        STORED,
        (EnqueueStatus.DUPLICATE, JobState.QUEUED, None, ""),
    ]
    assert ids(await claim(storage)) == ["a", "x", "plain"]


@every_until
async def test_a_job_is_no_duplicate_of_itself(storage: Storage, until: UniqueUntil) -> None:
    job = job_until(until, "a", request="token")
    assert await enqueue(storage, job) == [STORED]
    assert await enqueue(storage, job) == [STORED]
    (answer,) = await enqueue(storage, job_until(until, "a", request="another"))
    assert answer == (EnqueueStatus.DUPLICATE, JobState.QUEUED, None, "")


@every_until
async def test_a_repeat_is_kept_away_again(storage: Storage, until: UniqueUntil) -> None:
    batch = [job_until(until, "a"), job_until(until, "b")]
    first = await enqueue(storage, *batch)
    assert await enqueue(storage, *batch) == first
    assert await storage.counts(QUEUE) == only(queued=1)


async def test_a_repeat_of_one_that_was_stored_is_answered_so_whoever_came_since(
    storage: Storage,
) -> None:
    first = unique("a", STARTED)
    await enqueue(storage, first)
    await claim_one(storage)
    await enqueue(storage, unique("b", STARTED))
    assert await enqueue(storage, first) == [(EnqueueStatus.QUEUED, JobState.RUNNING, None, "")]
    assert await enqueue(storage, unique("c", STARTED)) == [kept_away("b", JobState.QUEUED)]


@every_until
async def test_another_key_and_no_key_are_free(storage: Storage, until: UniqueUntil) -> None:
    jobs = [job_until(until, "a"), job_until(until, "b", key="other"), new_job("c")]
    assert await enqueue(storage, *jobs) == [STORED] * 3


@every_until
async def test_a_key_belongs_to_its_queue(storage: Storage, until: UniqueUntil) -> None:
    assert await enqueue(storage, job_until(until, "a"), queue="one") == [STORED]
    assert await enqueue(storage, job_until(until, "b"), queue="other") == [STORED]


# -- until started -------------------------------------------------------------------------------


async def test_until_started_a_claim_frees_the_key(storage: Storage) -> None:
    await enqueue(storage, unique("a", STARTED))
    await claim_one(storage)
    assert await enqueue(storage, unique("b", STARTED)) == [STORED]
    assert await enqueue(storage, unique("c", STARTED)) == [kept_away("b", JobState.QUEUED)]


@pytest.mark.parametrize("outcome", [released(), requeued(), retrying(HOUR), snoozed(HOUR)])
async def test_until_started_one_that_started_once_stays_out_of_the_way(
    storage: Storage, outcome
) -> None:
    await enqueue(storage, unique("a", STARTED))
    await run_one(storage, outcome)
    assert await enqueue(storage, unique("b", STARTED)) == [STORED]


async def test_until_started_one_that_was_recovered_stays_out_of_the_way(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, unique("a", STARTED))
    await claim(storage, lease_ms=MINUTE)
    await clock.advance(MINUTE)
    (taken,) = await recover(storage)
    assert await enqueue(storage, unique("b", STARTED)) == [STORED]
    await settle(storage, requeued(), taken, worker="reaper")
    assert await enqueue(storage, unique("c", STARTED)) == [kept_away("b", JobState.QUEUED)]


async def test_until_started_one_that_is_cancelled_frees_the_key(storage: Storage) -> None:
    await enqueue(storage, unique("a", STARTED))
    await cancel(storage, "a")
    assert await enqueue(storage, unique("b", STARTED)) == [STORED]


@pytest.mark.parametrize("until", [STARTED, FINISHED])
async def test_one_that_expires_frees_the_key(
    storage: Storage, clock: ManualClock, until: UniqueUntil
) -> None:
    flow = Flow(expires_ms=MINUTE, unique=Unique("key", until))
    await enqueue(storage, new_job("a", ttl_ms=HOUR, flow=flow))
    await clock.advance(MINUTE)
    await storage.promote(QUEUE, 10)
    assert (await stored(storage, "a")).value == EXPIRED
    assert await enqueue(storage, unique("b", until)) == [STORED]


# -- until finished ------------------------------------------------------------------------------


async def test_until_finished_it_counts_while_it_runs(storage: Storage) -> None:
    await enqueue(storage, unique("a"))
    await claim_one(storage)
    assert await enqueue(storage, unique("b")) == [kept_away("a", JobState.RUNNING)]


@pytest.mark.parametrize("outcome", [released(), requeued(), retrying(HOUR), snoozed(HOUR)])
async def test_until_finished_it_counts_while_it_comes_again(storage: Storage, outcome) -> None:
    await enqueue(storage, unique("a"))
    await run_one(storage, outcome)
    assert await enqueue(storage, unique("b")) == [kept_away("a", outcome.state)]


@pytest.mark.parametrize("outcome", [completed(), failed(), cancelled()])
async def test_until_finished_its_end_frees_the_key(storage: Storage, outcome) -> None:
    await enqueue(storage, unique("a"))
    await run_one(storage, outcome)
    assert await enqueue(storage, unique("b")) == [STORED]
    assert await enqueue(storage, unique("c")) == [kept_away("b", JobState.QUEUED)]


async def test_until_finished_a_cancel_frees_the_key(storage: Storage) -> None:
    await enqueue(storage, unique("a"))
    await cancel(storage, "a")
    assert await enqueue(storage, unique("b")) == [STORED]


async def test_until_finished_a_request_to_stop_does_not_free_the_key(storage: Storage) -> None:
    await enqueue(storage, unique("a"))
    claimed = await claim_one(storage)
    await cancel(storage, "a")
    assert await enqueue(storage, unique("b")) == [kept_away("a", JobState.RUNNING)]
    await settle(storage, released(), claimed)
    assert await enqueue(storage, unique("b")) == [STORED]


# -- for a time ----------------------------------------------------------------------------------


async def test_for_a_time_it_counts_from_its_enqueue(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, unique("a", ELAPSED, window_ms=MINUTE))
    await clock.advance(MINUTE - 1)
    assert await enqueue(storage, unique("b", ELAPSED, window_ms=MINUTE)) == [
        kept_away("a", JobState.QUEUED)
    ]
    await clock.advance(1)
    assert await enqueue(storage, unique("b", ELAPSED, window_ms=MINUTE)) == [STORED]
    assert ids(await claim(storage)) == ["a", "b"]


async def test_for_a_time_it_counts_whatever_becomes_of_it(
    storage: Storage, clock: ManualClock
) -> None:
    def another():
        return unique("b", ELAPSED, window_ms=MINUTE)

    await enqueue(storage, unique("a", ELAPSED, window_ms=MINUTE))
    claimed = await claim_one(storage)
    assert await enqueue(storage, another()) == [kept_away("a", JobState.RUNNING)]
    await settle(storage, retrying(0), claimed)
    assert await enqueue(storage, another()) == [kept_away("a", JobState.RETRYING)]
    await run_one(storage, completed(b"42"))
    assert await enqueue(storage, another()) == [
        (EnqueueStatus.COMPLETED, JobState.COMPLETED, b"42", "a")
    ]
    await clock.advance(MINUTE)
    assert await enqueue(storage, another()) == [STORED]


@pytest.mark.parametrize("outcome", [failed(b"why"), cancelled(b"why")])
async def test_for_a_time_one_that_ended_without_a_result_keeps_others_away(
    storage: Storage, outcome
) -> None:
    await enqueue(storage, unique("a", ELAPSED, window_ms=MINUTE))
    await run_one(storage, outcome)
    (answer,) = await enqueue(storage, unique("b", ELAPSED, window_ms=MINUTE))
    assert answer == kept_away("a", outcome.state, b"why")


async def test_for_a_time_a_cancelled_one_keeps_others_away(storage: Storage) -> None:
    await enqueue(storage, unique("a", ELAPSED, window_ms=MINUTE))
    await cancel(storage, "a", value=b"why")
    (answer,) = await enqueue(storage, unique("b", ELAPSED, window_ms=MINUTE))
    assert answer == kept_away("a", JobState.CANCELLED, b"why")
    assert await claim(storage) == []


async def test_for_a_time_a_cancelled_one_keeps_its_own_id_away(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, unique("a", ELAPSED, window_ms=MINUTE))
    await cancel(storage, "a", value=b"why")
    (answer,) = await enqueue(storage, unique("a", ELAPSED, window_ms=MINUTE))
    assert answer == (EnqueueStatus.DUPLICATE, JobState.CANCELLED, b"why", "")
    await clock.advance(MINUTE)
    assert await enqueue(storage, unique("a", ELAPSED, window_ms=MINUTE)) == [STORED]


async def test_one_whose_time_to_live_is_over_keeps_nobody_away(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, unique("a", ELAPSED, window_ms=HOUR))
    await run_one(storage, completed(ttl_ms=MINUTE))
    await clock.advance(MINUTE // 2)
    (answer,) = await enqueue(storage, unique("b", ELAPSED, window_ms=HOUR))
    assert answer.status is EnqueueStatus.COMPLETED
    await clock.advance(MINUTE // 2)
    assert await enqueue(storage, unique("b", ELAPSED, window_ms=HOUR)) == [STORED]


async def test_one_kept_longer_counts_longer(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, unique("a", ELAPSED, window_ms=2 * HOUR))
    await run_one(storage, completed(ttl_ms=MINUTE))
    await storage.set_result_ttl(QUEUE, ["a"], 3 * HOUR)
    await clock.advance(HOUR)
    (answer,) = await enqueue(storage, unique("b", ELAPSED, window_ms=2 * HOUR))
    assert (answer.status, answer.other_id) == (EnqueueStatus.COMPLETED, "a")
    await clock.advance(HOUR)
    assert await enqueue(storage, unique("b", ELAPSED, window_ms=2 * HOUR)) == [STORED]


# -- whose rule decides --------------------------------------------------------------------------


async def test_the_rule_of_the_one_that_comes_decides(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, unique("a", FINISHED))
    claimed = await claim_one(storage, lease_ms=HOUR)
    assert await enqueue(storage, unique("b", FINISHED)) == [kept_away("a", JobState.RUNNING)]
    assert await enqueue(storage, unique("c", ELAPSED, window_ms=SECOND)) == [
        kept_away("a", JobState.RUNNING)
    ]
    await settle(storage, completed(b"1"), claimed)
    (answer,) = await enqueue(storage, unique("c", ELAPSED, window_ms=SECOND))
    assert (answer.status, answer.value, answer.other_id) == ("completed", b"1", "a")
    await clock.advance(SECOND)
    assert await enqueue(storage, unique("c", ELAPSED, window_ms=SECOND)) == [STORED]
    assert await enqueue(storage, unique("d", STARTED)) == [kept_away("c", JobState.QUEUED)]


async def test_the_last_one_stored_is_the_one_that_counts(storage: Storage) -> None:
    await enqueue(storage, unique("a", FINISHED))
    await claim_one(storage)
    assert await enqueue(storage, unique("b", STARTED)) == [STORED]
    assert await enqueue(storage, unique("c", FINISHED)) == [kept_away("b", JobState.QUEUED)]
    await cancel(storage, "b")
    assert await enqueue(storage, unique("c", FINISHED)) == [STORED]


async def test_the_end_of_an_earlier_one_does_not_free_the_key_of_a_later_one(
    storage: Storage,
) -> None:
    await enqueue(storage, unique("a", STARTED))
    a = await claim_one(storage)
    await enqueue(storage, unique("b", STARTED))
    await settle(storage, completed(), a)
    assert await enqueue(storage, unique("c", FINISHED)) == [kept_away("b", JobState.QUEUED)]


async def test_the_time_to_live_of_an_earlier_one_does_not_free_the_key_of_a_later_one(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, unique("a", STARTED))
    await run_one(storage, completed(ttl_ms=MINUTE))
    await enqueue(storage, unique("b", STARTED))
    await clock.advance(MINUTE)
    await storage.prune(QUEUE, 10)
    assert await enqueue(storage, unique("c", FINISHED)) == [kept_away("b", JobState.QUEUED)]


async def test_a_job_stored_anew_lets_go_of_the_key_it_had(storage: Storage) -> None:
    await enqueue(storage, unique("a", ELAPSED, window_ms=HOUR))
    await cancel(storage, "a")
    await enqueue(storage, unique("a", FINISHED, key="other"))
    assert await enqueue(storage, unique("c", FINISHED, key="other")) == [
        kept_away("a", JobState.QUEUED)
    ]
    assert await enqueue(storage, unique("b", FINISHED)) == [STORED]


# -- what else happens ---------------------------------------------------------------------------


async def test_the_reply_address_is_remembered_for_the_one_that_is_there(
    storage: Storage,
) -> None:
    async with listening_to_replies(storage, "here") as replies:
        await enqueue(storage, unique("a"))
        await enqueue(storage, unique("b", reply_to="here"))
        await run_one(storage, completed(b"42"))
        assert await replies.all() == [("a", JobState.COMPLETED, b"42")]


async def test_the_value_of_one_that_is_too_large_is_left_out(storage: Storage) -> None:
    await enqueue(storage, unique("a", ELAPSED, window_ms=HOUR))
    await run_one(storage, completed(b"x" * (INLINE_BYTES + 1)))
    (answer,) = await enqueue(storage, unique("b", ELAPSED, window_ms=HOUR))
    assert answer == (EnqueueStatus.COMPLETED, JobState.COMPLETED, None, "a")


async def test_a_known_key_is_answered_by_a_queue_that_takes_nothing_new(
    storage: Storage,
) -> None:
    await enqueue(storage, unique("a"))
    await change(storage, draining=1)
    answers = await enqueue(storage, unique("b"), unique("c", key="other"))
    assert answers[0] == kept_away("a", JobState.QUEUED)
    assert answers[1].status is Refusal.DRAINING
    await change(storage, draining=0, max_waiting=1)
    answers = await enqueue(storage, unique("b"), unique("c", key="other"))
    assert answers[0] == kept_away("a", JobState.QUEUED)
    assert answers[1].status is Refusal.FULL


async def test_one_that_was_refused_keeps_nobody_away(storage: Storage) -> None:
    await change(storage, draining=1)
    await enqueue(storage, unique("a"))
    await change(storage, draining=0)
    assert await enqueue(storage, unique("b")) == [STORED]


async def test_a_known_id_is_answered_before_its_key_is_looked_at(storage: Storage) -> None:
    await enqueue(storage, unique("a"), unique("b", key="other"))
    (answer,) = await enqueue(storage, unique("b"))
    assert answer == (EnqueueStatus.DUPLICATE, JobState.QUEUED, None, "")


async def test_a_waiting_job_is_told_only_once_of_its_enqueue(storage: Storage) -> None:
    async with listening_to_events(storage) as events:
        await enqueue(storage, unique("a"), unique("b"))
        told = [(event.type, event.id) for event in await events.all()]
    assert told == [(EventType.ENQUEUED, "a")]


async def test_all_names_live_side_by_side_as_keys(storage: Storage) -> None:
    keys = list(dict.fromkeys([*HOSTILE_NAMES.values(), *LOOKALIKES]))
    firsts = [unique(f"a{n}", key=key) for n, key in enumerate(keys)]
    seconds = [unique(f"b{n}", key=key) for n, key in enumerate(keys)]
    assert await enqueue(storage, *firsts) == [STORED] * len(keys)
    answers = await enqueue(storage, *seconds)
    assert [answer.other_id for answer in answers] == [job.id for job in firsts]
    for claimed in await claim(storage, 500):
        await settle(storage, completed(), claimed)
    assert await enqueue(storage, *seconds) == [STORED] * len(keys)


async def test_a_job_that_expires_later_keeps_others_away_until_then(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, expiring("plain", HOUR))
    flow = Flow(expires_ms=MINUTE, unique=Unique("key", FINISHED))
    await enqueue(storage, new_job("a", ttl_ms=HOUR, flow=flow))
    await clock.advance(MINUTE - 1)
    assert await enqueue(storage, unique("b")) == [kept_away("a", JobState.QUEUED)]
