"""What was handed to a worker and not yet leased: no job may be lost between the two steps.

Only a storage with such a step can be brought there: on Redis, BLMOVE fills a worker's inbox, and
the claim behind it leases. Here the test plays the worker that died in between.
"""

from __future__ import annotations

import pytest

from jobqueue.states import JobState
from jobqueue.storage.base import Storage
from tests.support.backends import RedisBackend
from tests.support.clock import ManualClock
from tests.support.jobs import (
    HOUR,
    MINUTE,
    QUEUE,
    cancel,
    claim,
    enqueue,
    ids,
    new_job,
    only,
    recover,
    stored,
)

pytestmark = pytest.mark.storages("redis")


def hand_over(backend: RedisBackend, worker: str, count: int = 1) -> None:
    """As BLMOVE does for a claim of this worker, and no more."""
    for _ in range(count):
        moved = backend.admin.lmove(f"jq:{{{QUEUE}}}:ready", f"jq:{{{QUEUE}}}:inbox:{worker}")
        assert moved is not None


@pytest.mark.leaves_keys(":inbox:", reason="the worker is dead, and nobody has recovered yet")
async def test_it_is_still_queued(storage: Storage, backend: RedisBackend) -> None:
    await enqueue(storage, "a")
    hand_over(backend, "w1")
    assert (await stored(storage, "a")).state is JobState.QUEUED
    assert await storage.counts(QUEUE) == only(queued=1)


async def test_the_next_claim_of_the_worker_takes_it_first(
    storage: Storage, backend: RedisBackend
) -> None:
    await enqueue(storage, "a", "b", "c")
    hand_over(backend, "w1", 2)
    assert ids(await claim(storage, worker="w1")) == ["a", "b", "c"]
    assert await claim(storage, worker="w1") == []


async def test_it_goes_back_to_the_head_when_the_worker_leaves(
    storage: Storage, backend: RedisBackend
) -> None:
    await enqueue(storage, "a", "b", "c")
    hand_over(backend, "w1", 2)
    await storage.leave(QUEUE, "w1")
    assert ids(await claim(storage, worker="w2")) == ["a", "b", "c"]


async def test_it_is_given_back_when_the_worker_is_dead(
    storage: Storage, backend: RedisBackend, clock: ManualClock
) -> None:
    assert await claim(storage, worker="w1", lease_ms=MINUTE) == []
    await enqueue(storage, "a", "b")
    hand_over(backend, "w1")
    await clock.advance(MINUTE - 1)
    assert await recover(storage, 10) == []
    assert ids(await claim(storage, 1, worker="w2")) == ["b"]
    await clock.advance(1)
    assert await recover(storage, 10) == []
    assert ids(await claim(storage, worker="w2")) == ["a"]


async def test_a_heartbeat_with_nothing_held_is_a_sign_of_life(
    storage: Storage, backend: RedisBackend, clock: ManualClock
) -> None:
    await enqueue(storage, "a")
    await storage.heartbeat(QUEUE, "w1", [], HOUR)
    hand_over(backend, "w1")
    await clock.advance(MINUTE)
    await recover(storage, 10)
    assert await claim(storage, worker="w2") == []
    await clock.advance(HOUR)
    await recover(storage, 10)
    assert ids(await claim(storage, worker="w2")) == ["a"]


async def test_it_is_not_run_when_it_was_cancelled(storage: Storage, backend: RedisBackend) -> None:
    await enqueue(storage, "a")
    hand_over(backend, "w1")
    await cancel(storage, "a")
    assert await claim(storage, worker="w1") == []


async def test_it_runs_once_when_it_was_cancelled_and_stored_anew(
    storage: Storage, backend: RedisBackend
) -> None:
    await enqueue(storage, new_job("a", spec=b"old"))
    hand_over(backend, "w1")
    await cancel(storage, "a")
    await enqueue(storage, new_job("a", spec=b"new"))
    claims = await claim(storage, worker="w1") + await claim(storage, worker="w2")
    assert [(job.id, job.spec) for job in claims] == [("a", b"new")]
