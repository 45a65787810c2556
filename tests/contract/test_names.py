"""Names are opaque: whatever is in them, they are kept apart and come back as they were."""

from __future__ import annotations

import pytest

from jobqueue.states import CancelResult, EnqueueStatus, JobState, TtlResult
from jobqueue.storage.base import Storage
from jobqueue.storage.types import CONTROL, EVENTS, CancelRequested, Reply, replies
from tests.support.jobs import (
    HOUR,
    LEASE,
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
    run_one,
    settle,
    stored,
)
from tests.support.listening import listening
from tests.support.names import HOSTILE_NAMES, LOOKALIKES

every_name = pytest.mark.parametrize("name", HOSTILE_NAMES.values(), ids=HOSTILE_NAMES)


@every_name
async def test_a_name_serves_as_everything(storage: Storage, name: str) -> None:
    async with (
        listening(storage, EVENTS, name) as events,
        listening(storage, CONTROL, name) as control,
        listening(storage, replies("here"), name) as answers,
    ):
        job = new_job(name, name=name, request="token", reply_to="here")
        assert (await enqueue(storage, job, queue=name))[0].status is EnqueueStatus.QUEUED
        assert (await enqueue(storage, job, queue=name))[0].status is EnqueueStatus.QUEUED
        (again,) = await enqueue(storage, name, queue=name)
        assert again.status is EnqueueStatus.DUPLICATE

        first = await claim(storage, worker=name, token="token", queue=name)
        assert [(c.id, c.name, c.worker) for c in first] == [(name, name, name)]
        assert await claim(storage, worker=name, token="token", queue=name) == first
        assert await cancel(storage, name, queue=name) == [CancelResult.RUNNING]
        beat = await storage.heartbeat(name, name, held(*first), LEASE)
        assert beat == ([], [name])
        kept = await stored(storage, name, name)
        assert (kept.id, kept.name, kept.worker) == (name, name, name)
        assert await settle(storage, completed(), *first, worker=name, queue=name) == [True]

        assert await storage.results(name, [name]) == [(JobState.COMPLETED, b"result")]
        assert await storage.set_result_ttl(name, [name], HOUR) == [TtlResult.UPDATED]
        assert await storage.counts(name) == only(completed=1)
        await storage.unblock(name, name)
        await storage.leave(name, name)

        told = [(e.type, e.id, e.name, e.worker) for e in await events.wait_for(3)]
        assert told == [
            ("enqueued", name, name, ""),
            ("started", name, name, name),
            ("completed", name, name, name),
        ]
        assert await control.wait_for(1) == [CancelRequested(name)]
        assert await answers.wait_for(1) == [Reply(name, JobState.COMPLETED, b"result")]


@every_name
async def test_a_name_delays_retries_and_recovers(storage: Storage, clock, name: str) -> None:
    await enqueue(storage, new_job(name, name=name, delay_ms=HOUR), queue=name)
    assert await storage.promote(name, 10) == HOUR
    await clock.advance(HOUR)
    claimed = await claim_one(storage, worker=name, queue=name)
    await clock.advance(LEASE)
    (taken,) = await recover(storage, 10, reaper=name, queue=name)
    assert (taken.id, taken.worker) == (name, name)
    assert taken.fence > claimed.fence
    await settle(storage, released(), taken, worker=name, queue=name)
    assert await cancel(storage, name, ttl_ms=HOUR, queue=name) == [CancelResult.CANCELLED]
    await clock.advance(HOUR)
    await storage.prune(name, 10)
    assert await storage.get(name, [name]) == [None]
    assert await storage.counts(name) == only()


async def test_all_names_live_side_by_side_as_ids(storage: Storage) -> None:
    names = [*HOSTILE_NAMES.values(), *LOOKALIKES]
    names = list(dict.fromkeys(names))
    await enqueue(storage, *(new_job(name, spec=name.encode()) for name in names))
    assert await storage.counts(QUEUE) == only(queued=len(names))
    claims = await claim(storage, 500)
    assert ids(claims) == names
    assert [job.spec.decode() for job in claims] == names
    for job in claims:
        await settle(storage, completed(job.id.encode()), job)
    assert await storage.results(QUEUE, names) == [
        (JobState.COMPLETED, name.encode()) for name in names
    ]


async def test_all_names_live_side_by_side_as_queues(storage: Storage) -> None:
    names = list(dict.fromkeys([*HOSTILE_NAMES.values(), *LOOKALIKES]))
    for name in names:
        await enqueue(storage, new_job("a", spec=name.encode()), queue=name)
    for name in names:
        assert await storage.counts(name) == only(queued=1), repr(name)
        claims = await claim(storage, queue=name)
        assert [job.spec.decode() for job in claims] == [name]


async def test_all_names_live_side_by_side_as_workers(storage: Storage) -> None:
    names = list(dict.fromkeys([*HOSTILE_NAMES.values(), *LOOKALIKES]))
    await enqueue(storage, *(f"{n}" for n in range(len(names))))
    first = {name: await claim(storage, 1, worker=name, token="t") for name in names}
    assert [ids(claims) for claims in first.values()] == [[f"{n}"] for n in range(len(names))]
    for name in names:
        assert await claim(storage, 1, worker=name, token="t") == first[name], repr(name)


async def test_two_queues_share_nothing(storage: Storage) -> None:
    await enqueue(storage, new_job("a", spec=b"of one"), queue="one")
    assert await storage.get("other", ["a"]) == [None]
    assert await storage.results("other", ["a"]) == [None]
    assert await cancel(storage, "a", queue="other") == [CancelResult.NOT_FOUND]
    assert await storage.set_result_ttl("other", ["a"], HOUR) == [TtlResult.NOT_FOUND]
    assert await claim(storage, queue="other") == []
    assert await storage.counts("other") == only()
    (answer,) = await enqueue(storage, new_job("a", spec=b"of other"), queue="other")
    assert answer.status is EnqueueStatus.QUEUED

    mine = await run_one(storage, completed(b"1"), queue="one")
    assert mine.spec == b"of one"
    assert await settle(storage, completed(), mine, queue="other") == [False]
    theirs = await claim_one(storage, queue="other")
    assert theirs.spec == b"of other"
    assert await storage.counts("one") == only(completed=1)
    assert await storage.counts("other") == only(running=1)


async def test_a_token_of_a_claim_belongs_to_its_queue(storage: Storage) -> None:
    await enqueue(storage, "a", queue="one")
    await enqueue(storage, "b", queue="other")
    assert ids(await claim(storage, token="t", queue="one")) == ["a"]
    assert ids(await claim(storage, token="t", queue="other")) == ["b"]


async def test_leases_delays_and_remains_belong_to_their_queue(storage: Storage, clock) -> None:
    await enqueue(storage, "runs", new_job("later", delay_ms=HOUR), queue="one")
    await claim(storage, queue="one")
    await clock.advance(2 * HOUR)
    assert await recover(storage, 10, queue="other") == []
    assert await storage.promote("other", 10) is None
    (taken,) = await recover(storage, 10, queue="one")
    assert taken.id == "runs"
    await settle(storage, completed(ttl_ms=HOUR), taken, worker="reaper", queue="one")
    await run_one(storage, completed(ttl_ms=2 * HOUR), queue="one")
    await clock.advance(HOUR)
    assert await storage.prune("other", 10) == 0
    assert await storage.prune("one", 10) == 1
