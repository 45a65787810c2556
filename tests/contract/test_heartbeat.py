"""Keeping leases, and learning what was lost or is to stop."""

from __future__ import annotations

from jobqueue.states import JobState
from jobqueue.storage.base import Storage
from jobqueue.storage.types import Held
from tests.support.clock import ManualClock
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
    held,
    ids,
    recover,
    settle,
    stored,
)

NOTHING = ([], [])


async def recovered(storage: Storage) -> list[str]:
    return ids(await recover(storage, lease_ms=HOUR))


async def test_a_heartbeat_extends_the_lease_from_now(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, "a")
    claimed = await claim_one(storage, lease_ms=MINUTE)
    await clock.advance(50 * SECOND)
    assert await storage.heartbeat(QUEUE, "w1", held(claimed), MINUTE) == NOTHING
    await clock.advance(MINUTE - 1)
    assert await recovered(storage) == []
    await clock.advance(1)
    assert await recovered(storage) == ["a"]


async def test_a_heartbeat_extends_only_what_it_names(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, "a", "b")
    _, b = await claim(storage, lease_ms=MINUTE)
    await storage.heartbeat(QUEUE, "w1", held(b), HOUR)
    await clock.advance(MINUTE)
    assert await recovered(storage) == ["a"]


async def test_a_heartbeat_never_shortens_a_lease(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, "a")
    claimed = await claim_one(storage, lease_ms=HOUR)
    assert await storage.heartbeat(QUEUE, "w1", held(claimed), SECOND) == NOTHING
    await clock.advance(HOUR - 1)
    assert await recovered(storage) == []
    await clock.advance(1)
    assert await recovered(storage) == ["a"]


async def test_a_heartbeat_names_what_is_lost(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, "taken over", "ended", "held")
    taken, ended, kept = await claim(storage, lease_ms=MINUTE)
    await storage.heartbeat(QUEUE, "w1", held(kept), HOUR)
    await settle(storage, completed(), ended)
    await clock.advance(MINUTE)
    assert await recovered(storage) == ["taken over"]

    leases = [*held(taken, kept, ended), Held("unknown", 1), Held(kept.id, kept.fence + 100)]
    answer = await storage.heartbeat(QUEUE, "w1", leases, LEASE)
    assert sorted(answer.lost) == sorted(["taken over", "ended", "unknown", "held"])
    assert answer.cancel_requested == []


async def test_a_heartbeat_does_not_take_back_what_was_lost(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, "a")
    old = await claim_one(storage, lease_ms=MINUTE)
    await clock.advance(MINUTE)
    (taken,) = await recover(storage, 10, lease_ms=MINUTE)
    assert (await storage.heartbeat(QUEUE, "w1", held(old), HOUR)).lost == ["a"]

    job = await stored(storage, "a")
    assert (job.fence, job.worker) == (taken.fence, "reaper")
    await clock.advance(MINUTE)
    assert await recovered(storage) == ["a"], "the stale heartbeat extended the reaper's lease"


async def test_a_heartbeat_does_not_make_a_job_run_again(storage: Storage) -> None:
    await enqueue(storage, "a")
    claimed = await claim_one(storage)
    await settle(storage, completed(), claimed)
    await storage.heartbeat(QUEUE, "w1", held(claimed), LEASE)
    assert (await stored(storage, "a")).state is JobState.COMPLETED


async def test_a_heartbeat_names_what_is_to_stop_each_time(storage: Storage) -> None:
    await enqueue(storage, "a", "b")
    claims = await claim(storage)
    assert await storage.heartbeat(QUEUE, "w1", held(*claims), LEASE) == NOTHING
    await cancel(storage, "b")
    for _ in range(3):
        assert await storage.heartbeat(QUEUE, "w1", held(*claims), LEASE) == ([], ["b"])


async def test_what_is_to_stop_is_still_extended(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, "a")
    claimed = await claim_one(storage, lease_ms=MINUTE)
    await cancel(storage, "a")
    await storage.heartbeat(QUEUE, "w1", held(claimed), HOUR)
    await clock.advance(MINUTE)
    assert await recovered(storage) == []


async def test_a_lost_job_is_not_named_as_one_to_stop(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, "a")
    old = await claim_one(storage, lease_ms=MINUTE)
    await cancel(storage, "a")
    await clock.advance(MINUTE)
    assert await recovered(storage) == ["a"]
    assert await storage.heartbeat(QUEUE, "w1", held(old), LEASE) == (["a"], [])


async def test_a_heartbeat_with_nothing_held_is_answered_empty(storage: Storage) -> None:
    assert await storage.heartbeat(QUEUE, "w1", [], LEASE) == NOTHING


async def test_a_late_heartbeat_keeps_what_nobody_took_over(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, "a")
    claimed = await claim_one(storage, lease_ms=MINUTE)
    await clock.advance(2 * MINUTE)
    assert await storage.heartbeat(QUEUE, "w1", held(claimed), MINUTE) == NOTHING
    assert await recovered(storage) == []
