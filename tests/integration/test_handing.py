"""When a server hands a lone job to an idle worker, and when it lets the job wait for a claim."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import pytest

from jobqueue.errors import StorageUnavailable
from jobqueue.flow import Flow, Limit, LimitKind, LimitScope, Refusal
from jobqueue.states import EnqueueStatus, JobState
from jobqueue.storage.base import Storage
from jobqueue.storage.redis import pubsub
from jobqueue.storage.types import INLINE_BYTES, Claim, Enqueued, NewJob, Offer
from tests.integration.idle import ACCEPTED, COUNTS, Workers
from tests.support.backends import MakeStorage, RedisBackend
from tests.support.clock import START_MS, ManualClock
from tests.support.flows import alone, expiring, grouped, high, keyed, low, unique
from tests.support.jobs import (
    HOUR,
    LEASE,
    QUEUE,
    SECOND,
    WORKER,
    cancel,
    claim,
    claim_one,
    completed,
    enqueue,
    failed,
    ids,
    new_job,
    only,
    recover,
    run_one,
    settle,
)
from tests.support.names import HOSTILE_NAMES, LOOKALIKES
from tests.support.offers import OFFER, idle_worker, make_offer, settle_offering

pytestmark = pytest.mark.storages("redis")

ALL = LimitScope(LimitKind.QUEUE)


# -- it is handed over ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "job",
    [
        new_job(request=""),
        new_job("chosen"),
        new_job(reply_to="here"),
        new_job(ttl_ms=HOUR),
        new_job("all", name="x" * 255, ttl_ms=1, reply_to="here"),
        *(new_job(spec=b"x" * size) for size in (0, 1, 64, 65, 128, 129, 192, 256, 257, 300)),
        new_job(spec=b"x" * INLINE_BYTES),
        new_job(spec=bytes(range(256))),
    ],
    ids=lambda job: f"{job.id[:6]}-{len(job.spec)}",
)
async def test_a_lone_plain_job_is_handed_over(
    storage: Storage, backend: RedisBackend, workers: Workers, job: NewJob
) -> None:
    await workers.offer()
    got = await workers.hand(job)
    assert await storage.counts(QUEUE) == only(running=1, completed=1)
    assert backend.admin.llen(f"jq:{{{QUEUE}}}:ready") == 0
    assert await workers.claim() == []
    (answer,) = await enqueue(storage, job)
    assert answer == ACCEPTED._replace(state=JobState.RUNNING)
    await workers.nothing_handed()
    assert await settle(storage, completed(), got) == [True]
    assert await storage.withdraw(QUEUE, WORKER) is None


async def test_the_server_keeps_it_under_the_lease_of_the_offer(
    storage: Storage, backend: RedisBackend, clock: ManualClock, workers: Workers
) -> None:
    await workers.offer(offer=Offer(5 * SECOND, 7 * SECOND))
    got = await workers.hand("a")
    leases = backend.admin.zrange(f"jq:{{{QUEUE}}}:leases", 0, -1, withscores=True)
    assert leases == [(b"a", START_MS + 7 * SECOND)]
    # Nobody heard of it: it is lost to its worker when the lease is over, and not before.
    await clock.advance(7 * SECOND - 1)
    assert await recover(storage) == []
    await clock.advance(1)
    (taken,) = await recover(storage)
    assert (taken.id, taken.attempt, taken.worker) == ("a", 1, WORKER)
    assert taken.fence > got.fence
    assert await storage.withdraw(QUEUE, WORKER) is None
    assert await settle(storage, completed(b"stale"), got) == [False]
    assert await settle(storage, completed(), taken, worker="reaper") == [True]


async def test_an_offer_is_taken_up_once(storage: Storage, workers: Workers) -> None:
    await workers.offer()
    got = await workers.hand("a")
    assert ids(await workers.let_wait("b")) == ["b"]
    # Nor does it come back when what was handed over has ended, without another offer.
    assert await settle(storage, completed(), got) == [True]
    assert ids(await workers.let_wait("c")) == ["c"]


async def test_each_finish_may_offer_again(storage: Storage, workers: Workers) -> None:
    await workers.offer()
    for n in range(5):
        got = await workers.hand(f"{n}")
        assert await settle_offering(storage, got) == [True]


async def test_a_repeat_of_a_finish_offers_nothing(storage: Storage, workers: Workers) -> None:
    await workers.offer()
    got = await workers.hand("a")
    assert await settle_offering(storage, got) == [True]
    await workers.hand("b")
    assert await settle_offering(storage, got) == [True]
    assert ids(await workers.let_wait("c")) == ["c"]


async def test_the_later_of_two_offers_counts(storage: Storage, workers: Workers) -> None:
    for worker in ("w1", "w2"):
        await workers.listen(worker)
    await enqueue(storage, "x", "y")
    (x,) = await claim(storage, 1, worker="w1")
    (y,) = await claim(storage, 1, worker="w2")
    workers.last_fence = y.fence
    await settle_offering(storage, x, worker="w1")
    await settle_offering(storage, y, worker="w2")
    # An end of an offer that counts no more ends no other.
    await storage.withdraw(QUEUE, "w1")
    await workers.hand("a", "w2")
    assert ids(await workers.let_wait("b")) == ["b"]


async def test_the_same_enqueue_again_hands_nothing_over(
    storage: Storage, workers: Workers
) -> None:
    await workers.offer()
    job = new_job("a", request="token")
    got = await workers.hand(job)
    await settle_offering(storage, got)
    assert await enqueue(storage, job) == [ACCEPTED._replace(state=JobState.COMPLETED)]
    await workers.nothing_handed()
    await workers.hand("b")  # as nobody took up the offer


async def test_pointers_that_are_left_are_no_obstacle_to_an_id_made_for_it(
    storage: Storage, workers: Workers
) -> None:
    await workers.offer()
    await enqueue(storage, "a", "b")
    await cancel(storage, "a", "b")
    await workers.hand(new_job(request=""))
    assert await workers.claim() == []


async def test_a_worker_of_any_name_is_handed_a_job(storage: Storage) -> None:
    for name in dict.fromkeys([*HOSTILE_NAMES.values(), *LOOKALIKES, "1 2 3 w", " 1"]):
        async with idle_worker(storage, worker=name) as inbox:
            await enqueue(storage, new_job(name, name=name))
            (got,) = await inbox.wait_for(1)
            assert isinstance(got, Claim)
            assert (got.id, got.name, got.worker) == (name, name, name)
            assert await storage.withdraw(QUEUE, name) == got
            assert await settle(storage, completed(), got, worker=name) == [True]


# -- it waits ------------------------------------------------------------------------------------


async def test_two_in_one_call_wait(workers: Workers) -> None:
    await workers.offer()
    assert ids(await workers.let_wait("a", "b")) == ["a", "b"]


async def test_a_job_that_is_due_later_waits(
    storage: Storage, clock: ManualClock, workers: Workers
) -> None:
    await workers.offer(offer=Offer(HOUR, LEASE))
    assert await workers.let_wait(new_job("a", delay_ms=SECOND)) == []
    assert await workers.let_wait(new_job("b", due_ms=START_MS + SECOND)) == []
    await clock.advance(SECOND)
    # Due, and waiting for a claim that sees it: what comes now is before them, as ever.
    await workers.hand("c")
    assert sorted(ids(await workers.claim())) == ["a", "b"]


async def test_a_job_that_was_due_before_is_claimed(clock: ManualClock, workers: Workers) -> None:
    await workers.offer()
    assert ids(await workers.let_wait(new_job("a", due_ms=START_MS - SECOND))) == ["a"]


@pytest.mark.parametrize(
    "job",
    [
        *high("high"),
        *low("low"),
        *grouped("g", "grouped"),
        *keyed("k", "keyed"),
        *alone("x", "alone"),
        expiring("expiring", HOUR),
        unique("unique"),
        new_job("plain", flow=Flow()),
    ],
    ids=lambda job: job.id,
)
async def test_a_job_that_says_when_it_may_start_waits(
    storage: Storage, workers: Workers, job: NewJob
) -> None:
    await workers.offer()
    (got,) = await workers.let_wait(job)
    assert got.id == job.id
    assert await settle(storage, completed(), got, worker="w9") == [True]


async def pause(storage: Storage) -> None:
    await storage.control(QUEUE, {"paused": 1})


async def bound(storage: Storage) -> None:
    await storage.control(QUEUE, {"max_waiting": 1})


async def limit(storage: Storage) -> None:
    await storage.set_limit(QUEUE, ALL, Limit(concurrency=1))


async def enqueue_with_flow(storage: Storage) -> None:
    await enqueue(storage, *high("first"))


Change: TypeAlias = Callable[[Storage], Awaitable[None]]


@pytest.mark.parametrize("is_before", [True, False], ids=["before the offer", "after it"])
@pytest.mark.parametrize("change", [pause, bound, limit, enqueue_with_flow])
async def test_a_job_of_a_queue_that_uses_time_and_flow_waits(
    storage: Storage, workers: Workers, change: Change, is_before: bool
) -> None:
    if is_before:
        await workers.listen()
        await enqueue(storage, "x")
        ran = await claim_one(storage)
        workers.last_fence = ran.fence
        await change(storage)
        await settle_offering(storage, ran)
    else:
        await workers.offer()
        await change(storage)
    got = ids(await workers.let_wait("a"))
    expected = {pause: [], enqueue_with_flow: ["first", "a"]}
    assert got == expected.get(change, ["a"])
    await storage.control(QUEUE, {"paused": 0, "max_waiting": 0})
    await storage.set_limit(QUEUE, ALL, None)
    await workers.claim()


async def test_a_queue_that_drains_takes_nothing(storage: Storage, workers: Workers) -> None:
    await workers.offer()
    await storage.control(QUEUE, {"draining": 1})
    (answer,) = await enqueue(storage, "a")
    assert answer.status is Refusal.DRAINING
    await workers.nothing_handed()
    assert await storage.get(QUEUE, ["a"]) == [None]
    await storage.control(QUEUE, {"draining": 0})
    await storage.promote(QUEUE, 1)  # which finds that nothing of time and flow is in use
    await workers.hand("a")


async def test_who_came_first_goes_first(storage: Storage, workers: Workers) -> None:
    await workers.offer()
    await enqueue(storage, "a", "b")
    assert ids(await workers.let_wait("c")) == ["a", "b", "c"]


async def test_what_was_moved_to_an_inbox_still_waits(
    storage: Storage, backend: RedisBackend, workers: Workers
) -> None:
    await workers.offer()
    await enqueue(storage, "a", "b")
    for _ in range(2):
        backend.admin.lmove(f"jq:{{{QUEUE}}}:ready", f"jq:{{{QUEUE}}}:inbox:w9")
    assert ids(await workers.let_wait("c")) == ["a", "b", "c"]


async def test_a_large_job_waits(workers: Workers) -> None:
    await workers.offer()
    spec = b"x" * (INLINE_BYTES + 1)
    (got,) = await workers.let_wait(new_job("a", spec=spec))
    assert got.spec == spec


async def test_an_offer_ends(clock: ManualClock, workers: Workers) -> None:
    await workers.offer()
    await clock.advance(OFFER.for_ms - 1)
    await workers.hand("a")
    await workers.offer()
    await clock.advance(OFFER.for_ms)
    assert ids(await workers.let_wait("b")) == ["b"]


@pytest.mark.parametrize("worker", [WORKER, "w2"])
async def test_an_offer_ends_with_a_claim_that_brings_something(
    storage: Storage, workers: Workers, worker: str
) -> None:
    await workers.offer()
    assert await workers.claim(worker) == []
    await workers.hand("a")
    await workers.offer()
    await enqueue(storage, "b", "c")
    assert ids(await claim(storage, 2, worker=worker)) == ["b", "c"]
    assert ids(await workers.let_wait("d")) == ["d"]


async def test_an_offer_ends_with_a_recovery(
    storage: Storage, clock: ManualClock, workers: Workers
) -> None:
    await enqueue(storage, "a")
    await claim_one(storage, worker="w9")
    await workers.offer(offer=Offer(HOUR, LEASE))
    await storage.heartbeat(QUEUE, WORKER, [], HOUR)
    await clock.advance(LEASE)
    assert ids(await recover(storage)) == ["a"]
    assert ids(await workers.let_wait("b")) == ["b"]


async def test_an_offer_ends_when_its_worker_is_dead(
    storage: Storage, clock: ManualClock, workers: Workers
) -> None:
    await workers.offer(offer=Offer(HOUR, LEASE))
    await clock.advance(LEASE)
    assert await recover(storage) == []
    assert ids(await workers.let_wait("a")) == ["a"]


async def test_a_worker_that_is_not_connected_is_handed_nothing(
    storage: Storage,
    backend: RedisBackend,
    workers: Workers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pubsub, "_RECONNECT_AFTER", (60,))
    await workers.offer()
    assert backend.admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub") == 1
    # Who hears all channels is not the worker.
    with backend.admin.pubsub() as monitor:
        monitor.psubscribe("*")
        assert monitor.get_message(timeout=10) is not None
        assert await enqueue(storage, "a") == [ACCEPTED]
    assert await storage.counts(QUEUE) == only(queued=1, completed=1)
    assert await storage.withdraw(QUEUE, WORKER) is None
    (got,) = await claim(storage)
    assert (got.id, got.attempt) == ("a", 1)


async def test_a_worker_that_does_not_listen_is_handed_nothing(
    make_storage: MakeStorage, storage: Storage, workers: Workers
) -> None:
    await workers.listen("w1 ")  # whose name is not that of the one that offers
    await make_offer(await make_storage())
    assert ids(await workers.let_wait("a")) == ["a"]


@pytest.mark.parametrize("state", ["running", "completed", "failed"])
async def test_an_id_that_is_there_is_answered_for(
    storage: Storage, workers: Workers, state: str
) -> None:
    await enqueue(storage, "a")
    if state == "running":
        expected = Enqueued(EnqueueStatus.DUPLICATE, JobState.RUNNING, None)
        await claim_one(storage)
    elif state == "completed":
        expected = Enqueued(EnqueueStatus.COMPLETED, JobState.COMPLETED, b"result")
        await run_one(storage, completed())
    else:
        expected = Enqueued(EnqueueStatus.DUPLICATE, JobState.FAILED, b"error")
        await run_one(storage, failed())
    await workers.offer()
    assert await enqueue(storage, "a") == [expected]
    await workers.nothing_handed()
    await workers.hand("b")  # the offer stands


@pytest.mark.parametrize("is_forgotten", [False, True], ids=["kept", "forgotten"])
async def test_an_id_that_was_cancelled_runs_once_and_in_its_turn(
    storage: Storage, clock: ManualClock, workers: Workers, is_forgotten: bool
) -> None:
    await workers.offer()
    await enqueue(storage, "a", "b")
    await cancel(storage, "a", "b", ttl_ms=SECOND)
    if is_forgotten:
        await clock.advance(SECOND)
        assert await storage.get(QUEUE, ["a"]) == [None]
    (got,) = await workers.let_wait(new_job("a", spec=b"new"))
    assert (got.id, got.spec, got.attempt) == ("a", b"new", 1)
    assert await settle(storage, completed(), got, worker="w9") == [True]
    assert await workers.claim() == []


async def test_a_server_without_memory_stores_and_tells_nothing(
    storage: Storage, backend: RedisBackend, workers: Workers
) -> None:
    await workers.offer()
    job = new_job("a", request="token")
    before = backend.admin.hgetall(COUNTS)
    keys = set(backend.admin.keys("*"))
    backend.admin.config_set("maxmemory", 1)
    try:
        with pytest.raises(StorageUnavailable, match="memory"):
            await enqueue(storage, job)
        await workers.nothing_handed()
        assert await storage.withdraw(QUEUE, "w2") is None
    finally:
        backend.admin.config_set("maxmemory", 0)
    assert backend.admin.hgetall(COUNTS) == before
    assert set(backend.admin.keys("*")) == keys
    got = await workers.hand(job)
    backend.admin.config_set("maxmemory", 1)
    try:
        assert await storage.withdraw(QUEUE, WORKER) == got
        assert await settle_offering(storage, got) == [True]
    finally:
        backend.admin.config_set("maxmemory", 0)
    await workers.hand("b")
