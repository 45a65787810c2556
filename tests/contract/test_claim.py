"""Taking jobs: fences, attempts, bounds, and waiting for work."""

from __future__ import annotations

import asyncio
import time

import pytest

from jobqueue.states import EventType, JobState
from jobqueue.storage.base import Storage
from jobqueue.storage.types import MAX_BATCH, MAX_CLAIM_BYTES, Claim
from tests.support.backends import Backend, MakeStorage
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
    held,
    ids,
    new_job,
    only,
    recover,
    released,
    retrying,
    run_one,
    settle,
    snoozed,
    stored,
)
from tests.support.listening import listening_to_events
from tests.support.wait import wait_until
from tests.support.waiting import BLOCK, SOON, waiting


async def test_a_claim_gives_the_job_whole(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, new_job("a", name="type", spec=b"what to do", ttl_ms=MINUTE))
    enqueued_ms = clock.now()
    await clock.advance(5)
    claimed = await claim_one(storage, worker="somebody")
    assert claimed == Claim(
        id="a",
        name="type",
        spec=b"what to do",
        fence=claimed.fence,
        attempt=1,
        enqueued_ms=enqueued_ms,
        ttl_ms=MINUTE,
        cancel_requested=False,
        worker="somebody",
    )
    assert claimed.fence > 0


async def test_a_claimed_job_is_running_and_nobody_else_gets_it(
    make_storage: MakeStorage, clock: ManualClock
) -> None:
    one, other = await make_storage(), await make_storage()
    await enqueue(one, "a")
    claimed = await claim_one(one)
    job = await stored(other, "a")
    assert (job.state, job.worker, job.fence) == (JobState.RUNNING, "w1", claimed.fence)
    assert (job.attempt, job.started_ms) == (1, clock.now())
    assert await one.counts(QUEUE) == only(running=1)
    assert await claim(other, worker="w2") == []


async def test_a_claim_takes_as_many_as_asked(storage: Storage) -> None:
    await enqueue(storage, "a", "b", "c")
    assert len(await claim(storage, 2)) == 2
    assert len(await claim(storage, 2)) == 1
    assert len(await claim(storage, 2)) == 0


async def test_an_empty_queue_gives_nothing_at_once(storage: Storage) -> None:
    started = time.monotonic()
    assert await claim(storage) == []
    assert time.monotonic() - started < SOON


async def test_a_claim_takes_a_whole_batch(storage: Storage) -> None:
    await enqueue(storage, *(f"job {n}" for n in range(MAX_BATCH)))
    claims = await claim(storage, MAX_BATCH)
    assert ids(claims) == [f"job {n}" for n in range(MAX_BATCH)]


async def test_many_claimers_get_each_job_once(make_storage: MakeStorage) -> None:
    handles = [await make_storage() for _ in range(4)]
    names = [f"job {n}" for n in range(200)]
    await enqueue(handles[0], *names)

    async def take(n: int) -> list[Claim]:
        taken: list[Claim] = []
        while found := await claim(handles[n % 4], 7, worker=f"w{n}"):
            taken += found
        return taken

    taken = [job for part in await asyncio.gather(*(take(n) for n in range(8))) for job in part]
    assert sorted(ids(taken)) == sorted(names)
    assert len({job.fence for job in taken}) == len(names)


async def test_fences_grow_in_the_order_of_the_claims(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    await enqueue(one, *(f"job {n}" for n in range(30)))
    fences: list[int] = []
    for n in range(10):
        fences += [job.fence for job in await claim(one if n % 2 else other, 3, worker=f"w{n}")]
    assert fences == sorted(set(fences))
    assert len(fences) == 30


async def test_each_claim_of_a_job_has_a_larger_fence(storage: Storage) -> None:
    await enqueue(storage, "a")
    fences = [(await run_one(storage, released())).fence for _ in range(5)]
    assert fences == sorted(set(fences))


async def test_no_fence_comes_again_for_an_id_that_was_forgotten(
    storage: Storage, clock: ManualClock
) -> None:
    fences: list[int] = []
    for _ in range(4):
        await enqueue(storage, "a")
        fences.append((await run_one(storage, completed(ttl_ms=MINUTE))).fence)
        await clock.advance(MINUTE)
        await storage.prune(QUEUE, 100)
        assert await storage.counts(QUEUE) == only()
    assert fences == sorted(set(fences))


async def test_an_attempt_is_charged_by_each_claim(storage: Storage) -> None:
    await enqueue(storage, "a")
    attempts = [(await run_one(storage, retrying(0))).attempt for _ in range(3)]
    assert attempts == [1, 2, 3]
    assert (await stored(storage, "a")).attempt == 3


async def test_a_claim_is_told_for_each_job(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, new_job("a", name="one"), new_job("b", name="two"))
    async with listening_to_events(storage) as events:
        await claim(storage, worker="somebody")
        assert await events.all() == [
            (EventType.STARTED, "a", "one", clock.now(), 1, "somebody"),
            (EventType.STARTED, "b", "two", clock.now(), 1, "somebody"),
        ]


async def test_a_claim_stops_at_its_bytes(storage: Storage) -> None:
    spec = b"x" * (MAX_CLAIM_BYTES // 2)
    for id in ("a", "b", "c"):
        await enqueue(storage, new_job(id, spec=spec))
    assert ids(await claim(storage)) == ["a", "b"]
    assert ids(await claim(storage)) == ["c"]


async def test_a_claim_takes_one_job_of_any_size(storage: Storage) -> None:
    await enqueue(storage, new_job("large", spec=b"x" * (MAX_CLAIM_BYTES + 1)))
    await enqueue(storage, "small")
    (large,) = await claim(storage)
    assert (large.id, len(large.spec)) == ("large", MAX_CLAIM_BYTES + 1)
    assert ids(await claim(storage)) == ["small"]


# -- waiting -------------------------------------------------------------------------------------


async def test_a_claim_waits_as_long_as_told(storage: Storage) -> None:
    started = time.monotonic()
    assert await claim(storage, block_ms=300) == []
    assert 0.25 <= time.monotonic() - started < SOON


async def test_a_claim_does_not_wait_when_there_is_work(storage: Storage) -> None:
    await enqueue(storage, "a")
    started = time.monotonic()
    assert ids(await claim(storage, 100, block_ms=BLOCK)) == ["a"]
    assert time.monotonic() - started < SOON


async def test_a_waiting_claim_is_woken_by_an_enqueue(storage: Storage) -> None:
    async with waiting(storage) as waiter:
        await enqueue(storage, new_job("a", spec=b"what to do"))
        (claimed,) = await waiter.claims()
    assert (claimed.id, claimed.spec, claimed.attempt) == ("a", b"what to do", 1)


async def test_a_waiting_claim_is_woken_by_an_enqueue_elsewhere(
    make_storage: MakeStorage,
) -> None:
    one, other = await make_storage(), await make_storage()
    async with waiting(one) as waiter:
        await enqueue(other, "a")
        assert ids(await waiter.claims()) == ["a"]


async def test_a_waiting_claim_is_woken_by_a_release_elsewhere(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    await enqueue(other, "a")
    claimed = await claim_one(other, worker="w2")
    async with waiting(one) as waiter:
        await settle(other, released(), claimed, worker="w2")
        assert ids(await waiter.claims()) == ["a"]


async def test_a_waiting_claim_is_woken_when_a_job_is_due(storage: Storage) -> None:
    await enqueue(storage, new_job("a", delay_ms=300))
    async with waiting(storage) as waiter:
        assert ids(await waiter.claims()) == ["a"]


async def test_a_waiting_claim_is_woken_when_a_job_enqueued_later_is_due(
    make_storage: MakeStorage,
) -> None:
    one, other = await make_storage(), await make_storage()
    async with waiting(one) as waiter:
        await enqueue(other, new_job("a", delay_ms=200))
        assert ids(await waiter.claims()) == ["a"]


async def test_a_waiting_claim_is_woken_when_a_retry_is_due(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    await enqueue(other, "a", "b")
    a, b = await claim(other, worker="w2")
    async with waiting(one, 1) as waiter:
        await settle(other, retrying(200), a, worker="w2")
        assert ids(await waiter.claims()) == ["a"]
    async with waiting(one, 1) as waiter:
        await settle(other, snoozed(200), b, worker="w2")
        assert ids(await waiter.claims()) == ["b"]


async def test_a_waiting_claim_is_woken_by_promotion(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    await enqueue(other, new_job("a", delay_ms=100))
    async with waiting(one) as waiter:
        await wait_until(lambda: _promoted(other))
        assert ids(await waiter.claims()) == ["a"]


async def _promoted(storage: Storage) -> bool:
    return await storage.promote(QUEUE, 10) is None


async def test_a_waiting_claim_returns_when_it_is_unblocked(storage: Storage) -> None:
    async with waiting(storage) as waiter:

        async def ended() -> bool:
            await storage.unblock(QUEUE, "w1")
            return waiter.ended()

        await wait_until(ended)
        assert await waiter.claims() == []


async def test_unblocking_one_worker_leaves_the_others_waiting(storage: Storage) -> None:
    async with waiting(storage, worker="w1") as one, waiting(storage, worker="w2") as other:

        async def ended() -> bool:
            await storage.unblock(QUEUE, "w1")
            return one.ended()

        await wait_until(ended)
        assert not other.ended()
        await enqueue(storage, "a")
        assert ids(await other.claims()) == ["a"]


async def test_unblocking_in_one_queue_leaves_the_others_waiting(storage: Storage) -> None:
    async with waiting(storage, queue="one") as one, waiting(storage, queue="other") as other:

        async def ended() -> bool:
            await storage.unblock("one", "w1")
            return one.ended()

        await wait_until(ended)
        assert not other.ended()
        await enqueue(storage, "a", queue="other")
        assert ids(await other.claims()) == ["a"]


async def test_unblocking_somebody_who_does_not_wait_is_no_error(storage: Storage) -> None:
    await storage.unblock(QUEUE, "nobody")
    await enqueue(storage, "a")
    assert ids(await claim(storage)) == ["a"]


async def test_a_job_wakes_one_of_several_waiting_claims(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    async with waiting(one, worker="w1") as first, waiting(other, worker="w2") as second:
        await enqueue(one, "a")
        await wait_until(lambda: first.ended() or second.ended())
        assert (first.ended(), second.ended()) != (True, True)
        await enqueue(other, "b")
        claims = await first.claims() + await second.claims()
    assert sorted(ids(claims)) == ["a", "b"]


async def test_several_jobs_wake_several_waiting_claims(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    async with waiting(one, worker="w1") as first, waiting(other, worker="w2") as second:
        await enqueue(one, "a", "b")
        claims = await first.claims() + await second.claims()
    assert sorted(ids(claims)) == ["a", "b"]


async def test_waiting_on_one_queue_does_not_delay_another(storage: Storage) -> None:
    async with waiting(storage, queue="idle") as idle:
        started = time.monotonic()
        await enqueue(storage, "a", queue="busy")
        await run_one(storage, completed(), queue="busy")
        async with waiting(storage, queue="busy") as busy:
            await enqueue(storage, "b", queue="busy")
            assert ids(await busy.claims()) == ["b"]
        assert time.monotonic() - started < SOON
        assert not idle.ended()


async def test_many_idle_queues_do_not_delay_one_another(storage: Storage) -> None:
    async with asyncio.TaskGroup() as group:
        waiters = {
            f"queue {n}": group.create_task(claim(storage, block_ms=BLOCK, queue=f"queue {n}"))
            for n in range(12)
        }
        await asyncio.sleep(0.05)
        started = time.monotonic()
        for queue in reversed(waiters):
            await enqueue(storage, f"of {queue}", queue=queue)
            assert ids(await waiters[queue]) == [f"of {queue}"]
        assert time.monotonic() - started < SOON


async def test_a_job_cancelled_before_the_claim_wakes_nobody_for_nothing(
    storage: Storage,
) -> None:
    await enqueue(storage, "a")
    await cancel(storage, "a")
    async with waiting(storage) as waiter:
        await enqueue(storage, "b")
        assert ids(await waiter.claims()) == ["b"]


async def test_a_repeated_claim_does_not_wait(storage: Storage) -> None:
    await enqueue(storage, "a")
    first = await claim(storage, token="t", block_ms=BLOCK)
    assert ids(first) == ["a"]
    started = time.monotonic()
    assert await claim(storage, token="t", block_ms=BLOCK) == first
    assert time.monotonic() - started < SOON


async def test_a_job_behind_many_cancelled_ones_is_claimed_at_once(storage: Storage) -> None:
    for part in range(5):
        names = [f"{part}/{n}" for n in range(500)]
        await enqueue(storage, *names)
        await cancel(storage, *names)
    await enqueue(storage, "a")
    assert ids(await claim(storage, 1)) == ["a"]
    assert await claim(storage) == []


@pytest.mark.storages("redis")
async def test_a_claim_may_wait_longer_than_a_command_may_take(backend: Backend) -> None:
    backend.url += "?socket_timeout=0.5"
    async with backend.handle() as storage:
        started = time.monotonic()
        assert await claim(storage, block_ms=1_200) == []
        assert time.monotonic() - started >= 1.1


async def test_a_claim_keeps_its_lease_in_the_time_of_the_storage(
    storage: Storage, clock: ManualClock
) -> None:
    await enqueue(storage, "a")
    claimed = await claim_one(storage, lease_ms=MINUTE)
    await clock.advance(MINUTE - 1)
    assert await recover(storage, 10, lease_ms=HOUR) == []
    await clock.advance(1)
    assert ids(await recover(storage, 10, lease_ms=HOUR)) == ["a"]
    answer = await storage.heartbeat(QUEUE, "w1", held(claimed), HOUR)
    assert answer.lost == ["a"]
