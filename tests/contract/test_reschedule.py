"""Another due time for what waits for one, and the list of those that do."""

from __future__ import annotations

import pytest

from jobqueue.flow import Flow, Priority
from jobqueue.states import JobState, RescheduleResult
from jobqueue.storage.base import Storage
from jobqueue.storage.types import StoredJob
from tests.support.backends import MakeStorage
from tests.support.clock import ManualClock
from tests.support.flows import change, high
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
    retrying,
    run_one,
    settle,
    snoozed,
    stored,
)
from tests.support.listening import listening_to_events
from tests.support.names import HOSTILE_NAMES, LOOKALIKES
from tests.support.waiting import waiting

UPDATED = RescheduleResult.UPDATED


async def reschedule(
    storage: Storage, due_ms: int, *names: str, queue: str = QUEUE
) -> list[RescheduleResult]:
    return await storage.reschedule(queue, names, due_ms)


async def make_delayed(storage: Storage, state: JobState) -> None:
    """Job ``a``, due in an hour."""
    if state is JobState.RETRYING:
        await enqueue(storage, "a")
        await run_one(storage, retrying(HOUR))
    else:
        await enqueue(storage, new_job("a", delay_ms=HOUR))


both_states = pytest.mark.parametrize("state", [JobState.SCHEDULED, JobState.RETRYING])


@both_states
@pytest.mark.parametrize("due_in", [MINUTE, 2 * HOUR])
async def test_a_job_gets_another_time(
    storage: Storage, clock: ManualClock, state: JobState, due_in: int
) -> None:
    await make_delayed(storage, state)
    due = clock.now() + due_in
    assert await reschedule(storage, due, "a") == [UPDATED]
    job = await stored(storage, "a")
    assert (job.state, job.due_ms) == (state, due)
    assert await storage.promote(QUEUE, 10) == due_in
    await clock.advance(due_in - 1)
    assert await claim(storage) == []
    await clock.advance(1)
    assert ids(await claim(storage)) == ["a"]


@both_states
@pytest.mark.parametrize("when", ["never", "past", "now"])
async def test_a_moment_that_is_not_in_the_future_is_at_once(
    storage: Storage, clock: ManualClock, state: JobState, when: str
) -> None:
    await make_delayed(storage, state)
    await enqueue(storage, "before")
    due = {"never": 0, "past": clock.now() - MINUTE, "now": clock.now()}[when]
    assert await reschedule(storage, due, "a") == [UPDATED]
    job = await stored(storage, "a")
    assert (job.state, job.due_ms) == (JobState.QUEUED, 0)
    assert await storage.counts(QUEUE) == only(queued=2)
    await enqueue(storage, "after")
    assert ids(await claim(storage)) == ["before", "a", "after"]
    assert await storage.promote(QUEUE, 10) is None
    await clock.advance(2 * HOUR)
    assert await claim(storage) == []


async def test_a_moment_just_ahead_is_in_the_future(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, new_job("a", delay_ms=HOUR))
    await reschedule(storage, clock.now() + 1, "a")
    assert await claim(storage) == []
    await clock.advance(1)
    assert ids(await claim(storage)) == ["a"]


async def test_others_do_not_change_and_a_batch_is_answered_in_its_order(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, "ended", "failed", "runs", "queued", "gone")
    ended, _, runs = await claim(storage, 3)
    await settle(storage, completed(), ended)
    await cancel(storage, "gone")
    assert runs.id == "runs"
    await enqueue(storage, new_job("s1", delay_ms=HOUR), new_job("s2", delay_ms=MINUTE))
    others = ["ended", "runs", "queued", "gone"]
    before = await storage.get(QUEUE, others)
    due = clock.now() + 2 * HOUR
    answers = await reschedule(storage, due, "s2", "unknown", "gone", "queued", "runs", "s1")
    assert answers == [
        UPDATED,
        RescheduleResult.NOT_FOUND,
        RescheduleResult.FINISHED,
        RescheduleResult.QUEUED,
        RescheduleResult.RUNNING,
        UPDATED,
    ]
    assert await reschedule(storage, 0, "ended") == [RescheduleResult.FINISHED]
    assert await storage.get(QUEUE, others) == before
    assert await storage.promote(QUEUE, 10) == 2 * HOUR
    assert await reschedule(storage, due) == []


async def test_an_id_named_twice_is_rescheduled_once(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, new_job("a", delay_ms=HOUR), new_job("b", delay_ms=HOUR))
    due = clock.now() + MINUTE
    assert await reschedule(storage, due, "a", "a") == [UPDATED, UPDATED]
    assert await reschedule(storage, 0, "a", "b", "a") == [
        UPDATED,
        UPDATED,
        RescheduleResult.QUEUED,
    ]
    assert ids(await claim(storage)) == ["a", "b"]


async def test_several_that_are_run_now_keep_the_order_of_the_call(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, *(new_job(id, delay_ms=HOUR) for id in ("a", "b", "c")))
    assert await reschedule(storage, 0, "c", "a", "b") == [UPDATED] * 3
    assert ids(await claim(storage)) == ["c", "a", "b"]


async def test_a_job_that_is_run_now_goes_to_the_tail_of_its_level_and_group(
    storage: Storage, clock: ManualClock
) -> None:
    flow = Flow(priority=Priority.HIGH)
    await enqueue(storage, new_job("h1", delay_ms=HOUR, flow=flow), "n", *high("h2"))
    await enqueue(storage, new_job("g1", delay_ms=HOUR, flow=Flow(group="g")))
    await reschedule(storage, 0, "h1", "g1")
    await enqueue(storage, "n2")
    assert ids(await claim(storage)) == ["h2", "h1", "n", "g1", "n2"]


async def test_a_repeat_with_a_moment_is_answered_as_the_first(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, new_job("a", delay_ms=HOUR))
    due = clock.now() + MINUTE
    assert await reschedule(storage, due, "a") == [UPDATED]
    before = await stored(storage, "a")
    assert await reschedule(storage, due, "a") == [UPDATED]
    assert await stored(storage, "a") == before


async def test_a_repeat_of_at_once_changes_nothing(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, new_job("a", delay_ms=HOUR))
    await reschedule(storage, 0, "a")
    await enqueue(storage, "b")
    before = await stored(storage, "a")
    await reschedule(storage, 0, "a")
    assert await stored(storage, "a") == before
    assert ids(await claim(storage)) == ["a", "b"]


async def test_a_new_time_keeps_all_else(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, "a")
    claimed = await claim_one(storage)
    await settle(storage, retrying(HOUR, value=b"why"), claimed)
    before = await stored(storage, "a")
    await reschedule(storage, 0, "a")
    after = await stored(storage, "a")
    assert (after.value, after.attempt, after.fence) == (b"why", 1, before.fence)
    assert (await claim_one(storage)).attempt == 2


async def test_a_snoozed_job_gets_another_time(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, "a")
    await run_one(storage, snoozed(HOUR))
    await reschedule(storage, clock.now() + SECOND, "a")
    await clock.advance(SECOND)
    assert ids(await claim(storage)) == ["a"]


async def test_a_new_time_is_told_to_nobody(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, new_job("a", delay_ms=HOUR), new_job("b", delay_ms=HOUR))
    async with listening_to_events(storage) as events:
        await reschedule(storage, 0, "a")
        await reschedule(storage, clock.now() + 1, "b")
        assert await events.all() == []


async def test_a_new_time_is_accepted_by_a_queue_that_takes_nothing_new(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, new_job("a", delay_ms=HOUR))
    await change(storage, draining=1, max_waiting=1)
    assert await reschedule(storage, 0, "a") == [UPDATED]
    assert ids(await claim(storage)) == ["a"]


async def test_a_job_is_rescheduled_in_its_own_queue(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, new_job("a", delay_ms=HOUR), queue="one")
    assert await reschedule(storage, 0, "a", queue="other") == [RescheduleResult.NOT_FOUND]
    assert await claim(storage, queue="one") == []
    assert await reschedule(storage, 0, "a", queue="one") == [UPDATED]


async def test_a_waiting_claim_is_woken_by_a_job_that_is_run_now(
    make_storage: MakeStorage,
) -> None:
    one, other = await make_storage(), await make_storage()
    await enqueue(other, new_job("a", delay_ms=HOUR))
    async with waiting(one) as waiter:
        await reschedule(other, 0, "a")
        assert ids(await waiter.claims()) == ["a"]


async def test_a_waiting_claim_is_woken_at_an_earlier_time(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    await enqueue(other, new_job("a", delay_ms=HOUR))
    due = (await stored(other, "a")).due_ms - HOUR + 400
    async with waiting(one) as waiter:
        await reschedule(other, due, "a")
        assert ids(await waiter.claims()) == ["a"]


# -- the list ------------------------------------------------------------------------------------


async def names_of(
    storage: Storage, limit: int = 100, after: tuple[int, str] | None = None
) -> list[str]:
    return [job.id for job in await storage.delayed(QUEUE, limit, after)]


async def test_delayed_jobs_are_listed_whole(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, "retries", "runs", "queued")
    await run_one(storage, retrying(MINUTE))
    await claim(storage, 1)
    flow = Flow(priority=Priority.LOW, group="g")
    await enqueue(storage, new_job("s", delay_ms=SECOND, spec=b"x" * 300, flow=flow))
    listed = await storage.delayed(QUEUE, 10)
    assert listed == [await stored(storage, "s"), await stored(storage, "retries")]
    assert [job.flow for job in listed] == [flow, None]


async def test_they_are_listed_by_due_time(storage: Storage, clock: ManualClock) -> None:
    jobs = [new_job(f"{n}", delay_ms=SECOND * (7 * n % 10 + 1)) for n in range(10)]
    await enqueue(storage, *jobs)
    assert await names_of(storage) == sorted(
        (f"{n}" for n in range(10)), key=lambda id: 7 * int(id) % 10
    )
    await reschedule(storage, clock.now() + HOUR, "0")
    assert (await names_of(storage))[-1] == "0"
    await reschedule(storage, 0, "0")
    assert "0" not in await names_of(storage)


async def test_those_of_one_moment_are_listed_by_the_bytes_of_their_ids(
    storage: Storage, clock: ManualClock
) -> None:
    names = list(dict.fromkeys([*HOSTILE_NAMES.values(), *LOOKALIKES]))
    await enqueue(storage, *(new_job(name, delay_ms=HOUR) for name in names))
    expected = sorted(names, key=str.encode)
    assert await names_of(storage, 500) == expected
    assert await page(storage, 7) == expected


async def page(storage: Storage, size: int) -> list[str]:
    """All of them, page by page."""
    found: list[StoredJob] = []
    while True:
        after = (found[-1].due_ms, found[-1].id) if found else None
        part = await storage.delayed(QUEUE, size, after)
        if not part:
            return [job.id for job in found]
        assert len(part) <= size
        found += part


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
async def test_pages_miss_none_and_repeat_none(
    storage: Storage, clock: ManualClock, size: int
) -> None:
    jobs = [new_job(f"{n % 3}/{n:02}", delay_ms=SECOND * (n % 4 + 1)) for n in range(20)]
    await enqueue(storage, *jobs)
    expected = sorted(jobs, key=lambda job: (job.delay_ms, job.id.encode()))
    assert await page(storage, size) == [job.id for job in expected]


async def test_a_page_begins_behind_one_that_is_gone(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, *(new_job(id, delay_ms=HOUR) for id in ("a", "b", "c", "d")))
    due = clock.now() + HOUR
    await cancel(storage, "b")
    assert await names_of(storage, 10, (due, "b")) == ["c", "d"]
    assert await names_of(storage, 10, (due, "bb")) == ["c", "d"]
    assert await names_of(storage, 1, (due - 1, "z")) == ["a"]
    assert await names_of(storage, 10, (due, "d")) == []
    assert await names_of(storage, 10, (due + 1, "")) == []


async def test_those_that_are_due_are_listed_until_they_are_promoted(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, new_job("a", delay_ms=SECOND))
    await clock.advance(MINUTE)
    assert await names_of(storage) == ["a"]
    await storage.promote(QUEUE, 10)
    assert await names_of(storage) == []


async def test_an_empty_queue_lists_none_and_another_one_its_own(
    storage: Storage, clock: ManualClock
) -> None:
    assert await storage.delayed(QUEUE, 10) == []
    await enqueue(storage, new_job("a", delay_ms=HOUR), queue="other")
    assert await storage.delayed(QUEUE, 10) == []
    assert [job.id for job in await storage.delayed("other", 10)] == ["a"]
