"""Opening, closing, leaving, and calls at the limits."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing

import pytest

from jobqueue.errors import ConfigurationError, StorageError, StorageUnavailable
from jobqueue.states import CancelResult, JobState, TtlResult
from jobqueue.storage.base import Storage
from jobqueue.storage.types import EVENTS, MAX_BATCH, Held
from tests.support.backends import Backend, SQLiteBackend
from tests.support.clock import ManualClock
from tests.support.jobs import (
    HOUR,
    LEASE,
    MINUTE,
    QUEUE,
    cancel,
    claim,
    completed,
    enqueue,
    held,
    ids,
    new_job,
    only,
    recover,
    run_one,
    settle,
    stored,
)


async def test_a_storage_can_be_closed_and_opened_again(storage: Storage) -> None:
    await enqueue(storage, "a")
    await storage.close()
    await storage.open()
    assert await storage.counts(QUEUE) == only(queued=1)
    assert ids(await claim(storage)) == ["a"]


async def test_the_last_of_several_closes_counts(storage: Storage) -> None:
    await storage.open()
    await storage.open()
    await storage.close()
    await storage.close()
    await enqueue(storage, "a")
    await storage.close()
    with pytest.raises(StorageError):
        await enqueue(storage, "b")
    await storage.close()


async def test_a_close_too_many_is_no_error(storage: Storage) -> None:
    await storage.close()
    await storage.close()
    await storage.open()
    await enqueue(storage, "a")
    await storage.close()
    with pytest.raises(StorageError):
        await enqueue(storage, "b")


async def test_a_storage_serves_as_a_context(backend: Backend) -> None:
    storage = backend.handle()
    async with storage as same:
        assert same is storage
        await enqueue(storage, "a")
        async with storage:
            await enqueue(storage, "b")
        assert await storage.counts(QUEUE) == only(queued=2)
    with pytest.raises(StorageError):
        await storage.counts(QUEUE)


async def test_concurrent_opens_open_once(backend: Backend) -> None:
    storage = backend.handle()
    await asyncio.gather(*(storage.open() for _ in range(5)))
    for _ in range(4):
        await storage.close()
    await enqueue(storage, "a")
    await storage.close()


VERBS = {
    "enqueue": lambda s: enqueue(s, "a"),
    "claim": lambda s: claim(s),
    "claim and wait": lambda s: claim(s, block_ms=10_000),
    "unblock": lambda s: s.unblock(QUEUE, "w1"),
    "finish": lambda s: settle(s, completed(), Held("a", 1)),
    "heartbeat": lambda s: s.heartbeat(QUEUE, "w1", [], LEASE),
    "recover": lambda s: recover(s),
    "promote": lambda s: s.promote(QUEUE, 1),
    "prune": lambda s: s.prune(QUEUE, 1),
    "cancel": lambda s: cancel(s, "a"),
    "get": lambda s: s.get(QUEUE, ["a"]),
    "results": lambda s: s.results(QUEUE, ["a"]),
    "set_result_ttl": lambda s: s.set_result_ttl(QUEUE, ["a"], MINUTE),
    "counts": lambda s: s.counts(QUEUE),
    "leave": lambda s: s.leave(QUEUE, "w1"),
    "listen": lambda s: s.listen(QUEUE, EVENTS, lambda messages: None),
}


@pytest.mark.parametrize("verb", VERBS)
async def test_a_closed_storage_refuses_to_serve(storage: Storage, verb: str) -> None:
    await storage.close()
    with pytest.raises(StorageError):
        await VERBS[verb](storage)


async def test_a_storage_that_was_never_opened_refuses_to_serve(backend: Backend) -> None:
    with pytest.raises(StorageError):
        await enqueue(backend.handle(), "a")


async def test_a_twin_is_closed_and_has_the_same_jobs(storage: Storage) -> None:
    await enqueue(storage, "a")
    twin = storage.twin()
    assert type(twin) is type(storage)
    with pytest.raises(StorageError):
        await twin.counts(QUEUE)
    async with twin:
        assert ids(await claim(twin)) == ["a"]
    assert await storage.counts(QUEUE) == only(running=1)


async def test_a_twin_has_the_same_clock(storage: Storage, clock: ManualClock) -> None:
    async with storage.twin() as twin:
        await enqueue(twin, "a")
    assert (await stored(storage, "a")).enqueued_ms == clock.now()


async def test_a_twin_serves_another_event_loop(storage: Storage) -> None:
    twin = storage.twin()
    failures: list[BaseException] = []

    async def work() -> None:
        async with twin:
            for n in range(20):
                await enqueue(twin, f"{n}")
                await run_one(twin, completed())

    def run() -> None:
        try:
            asyncio.run(work())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    for n in range(20):
        await enqueue(storage, new_job(f"own {n}", delay_ms=HOUR))
    await asyncio.to_thread(thread.join)
    assert failures == []
    assert await storage.counts(QUEUE) == only(completed=20, scheduled=20)


async def test_a_claim_is_woken_from_another_event_loop(storage: Storage) -> None:
    twin = storage.twin()

    async def work() -> None:
        async with twin:
            await enqueue(twin, "a")

    task = asyncio.create_task(claim(storage, block_ms=20_000))
    await asyncio.sleep(0.05)
    await asyncio.to_thread(asyncio.run, work())
    async with asyncio.timeout(5):
        assert ids(await task) == ["a"]


async def test_a_storage_says_where_its_jobs_are(storage: Storage, backend: Backend) -> None:
    assert storage.url.startswith(f"{backend.kind}://")
    assert storage.twin().url == storage.url


def test_the_address_shows_no_password() -> None:
    from jobqueue.storage.redis import RedisStorage

    shown = RedisStorage("redis://somebody:geheim@localhost:1234/5").url
    assert "geheim" not in shown
    assert "localhost:1234/5" in shown


async def test_a_server_that_cannot_be_reached_is_unavailable(unused_tcp_port: int) -> None:
    from jobqueue.storage.redis import RedisStorage

    storage = RedisStorage(f"redis://127.0.0.1:{unused_tcp_port}/0")
    with pytest.raises(StorageUnavailable):
        await storage.open()
    await storage.close()


@pytest.mark.parametrize("content", [b"no database at all " * 100, b"SQLite format 3\0broken"])
async def test_a_file_that_is_no_queue_is_refused(tmp_path, content: bytes) -> None:
    file = tmp_path / "jobs.db"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError):
        await SQLiteBackend(tmp_path).handle().open()
    assert file.read_bytes() == content


async def test_a_database_of_something_else_is_refused(tmp_path) -> None:
    file = tmp_path / "jobs.db"
    with closing(sqlite3.connect(file)) as other:
        other.execute("CREATE TABLE jobs (title TEXT)")
        other.execute("INSERT INTO jobs VALUES ('of somebody else')")
        other.commit()
    with pytest.raises(ConfigurationError):
        await SQLiteBackend(tmp_path).handle().open()
    with closing(sqlite3.connect(file)) as other:
        assert other.execute("SELECT * FROM jobs").fetchall() == [("of somebody else",)]
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("jobs",)]


# -- leaving -------------------------------------------------------------------------------------


async def test_who_leaves_takes_its_claim_token_along(storage: Storage) -> None:
    await enqueue(storage, "a", "b")
    assert ids(await claim(storage, 1, token="t")) == ["a"]
    await storage.leave(QUEUE, "w1")
    assert ids(await claim(storage, 1, token="t")) == ["b"]


async def test_who_leaves_keeps_its_leases(storage: Storage, clock: ManualClock) -> None:
    await enqueue(storage, "a")
    claims = await claim(storage, lease_ms=MINUTE)
    await storage.leave(QUEUE, "w1")
    assert (await stored(storage, "a")).state is JobState.RUNNING
    assert await storage.heartbeat(QUEUE, "w1", held(*claims), MINUTE) == ([], [])
    await clock.advance(MINUTE)
    assert ids(await recover(storage, 10, lease_ms=MINUTE)) == ["a"]


async def test_who_leaves_disturbs_nobody_else(storage: Storage) -> None:
    await enqueue(storage, "a", "b")
    first = await claim(storage, 1, worker="w2", token="t")
    await storage.leave(QUEUE, "w1")
    assert await claim(storage, 1, worker="w2", token="t") == first
    assert await storage.counts(QUEUE) == only(queued=1, running=1)


async def test_a_stranger_can_leave(storage: Storage) -> None:
    await storage.leave("never heard of", "nobody")


# -- batches -------------------------------------------------------------------------------------


async def test_every_verb_takes_a_whole_batch(storage: Storage) -> None:
    names = [f"job {n}" for n in range(MAX_BATCH)]
    answers = await enqueue(storage, *names)
    assert len(answers) == MAX_BATCH
    claims = await claim(storage, MAX_BATCH)
    assert ids(claims) == names
    assert await storage.heartbeat(QUEUE, "w1", held(*claims), LEASE) == ([], [])
    assert await cancel(storage, *names) == [CancelResult.RUNNING] * MAX_BATCH
    beat = await storage.heartbeat(QUEUE, "w1", held(*claims), LEASE)
    assert sorted(beat.cancel_requested) == sorted(names)
    assert await settle(storage, completed(b"v"), *claims) == [True] * MAX_BATCH
    assert await storage.results(QUEUE, names, "here") == [(JobState.COMPLETED, b"v")] * MAX_BATCH
    assert [job and job.id for job in await storage.get(QUEUE, names)] == names
    updated = await storage.set_result_ttl(QUEUE, names, HOUR)
    assert updated == [TtlResult.UPDATED] * MAX_BATCH
    assert await storage.counts(QUEUE) == only(completed=MAX_BATCH)


async def test_maintenance_takes_a_whole_batch(storage: Storage, clock: ManualClock) -> None:
    names = [f"job {n:03}" for n in range(MAX_BATCH)]
    await enqueue(storage, *(new_job(name, delay_ms=MINUTE) for name in names))
    await clock.advance(MINUTE)
    assert await storage.promote(QUEUE, MAX_BATCH) is None
    assert len(await claim(storage, MAX_BATCH, lease_ms=MINUTE)) == MAX_BATCH
    await clock.advance(MINUTE)
    taken = await recover(storage, MAX_BATCH, lease_ms=MINUTE)
    assert sorted(ids(taken)) == names
    await settle(storage, completed(ttl_ms=MINUTE), *taken, worker="reaper")
    await enqueue(storage, "kept")
    await run_one(storage, completed(ttl_ms=HOUR))
    await clock.advance(MINUTE)
    assert await storage.prune(QUEUE, MAX_BATCH) == MAX_BATCH
    assert await storage.counts(QUEUE) == only(completed=1)
