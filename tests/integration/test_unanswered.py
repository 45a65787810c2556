"""A lone call whose job is sent without an answer: it is as safe as one that was answered."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from jobqueue import Job, Queue, QueueFull, StorageError, StorageUnavailable, unanswered
from jobqueue.errors import WaitTimeout
from jobqueue.storage.redis import RedisStorage
from jobqueue.storage.types import NewJob
from tests.chaos.proxy import Call, Fate, Proxy, Verdict, refuse_scripts
from tests.integration.programs import MakeQueue
from tests.support import acl
from tests.support.backends import RedisBackend
from tests.support.wait import wait_until

pytestmark = pytest.mark.storages("redis")

SOON = 10.0


class Sends:
    """Which jobs were sent without an answer, and how often one was enqueued."""

    def __init__(self, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[str] = []
        self.enqueued: list[str] = []
        storage = queue.storage
        send, enqueue = storage.send, storage.enqueue

        def note_sent(queue: str, job: NewJob) -> bool:
            done = send(queue, job)
            if done:
                self.sent.append(job.id)
            return done

        async def note_enqueued(queue: str, jobs: Any) -> Any:
            self.enqueued.extend(job.id for job in jobs)
            return await enqueue(queue, jobs)

        monkeypatch.setattr(storage, "send", note_sent)
        monkeypatch.setattr(storage, "enqueue", note_enqueued)


@pytest.fixture
async def runs(make_queue: MakeQueue) -> AsyncIterator[Counter[str]]:
    """How often each job was run by a worker, which returns the payload after as many seconds."""
    counter: Counter[str] = Counter()
    queue = make_queue()

    @queue.handler("task")
    async def task(job: Job) -> Any:
        counter[job.id] += 1
        await asyncio.sleep(job.payload)
        return job.payload

    async with queue.worker():
        yield counter


async def made_ready(queue: Queue) -> None:
    """The first call opens the connection, and is answered."""
    assert await queue.enqueue_and_wait("task", 0, wait=SOON) == 0


async def test_a_lone_call_is_sent_and_not_enqueued(
    make_queue: MakeQueue, runs: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unanswered, "SURE_AFTER", 600)
    queue = make_queue()
    await made_ready(queue)
    sends = Sends(queue, monkeypatch)
    for _ in range(5):
        assert await queue.enqueue_and_wait("task", 0, wait=SOON) == 0
    assert len(set(sends.sent)) == 5
    assert sends.enqueued == []
    assert set(runs.values()) == {1}


async def test_a_call_that_takes_longer_makes_sure_once_and_runs_once(
    make_queue: MakeQueue, runs: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue()
    await made_ready(queue)
    sends = Sends(queue, monkeypatch)
    assert await queue.enqueue_and_wait("task", 0.3, wait=SOON) == 0.3
    assert sends.sent == sends.enqueued
    assert len(sends.sent) == 1
    assert set(runs.values()) == {1}
    # And the next one is sent again.
    assert await queue.enqueue_and_wait("task", 0, wait=SOON) == 0
    assert len(sends.sent) == 2


async def test_of_two_at_a_time_the_second_is_answered(
    make_queue: MakeQueue, runs: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unanswered, "SURE_AFTER", 600)
    queue = make_queue()
    await made_ready(queue)
    sends = Sends(queue, monkeypatch)
    calls = [queue.enqueue_and_wait("task", 0.05, wait=SOON) for _ in range(8)]
    assert await asyncio.gather(*calls) == [0.05] * 8
    assert len(sends.sent) == 1
    assert len(sends.enqueued) == 7


@pytest.mark.parametrize(
    "options",
    [{"id": "chosen"}, {"delay": 0.01}, {"priority": "high"}, {"result_ttl": 1}],
    ids=lambda options: next(iter(options)),
)
async def test_what_is_not_plain_is_answered(
    make_queue: MakeQueue,
    runs: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
) -> None:
    queue = make_queue()
    await made_ready(queue)
    sends = Sends(queue, monkeypatch)
    assert await queue.enqueue_and_wait("task", 0, wait=SOON, **options) == 0
    assert sends.sent == []


async def test_a_queue_that_keeps_results_for_a_moment_is_answered(
    make_queue: MakeQueue, runs: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue(result_ttl=0.5)
    await made_ready(queue)
    sends = Sends(queue, monkeypatch)
    assert await queue.enqueue_and_wait("task", 0, wait=SOON) == 0
    assert sends.sent == []


async def test_a_hook_hears_of_what_was_enqueued(
    make_queue: MakeQueue, runs: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue()
    told: list[str] = []
    queue.on("enqueued")(lambda event: told.append(event.id))
    await made_ready(queue)
    sends = Sends(queue, monkeypatch)
    assert await queue.enqueue_and_wait("task", 0, wait=SOON) == 0
    assert sends.sent == []
    assert len(told) == 2


# -- what goes wrong -------------------------------------------------------------------------------


class Once:
    """A rule for the next call of ``enqueue``."""

    def __init__(self, fate: Verdict) -> None:
        self._fate = fate
        self.is_over = False

    def __call__(self, call: Call) -> Verdict:
        if self.is_over or call.name != "enqueue":
            return Fate.FORWARD
        self.is_over = True
        return self._fate


@pytest.mark.parametrize("fate", [Fate.CUT, Fate.DROP_REPLY, Fate.SWALLOW_REPLY])
async def test_what_is_lost_on_its_way_runs_once(
    backend: RedisBackend, runs: Counter[str], fate: Fate
) -> None:
    async with Proxy(backend.url) as proxy, Queue("q", proxy.url) as queue:
        await made_ready(queue)
        proxy.rule = rule = Once(fate)
        assert await queue.enqueue_and_wait("task", 0.05, wait=SOON) == 0.05
        assert rule.is_over
    assert sorted(runs.values()) == [1, 1]


async def test_a_server_that_forgot_its_scripts_is_told_them(
    make_queue: MakeQueue, backend: RedisBackend, runs: Counter[str]
) -> None:
    queue = make_queue()
    await made_ready(queue)
    for _ in range(3):
        backend.admin.script_flush()
        assert await queue.enqueue_and_wait("task", 0, wait=SOON) == 0
    assert set(runs.values()) == {1}


async def test_a_full_queue_refuses(make_queue: MakeQueue, runs: Counter[str]) -> None:
    queue = make_queue()
    await made_ready(queue)
    await queue.enqueue("other", delay=60)
    await queue.set_max_length(1)
    async with asyncio.timeout(1):
        with pytest.raises(QueueFull):
            await queue.enqueue_and_wait("task", 0)
    await queue.set_max_length(None)
    assert await queue.enqueue_and_wait("task", 0, wait=SOON) == 0


async def test_a_server_that_refuses_is_told_of(backend: RedisBackend, runs: Counter[str]) -> None:
    async with Proxy(backend.url) as proxy, Queue("q", proxy.url) as queue:
        await made_ready(queue)
        proxy.rule = refuse_scripts("LOADING the server is loading its data")
        with pytest.raises(StorageUnavailable, match="loading"):
            await queue.enqueue_and_wait("task", 0, wait=SOON)


async def test_nobody_waits_longer_than_asked(make_queue: MakeQueue) -> None:
    queue = make_queue()
    await queue.enqueue("task", 0)
    for seconds in (0.001, 0.05):
        with pytest.raises(WaitTimeout):
            await queue.enqueue_and_wait("task", 0, wait=seconds)


async def test_who_is_cancelled_leaves_nothing_behind(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue()
    await queue.enqueue("task", 0)
    before = asyncio.all_tasks()
    for wait in (0.0, 0.006):
        call = asyncio.create_task(queue.enqueue_and_wait("task", 0))
        await asyncio.sleep(wait)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    await queue.close()
    await wait_until(lambda: asyncio.all_tasks() <= before | {asyncio.current_task()})


async def test_a_close_ends_the_wait(make_queue: MakeQueue) -> None:
    queue = make_queue()
    await queue.enqueue("task", 0)
    for wait in (0.002, 0.1):
        call = asyncio.create_task(queue.enqueue_and_wait("task", 0))
        await asyncio.sleep(wait)
        await queue.close()
        with pytest.raises(StorageError, match="closed"):
            await call


async def test_a_user_who_may_not_ask_for_silence_is_answered(
    backend: RedisBackend, runs: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    acl.make_user(backend.admin, "jobqueue", "+client|reply")
    try:
        async with Queue("q", acl.url_of(backend.address, "jobqueue")) as queue:
            await made_ready(queue)
            sends = Sends(queue, monkeypatch)
            assert await queue.enqueue_and_wait("task", 0, wait=SOON) == 0
            assert sends.sent == []
            assert len(sends.enqueued) == 1
    finally:
        backend.admin.acl_deluser("jobqueue")


async def test_a_permission_that_is_taken_away_mixes_up_no_answers(
    backend: RedisBackend, runs: Counter[str]
) -> None:
    acl.make_user(backend.admin, "jobqueue")
    try:
        async with Queue("q", acl.url_of(backend.address, "jobqueue")) as queue:
            await made_ready(queue)
            await queue.enqueue("task", 0, id="there")
            for _ in range(3):
                backend.admin.execute_command("ACL", "SETUSER", "jobqueue", "-client|reply")
                call = asyncio.create_task(queue.enqueue_and_wait("task", 0.05, wait=SOON))
                await asyncio.sleep(0)  # in which it is sent
                assert (await queue.enqueue("task", 0, id="there")).status != "queued"
                assert await call == 0.05
    finally:
        backend.admin.acl_deluser("jobqueue")


async def test_it_is_the_one_connection_that_is_silent(
    backend: RedisBackend, runs: Counter[str]
) -> None:
    # An error that nobody hears is no answer to the question behind it.
    async with RedisStorage(backend.url) as storage, Queue("q", storage) as queue:
        await made_ready(queue)
        for n in range(10):
            call = asyncio.create_task(queue.enqueue_and_wait("task", 0, wait=SOON))
            await asyncio.sleep(0)
            receipt = await queue.enqueue("task", 0, id=f"{n}")
            assert receipt.id == f"{n}"
            assert await call == 0
    assert set(runs.values()) == {1}
