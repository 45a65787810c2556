"""Taking over the jobs of workers that gave no sign of life."""

from __future__ import annotations

import asyncio

from jobqueue.states import EventType, JobState
from jobqueue.storage.base import Storage
from jobqueue.storage.types import Claim
from tests.support.backends import MakeStorage
from tests.support.clock import ManualClock
from tests.support.jobs import (
    HOUR,
    MINUTE,
    QUEUE,
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
    result,
    retrying,
    run_one,
    settle,
    stored,
)
from tests.support.listening import listening_to_events


async def test_there_is_nothing_to_recover_in_an_empty_queue(storage: Storage) -> None:
    assert await recover(storage) == []


async def test_only_leases_that_ran_out_are_taken_over(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, "short", "long", "waits", new_job("later", delay_ms=HOUR))
    await claim(storage, 1, lease_ms=MINUTE)
    await claim(storage, 1, lease_ms=HOUR)
    await clock.advance(MINUTE - 1)
    assert await recover(storage) == []
    await clock.advance(1)
    assert ids(await recover(storage)) == ["short"]
    assert await recover(storage) == []


async def test_what_is_taken_over_keeps_running_for_the_reaper(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, new_job("a", name="type", spec=b"what to do", ttl_ms=MINUTE))
    enqueued_ms = clock.now()
    old = await claim_one(storage, worker="lost one", lease_ms=MINUTE)
    await clock.advance(MINUTE)

    (taken,) = await recover(storage, reaper="reaper")
    assert taken == Claim(
        id="a",
        name="type",
        spec=b"what to do",
        fence=taken.fence,
        attempt=1,
        enqueued_ms=enqueued_ms,
        ttl_ms=MINUTE,
        cancel_requested=False,
        worker="lost one",
    )
    assert taken.fence > old.fence
    job = await stored(storage, "a")
    assert (job.state, job.worker, job.fence) == (JobState.RUNNING, "reaper", taken.fence)
    assert job.attempt == 1
    assert await storage.counts(QUEUE) == only(running=1)
    assert await claim(storage) == []


async def test_the_reaper_settles_what_it_took_over(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, "back", "given up")
    await claim(storage, lease_ms=MINUTE)
    await clock.advance(MINUTE)
    back, given_up = await recover(storage)
    assert await settle(storage, requeued(), back, worker="reaper") == [True]
    assert await settle(storage, failed(b"worker lost"), given_up, worker="reaper") == [True]
    assert await result(storage, "given up") == (JobState.FAILED, b"worker lost")
    again = await claim_one(storage, worker="w2")
    assert (again.id, again.attempt) == ("back", 2)
    assert again.fence > back.fence


async def test_the_old_owner_cannot_settle_what_was_taken_over(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, "a")
    old = await claim_one(storage, lease_ms=MINUTE)
    await clock.advance(MINUTE)
    (taken,) = await recover(storage)
    for outcome in (completed(b"stale"), failed(), retrying(0), released()):
        assert await settle(storage, outcome, old) == [False]
    assert (await stored(storage, "a")).state is JobState.RUNNING
    assert await settle(storage, completed(b"good"), taken, worker="reaper") == [True]
    assert await settle(storage, completed(b"stale"), old) == [False]
    assert await result(storage, "a") == (JobState.COMPLETED, b"good")


async def test_the_lease_of_the_reaper_runs_out_too(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, "a")
    await claim_one(storage, lease_ms=MINUTE)
    await clock.advance(MINUTE)
    (first,) = await recover(storage, reaper="r1", lease_ms=MINUTE)
    await clock.advance(MINUTE - 1)
    assert await recover(storage, reaper="r2") == []
    await clock.advance(1)
    (second,) = await recover(storage, reaper="r2")
    assert (second.worker, second.attempt) == ("r1", 1)
    assert second.fence > first.fence
    assert await settle(storage, requeued(), first, worker="r1") == [False]


async def test_recover_takes_no_more_than_its_limit(storage: Storage, clock: ManualClock) -> None:
    names = [f"job {n}" for n in range(5)]
    await enqueue(storage, *names)
    await claim(storage, lease_ms=MINUTE)
    await clock.advance(MINUTE)
    parts = [ids(await recover(storage, 2)) for _ in range(4)]
    assert [len(part) for part in parts] == [2, 2, 1, 0]
    assert sorted(id for part in parts for id in part) == names


async def test_concurrent_reapers_take_each_job_once(
    make_storage: MakeStorage, clock: ManualClock
) -> None:
    handles = [await make_storage() for _ in range(4)]
    names = [f"job {n:02}" for n in range(40)]
    await enqueue(handles[0], *names)
    await claim(handles[0], lease_ms=MINUTE)
    await clock.advance(MINUTE)
    parts = await asyncio.gather(
        *(recover(handles[n % 4], 7, reaper=f"reaper {n}") for n in range(10))
    )
    taken = [job for part in parts for job in part]
    assert sorted(ids(taken)) == names
    assert len({job.fence for job in taken}) == len(names)


async def test_a_request_to_stop_is_passed_on(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, "stop", "go on")
    await claim(storage, lease_ms=MINUTE)
    await cancel(storage, "stop", value=b"stopped")
    await clock.advance(MINUTE)
    taken = {job.id: job for job in await recover(storage)}
    assert taken["stop"].cancel_requested
    assert not taken["go on"].cancel_requested

    await settle(storage, requeued(), *taken.values(), worker="reaper")
    assert await result(storage, "stop") == (JobState.CANCELLED, b"stopped")
    assert await result(storage, "go on") == (JobState.QUEUED, None)


async def test_each_takeover_is_told(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, new_job("a", name="job type"))
    await claim_one(storage, worker="lost one", lease_ms=MINUTE)
    await clock.advance(MINUTE)
    async with listening_to_events(storage) as events:
        await recover(storage)
        (event,) = await events.all()
    assert (event.type, event.id, event.name) == (EventType.STALLED, "a", "job type")
    assert (event.at_ms, event.attempt) == (clock.now(), 1)
    assert event.worker == "lost one"


async def test_a_heartbeat_of_the_reaper_keeps_what_it_took_over(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, "a")
    await claim_one(storage, lease_ms=MINUTE)
    await clock.advance(MINUTE)
    (taken,) = await recover(storage, lease_ms=MINUTE)
    assert await storage.heartbeat(QUEUE, "reaper", held(taken), HOUR) == ([], [])
    await clock.advance(MINUTE)
    assert await recover(storage) == []


async def test_a_job_that_kills_its_workers_is_charged_each_time(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, "a")
    for attempt in (1, 2, 3):
        assert (await claim_one(storage, lease_ms=MINUTE)).attempt == attempt
        await clock.advance(MINUTE)
        (taken,) = await recover(storage)
        assert taken.attempt == attempt
        await settle(storage, requeued(), taken, worker="reaper")


async def test_jobs_of_a_lost_worker_can_be_claimed_by_it_again(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, "a")
    await claim_one(storage, lease_ms=MINUTE)
    await clock.advance(HOUR)
    await settle(storage, requeued(), *await recover(storage), worker="reaper")
    await run_one(storage, completed(b"at last"))
    assert await result(storage, "a") == (JobState.COMPLETED, b"at last")


async def test_a_claim_alone_does_not_take_over(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, "a")
    await claim_one(storage, lease_ms=MINUTE)
    await clock.advance(HOUR)
    assert await claim(storage, worker="w2") == []
    assert (await stored(storage, "a")).worker == "w1"
