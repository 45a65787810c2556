"""The synchronous client: from threads, beside event loops, through forks, and at the end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from jobqueue import (
    Event,
    Job,
    JobCancelled,
    JobFailed,
    JobNotFound,
    JobSpec,
    Queue,
    SerializationError,
    Storage,
    StorageError,
    SyncQueue,
    WaitTimeout,
    Worker,
)
from jobqueue.background import background
from tests.support.backends import Backend
from tests.support.scripts import ROOT, run


@pytest.fixture
def queue(backend: Backend) -> Iterator[SyncQueue]:
    with SyncQueue("q", backend.handle()) as queue:
        yield queue


@contextmanager
def at_work(queue: Queue) -> Iterator[Worker]:
    """Serve a queue in a thread with a loop of its own."""
    running: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, Worker]] = Future()

    async def work() -> None:
        stop = asyncio.Event()
        async with Worker(queue) as worker:
            running.set_result((asyncio.get_running_loop(), stop, worker))
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(work())
        except BaseException as error:
            if running.done():
                raise
            running.set_exception(error)

    thread = threading.Thread(target=run, name="test-worker")
    thread.start()
    try:
        loop, stop, worker = running.result(20)
        yield worker
    finally:
        if running.done() and running.exception() is None:
            loop.call_soon_threadsafe(stop.set)
        thread.join(20)


@contextmanager
def echo(backend: Backend) -> Iterator[None]:
    """A worker elsewhere, whose jobs give back or raise their payload."""
    queue = Queue("q", backend.handle(), grace=0.1)

    @queue.handler()
    async def answer(job: Job) -> Any:
        return job.payload

    @queue.handler("fail", max_attempts=1)
    async def fail(job: Job) -> Any:
        raise ValueError(job.payload)

    with at_work(queue):
        yield


def wait_until(predicate: Callable[[], object], what: str, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.005)


def sync_threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("jobqueue")]


def descriptors() -> set[str]:
    return {
        f"{name} {os.readlink(f'/proc/self/fd/{name}')}"
        for name in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{name}") or os.path.lexists(f"/proc/self/fd/{name}")
    }


# -- the calls -------------------------------------------------------------------------------------


def test_each_call_of_a_queue(queue: SyncQueue) -> None:
    assert queue.name == "q"
    assert queue.storage is queue.queue.storage
    receipt = queue.enqueue("task", {"a": 1}, id="one", delay=60)
    assert (receipt.id, receipt.status, receipt.state) == ("one", "queued", "scheduled")
    again = queue.enqueue("task", {"a": 2}, id="one")
    assert (again.status, again.state) == ("duplicate", "scheduled")
    info = again.info()
    assert info is not None
    assert (info.payload, queue.get("one")) == ({"a": 1}, info)
    many = queue.enqueue_many(JobSpec("task", n) for n in range(3))
    assert [each.status for each in many] == ["queued"] * 3
    assert queue.counts() == dict.fromkeys(queue.counts(), 0) | {"queued": 3, "scheduled": 1}
    assert queue.set_result_ttl("one", 5) == "not_finished"
    assert queue.cancel("one") == "cancelled"
    with pytest.raises(JobCancelled):
        receipt.result()
    assert queue.set_result_ttl("one", 5) == "updated"
    assert queue.cancel("nobody") == "not_found"
    assert queue.get("nobody") is None
    with pytest.raises(JobNotFound):
        queue.result("nobody", wait=1)


def test_results(queue: SyncQueue, backend: Backend) -> None:
    with echo(backend):
        assert queue.enqueue_and_wait("task", [1, "a"]) == [1, "a"]
        receipt = queue.enqueue("task", "b", id="b")
        assert receipt.result() == "b"
        assert queue.result("b", wait=5) == "b"
        done = queue.enqueue("task", "c", id="b")
        assert (done.status, done.result()) == ("completed", "b")
        with pytest.raises(JobFailed, match="ValueError: no"):
            queue.enqueue_and_wait("fail", "no")


def test_no_result_in_time(queue: SyncQueue) -> None:
    receipt = queue.enqueue("task")
    for wait in (
        lambda: receipt.result(0.05),
        lambda: queue.result(receipt.id, wait=0.05),
        lambda: queue.enqueue_and_wait("task", wait=0.05),
    ):
        before = time.monotonic()
        with pytest.raises(WaitTimeout, match=r"within 0.05 s"):
            wait()
        assert time.monotonic() - before < 2
    assert queue.counts()["queued"] == 2


def test_job_types(queue: SyncQueue, backend: Backend) -> None:
    @queue.job(result_ttl=60)
    def join(left: str, *, right: str = "b") -> str:
        return left + right

    with at_work(queue.queue):
        assert join("a") == "ab"
        assert join.call_sync("a", right="c") == "ac"
        receipt = join.options(id="x").enqueue_sync("a")
        assert (receipt.status, receipt.result(wait=10)) == ("queued", "ab")
        assert join.options(id="x").enqueue_sync("z").result() == "ab"
        assert queue.enqueue_many([join.spec("d")])[0].result(wait=10) == "db"
    with pytest.raises(TypeError, match="missing"):
        join.enqueue_sync(wrong=1)  # type: ignore[call-arg]


def test_hooks_and_handlers_are_those_of_the_queue_that_a_worker_serves(queue: SyncQueue) -> None:
    seen: list[str] = []

    @queue.handler("task")
    def task(job: Job) -> str:
        return "first"

    @queue.on("enqueued")
    async def enqueued(event: Event) -> None:
        seen.append(event.type)

    @queue.after_execution
    def change(execution: Any) -> None:
        execution.result = "changed"

    with at_work(queue.queue):
        assert queue.enqueue_and_wait("task") == "changed"
    assert seen == ["enqueued"]


def test_the_constructor_is_that_of_a_queue() -> None:
    queue = SyncQueue("name", "memory://", serde="json", max_payload=10, max_attempts=7)
    assert repr(queue) == "<SyncQueue 'name' on memory://>"
    assert queue.queue.options.max_attempts == 7
    with pytest.raises(SerializationError, match="max_payload is 10"):
        queue.enqueue("task", "x" * 20)
    queue.close()
    with pytest.raises(TypeError, match="max_atempts"):
        SyncQueue("name", "memory://", max_atempts=7)  # type: ignore[call-arg]


def test_an_error_shows_who_called_and_what_failed(queue: SyncQueue) -> None:
    with pytest.raises(SerializationError) as caught:
        queue.enqueue("task", object())
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert frames[0] == "test_an_error_shows_who_called_and_what_failed"
    assert "new_job" in frames


# -- events ----------------------------------------------------------------------------------------


def test_events(queue: SyncQueue) -> None:
    with queue.events() as events:
        ids = [queue.enqueue("task", n).id for n in range(3)]
        seen = [next(events) for _ in ids]
        assert [(event.type, event.id) for event in seen] == [("enqueued", id) for id in ids]
    assert list(events) == []


def test_closing_ends_the_loop_over_events_in_another_thread(
    queue: SyncQueue, backend: Backend
) -> None:
    with ThreadPoolExecutor(2) as threads, SyncQueue("q", backend.handle()) as other:
        stream = queue.events().__enter__()
        reader = threads.submit(list, stream)
        other_reader = threads.submit(list, other.events().__enter__())
        wait_until(lambda: _calls() == 2, "both wait")
        stream.close()
        assert reader.result(5) == []
        assert not other_reader.done()
        other.close()
        assert other_reader.result(5) == []


def _calls() -> int:
    """How many calls other threads wait for."""
    with background.lock:
        thread = background._thread
        return 0 if thread is None else sum(len(each.calls) for each in thread.sessions)


# -- threads ---------------------------------------------------------------------------------------


def test_fifty_threads_share_batches_and_get_their_own_answers(
    queue: SyncQueue, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    enqueue = type(queue.storage).enqueue

    async def counted(self: Storage, queue: str, jobs: Any) -> Any:
        batches.append(len(jobs))
        await asyncio.sleep(0.002)
        return await enqueue(self, queue, jobs)

    monkeypatch.setattr(type(queue.storage), "enqueue", counted)
    monkeypatch.setattr(type(queue.storage), "send", lambda *job: False)
    together = threading.Barrier(50)

    def call(number: int) -> list[Any]:
        together.wait()
        return [queue.enqueue_and_wait("task", [number, n]) for n in range(4)]

    with echo(backend), ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(call, range(50)))
    assert answers == [[[number, n] for n in range(4)] for number in range(50)]
    assert sum(batches) == 200
    assert len(batches) <= 100
    assert max(batches) > 10


def test_ctrl_c_gives_up_the_wait_at_once(queue: SyncQueue) -> None:
    receipt = queue.enqueue("task")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        for wait in (receipt.result, queue.events().__next__):
            timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
            timer.start()
            started = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                wait()
            assert time.monotonic() - started < 5
            timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    session = queue._client._current
    assert session is not None
    wait_until(lambda: not session._tasks, "nothing waits on the loop")
    assert not session.calls
    assert not session.producer._replies._waits
    assert queue.get(receipt.id) is not None


def test_closing_ends_the_waits_of_other_threads(queue: SyncQueue) -> None:
    receipt = queue.enqueue("task")
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(receipt.result)
        session = queue._client._current
        assert session is not None
        wait_until(lambda: receipt.id in session.producer._replies._waits, "it waits")
        queue.close()
        with pytest.raises(StorageError, match="closed"):
            waiting.result(5)
    assert sync_threads() == []
    assert receipt.info() is not None, "it opens anew"


# -- beside event loops ----------------------------------------------------------------------------


async def test_on_a_running_loop_every_call_is_refused(backend: Backend) -> None:
    async with Queue("q", backend.handle()) as queue:

        @queue.job()
        async def work(n: int) -> int:
            return n

        with pytest.raises(RuntimeError, match=r"use await work\.enqueue\(\.\.\.\)"):
            work.enqueue_sync(1)
        with pytest.raises(RuntimeError, match=r"use await work\.call\(\.\.\.\)"):
            work.call_sync(1)
        sync = SyncQueue("q", backend.handle())
        for name, call in {
            "enqueue": lambda: sync.enqueue("task"),
            "counts": sync.counts,
            "open": sync.open,
            "close": sync.close,
            "result": lambda: sync.result("x"),
        }.items():
            with pytest.raises(RuntimeError, match=rf"use await queue\.{name}\(\.\.\.\)"):
                call()
        with pytest.raises(RuntimeError, match="use await"):
            next(sync.events())
        receipt = await asyncio.to_thread(sync.enqueue, "task")
        with pytest.raises(RuntimeError, match=r"use await receipt\.result"):
            receipt.result()
        await asyncio.to_thread(sync.close)
        assert (await queue.counts())["queued"] == 1


async def test_job_types_of_an_open_queue_from_other_threads(backend: Backend) -> None:
    async with Queue("q", backend.handle()) as queue:

        @queue.job()
        def inner(n: int) -> int:
            return n * 2

        @queue.job()
        def outer(n: int) -> int:
            return inner.call_sync(n) + inner.enqueue_sync(n).result()

        @queue.on("enqueued")
        def on_the_loop(event: Event) -> None:
            with pytest.raises(RuntimeError, match="use await"):
                inner.enqueue_sync(1)
            refused.append(event.id)

        refused: list[str] = []
        async with queue.worker(concurrency=5):
            answers = await asyncio.gather(*(outer.call(n) for n in range(4)))
            assert answers == [0, 4, 8, 12]
            assert await asyncio.to_thread(inner.call_sync, 5) == 10
        assert len(refused) == 4 + 8 + 1
        assert "jobqueue-sync" in sync_threads()
    assert sync_threads() == []


def test_a_job_type_outside_any_loop(backend: Backend) -> None:
    queue = Queue("q", backend.handle())

    @queue.job()
    async def work(n: int) -> int:
        return n

    id = work.enqueue_sync(1).id

    async def look() -> str:
        async with queue:
            info = await queue.get(id)
            assert info is not None
            return info.state

    assert asyncio.run(look()) == "queued"
    assert sync_threads() == [], "closed with its queue"


# -- nothing is left -------------------------------------------------------------------------------


def test_nothing_is_left_after_close(backend: Backend) -> None:
    before = descriptors()
    for _ in range(3):
        with SyncQueue("q", backend.handle()) as queue, queue.events() as events:
            queue.enqueue("task")
            next(events)
            with pytest.raises(WaitTimeout):
                queue.enqueue_and_wait("task", wait=0.02)
            assert "jobqueue-sync" in sync_threads()
        queue.close()
    assert sync_threads() == []
    assert descriptors() == before


def test_queues_share_the_loop_and_a_storage_and_go_one_by_one(backend: Backend) -> None:
    storage = backend.handle()
    first, second = SyncQueue("a", storage), SyncQueue("b", storage)
    for queue in (first, second):
        queue.open()
    assert sync_threads().count("jobqueue-sync") == 1
    sessions = [queue._client._current for queue in (first, second)]
    one, other = (session.producer.storage for session in sessions if session is not None)
    assert one is other
    assert one is not storage
    first.close()
    assert second.enqueue("task").status == "queued"
    second.close()
    assert sync_threads() == []
    assert first.counts()["queued"] == 0, "it opens anew"
    first.close()


# -- processes -------------------------------------------------------------------------------------


def test_a_program_ends_by_itself_without_close(backend: Backend) -> None:
    assert run(
        """
        import atexit, sys, threading
        from jobqueue import Queue, SyncQueue
        from jobqueue.background import background

        # Called after the client's own exit handler, which closes what no thread waits on.
        atexit.register(lambda: print("open:", len(background._thread.sessions)))
        queue = SyncQueue("q", sys.argv[1])
        later = Queue("q", sys.argv[1])

        @later.job()
        def task() -> None: ...

        events = queue.events().__enter__()
        threading.Thread(target=list, args=(events,), daemon=True).start()
        threading.Thread(target=queue.result, args=(queue.enqueue("a").id,), daemon=True).start()
        print(task.enqueue_sync().status)
        try:
            queue.enqueue_and_wait("b", wait=0.05)
        except TimeoutError:
            print("timeout")
        """,
        backend.url,
    ) == ["queued", "timeout", "open: 1"]


def test_a_thread_may_outlive_the_main_one(backend: Backend) -> None:
    if backend.kind == "sqlite":
        pytest.skip("its executor ends with the main thread")
    assert run(
        """
        import sys, threading
        from jobqueue import SyncQueue

        queue = SyncQueue("q", sys.argv[1])
        queue.open()
        ended = threading.main_thread().join

        def late():
            ended()
            print(queue.enqueue("a").status, queue.counts()["queued"])

        threading.Thread(target=late).start()
        """,
        backend.url,
    ) == ["queued 1"]


@pytest.mark.storages("sqlite", "redis")
def test_a_forked_child_starts_afresh_and_loses_nothing(backend: Backend) -> None:
    assert run(
        """
        import os, sys, threading
        from jobqueue import SyncQueue

        queue = SyncQueue("q", sys.argv[1])
        first = queue.enqueue("task", "parent", id="0")
        assert threading.active_count() > 1
        (said, say), (told, tell) = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            assert threading.active_count() == 1
            assert first.info().payload == "parent"
            queue.enqueue("task", "child", id="1")
            os.write(say, b"!")
            os.read(told, 1)
            queue.enqueue("task", "child, after the parent has closed", id="2")
            assert queue.counts()["queued"] == 3
            queue.close()
            sys.exit(0)
        os.read(said, 1)
        assert queue.counts()["queued"] == 2
        queue.close()
        os.write(tell, b"!")
        assert os.waitpid(child, 0)[1] == 0
        print([queue.get(id).payload for id in "012"])
        """,
        backend.url,
    ) == ["['parent', 'child', 'child, after the parent has closed']"]


@pytest.mark.storages("sqlite", "redis")
def test_a_fork_while_another_thread_waits_harms_nobody(backend: Backend) -> None:
    assert run(
        """
        import gc, os, sys, threading, time
        from jobqueue import SyncQueue, replies

        replies.RECHECK_EVERY = 60  # only the parent's subscription can tell it in time

        queue = SyncQueue("q", sys.argv[1])
        receipt = queue.enqueue("task")
        ended = []

        def wait():
            try:
                receipt.result()
            except Exception as error:
                ended.append(error.code)

        waiting = threading.Thread(target=wait)
        waiting.start()
        while receipt.id not in queue._client._current.producer._replies._waits:
            time.sleep(0.001)
        child = os.fork()
        if child == 0:
            assert queue.enqueue("task", "child").status == "queued"
            gc.collect()
            assert queue.counts()["queued"] == 2
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert not ended and queue.counts()["queued"] == 2
        queue.cancel(receipt.id)
        waiting.join(10)
        print(ended)
        """,
        backend.url,
    ) == ["['job_cancelled']"]


@pytest.mark.storages("sqlite")
def test_the_example_runs(backend: Backend) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-m", "jobqueue", "worker", "examples.sync_script:queue.queue"],
        cwd=ROOT,
        env={**os.environ, "JOBQUEUE_URL": backend.url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        script = subprocess.run(
            [sys.executable, "examples/sync_script.py"],
            cwd=ROOT,
            env={**os.environ, "JOBQUEUE_URL": backend.url, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=30,
        )
    finally:
        worker.terminate()
        worker.wait(20)
    assert (script.returncode, script.stderr) == (0, "")
    assert "the longest word is 'conscience'" in script.stdout
