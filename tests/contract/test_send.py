"""A job that is sent without an answer. A storage need not be able to; what it sends, it stores."""

from __future__ import annotations

import pytest

from jobqueue.states import EnqueueStatus, JobState
from jobqueue.storage.base import Storage
from jobqueue.storage.types import Enqueued
from tests.support.backends import Backend, MakeStorage, RedisBackend
from tests.support.jobs import (
    QUEUE,
    SECOND,
    claim,
    completed,
    enqueue,
    ids,
    new_job,
    only,
    settle,
)
from tests.support.wait import wait_until

ACCEPTED = Enqueued(EnqueueStatus.QUEUED, JobState.QUEUED, None)


async def until_waiting(storage: Storage, count: int) -> None:
    """Wait until so many jobs are queued."""

    async def counted() -> bool:
        return await storage.counts(QUEUE) == only(queued=count)

    await wait_until(counted)


async def test_what_is_sent_is_stored_as_if_it_were_enqueued(storage: Storage) -> None:
    await enqueue(storage, "first")
    jobs = [new_job(request=""), new_job(spec=b"x" * 300, ttl_ms=SECOND, request="")]
    sent = [job for job in jobs if storage.send(QUEUE, job)]
    await until_waiting(storage, 1 + len(sent))
    claims = await claim(storage)
    assert ids(claims) == ["first", *(job.id for job in sent)]
    assert [(got.spec, got.ttl_ms) for got in claims[1:]] == [
        (job.spec, job.ttl_ms) for job in sent
    ]


async def test_a_server_is_sent_what_a_file_is_not(storage: Storage, backend: Backend) -> None:
    await enqueue(storage, "first")
    assert storage.send(QUEUE, new_job(request="")) is isinstance(backend, RedisBackend)


async def test_into_a_queue_that_was_not_asked_about_nothing_is_sent(storage: Storage) -> None:
    # Whether this user may change it is known with the first answer.
    assert not storage.send(QUEUE, new_job(request=""))
    assert await storage.counts(QUEUE) == only()
    assert not storage.send(QUEUE, new_job(request=""))


async def test_to_enqueue_it_again_stores_nothing_and_tells_what_became_of_it(
    storage: Storage,
) -> None:
    await enqueue(storage, "first")
    job = new_job(request="")
    storage.send(QUEUE, job)
    assert await enqueue(storage, job) == [ACCEPTED]
    assert await enqueue(storage, job) == [ACCEPTED]
    assert await storage.counts(QUEUE) == only(queued=2)
    for got in await claim(storage):
        assert await settle(storage, completed(), got) == [True]
    (answer,) = await enqueue(storage, job)
    assert answer == ACCEPTED._replace(state=JobState.COMPLETED)
    assert await storage.counts(QUEUE) == only(completed=2)


async def test_answers_stay_with_their_questions(storage: Storage) -> None:
    await enqueue(storage, "first")
    for n in range(20):
        storage.send(QUEUE, new_job("first", request="another"))  # which is refused
        job = new_job(f"{n}")
        assert await enqueue(storage, job) == [ACCEPTED]
    assert await storage.counts(QUEUE) == only(queued=21)


async def test_a_storage_that_is_not_open_sends_nothing(make_storage: MakeStorage) -> None:
    storage = await make_storage()
    await enqueue(storage, "first")
    await storage.close()
    assert not storage.send(QUEUE, new_job(request=""))


@pytest.mark.storages("redis")
async def test_scripts_that_were_forgotten_are_no_error(
    storage: Storage, backend: RedisBackend
) -> None:
    await enqueue(storage, "first")
    backend.admin.script_flush()
    lost, job = new_job(request=""), new_job(request="")
    assert storage.send(QUEUE, lost)
    assert await enqueue(storage, job) == [ACCEPTED]  # and so the script is known again
    assert await enqueue(storage, lost) == [ACCEPTED]
    assert ids(await claim(storage)) == ["first", job.id, lost.id]
