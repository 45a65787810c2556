"""What can never succeed fails once, with a clear error, and the worker goes on at full speed."""

from __future__ import annotations

import asyncio
import pickle
import sys
from collections.abc import Callable
from itertools import product
from typing import Any, NoReturn

import msgpack
import pytest

from jobqueue import Job, JobError, JobFailed, Queue
from jobqueue.ids import new_job_id
from jobqueue.storage.types import NewJob
from tests.integration.asking import counted, info_of, takes_at_most, until_counted
from tests.integration.programs import MakeQueue


class _Alarm(BaseException):
    """No Exception, and none that Python knows."""


class _Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class _Exiting(Exception):
    """Its text ends the process of whoever prints it."""

    def __str__(self) -> NoReturn:
        raise SystemExit(3)

    __repr__ = __str__


class _Surrogates(Exception):
    def __str__(self) -> str:
        return "half of a pair: \ud800"


def _unending() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


async def _fails(queue: Queue, name: str, payload: Any = None) -> JobError:
    """The error of a job that must fail in one attempt, although it might try more often."""
    with pytest.raises(JobFailed) as caught:
        await queue.enqueue_and_wait(name, payload, max_attempts=3, wait=10)
    info = await info_of(queue, caught.value.id)
    assert (info.state, info.attempt) == ("failed", 1)
    assert info.error == caught.value.error
    assert caught.value.error.attempts == 1
    return pickle.loads(pickle.dumps(caught.value)).error


_ERRORS: dict[str, Callable[[], BaseException]] = {
    "SystemExit": lambda: SystemExit("bye"),
    "KeyboardInterrupt": lambda: KeyboardInterrupt("bye"),
    "GeneratorExit": lambda: GeneratorExit("bye"),
    "CancelledError": lambda: asyncio.CancelledError("bye"),
    "_Alarm": lambda: _Alarm("bye"),
    "BaseExceptionGroup": lambda: BaseExceptionGroup("bye", [_Alarm("bye")]),
}


async def test_what_is_no_ordinary_exception_fails_the_job_once(queue: Queue) -> None:
    @queue.handler("async")
    async def async_task(job: Job) -> None:
        await asyncio.sleep(0)
        raise _ERRORS[job.payload]()

    @queue.handler("sync")
    def sync_task(job: Job) -> None:
        raise _ERRORS[job.payload]()

    @queue.handler("good")
    async def good(job: Job) -> str:
        return "still here"

    async with queue.worker():
        for kind, name in product(_ERRORS, ("async", "sync")):
            error = await _fails(queue, name, kind)
            assert error.type == kind
            assert "bye" in error.message
            assert "raise _ERRORS" in error.traceback
            assert await queue.enqueue_and_wait("good", wait=5) == "still here"


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
async def test_stop_iteration_is_an_ordinary_failure(queue: Queue, kind: type[Exception]) -> None:
    @queue.handler("async")
    async def async_task(job: Job) -> None:
        raise kind("the end")

    @queue.handler("sync")
    def sync_task(job: Job) -> None:
        raise kind("the end")

    async with queue.worker():
        for name in ("async", "sync"):
            with pytest.raises(JobFailed) as caught:
                await queue.enqueue_and_wait(name, max_attempts=1, wait=5)
            # Python turns a StopIteration that leaves a coroutine into a RuntimeError.
            changed = name == "async" and kind is StopIteration
            assert caught.value.error.type == ("RuntimeError" if changed else kind.__name__)


@pytest.mark.parametrize("kind", [_Unprintable, _Exiting])
async def test_an_error_that_cannot_be_printed(queue: Queue, kind: type[Exception]) -> None:
    @queue.handler("task")
    async def task(job: Job) -> None:
        if job.payload == "good":
            return
        raise kind

    async with queue.worker():
        error = await _fails(queue, "task")
        assert error.type == kind.__name__
        assert "cannot be printed" in error.message
        await queue.enqueue_and_wait("task", "good", wait=5)


async def test_an_error_of_strange_text(queue: Queue) -> None:
    @queue.handler("task")
    async def task(job: Job) -> None:
        if job.payload == "surrogates":
            raise _Surrogates
        raise ValueError("x" * 1_000_000 if job.payload == "long" else "\0\x1b[31m")

    async with queue.worker():
        for payload, expected in (
            ("surrogates", "half of a pair: ?"),
            ("control", "\0\x1b[31m"),
            ("long", "x" * 8_000),
        ):
            with pytest.raises(JobFailed) as caught:
                await queue.enqueue_and_wait("task", payload, max_attempts=1, wait=5)
            assert caught.value.error.message == expected


async def test_a_type_that_is_only_named_is_never_looked_for(queue: Queue) -> None:
    stranger = type("antigravity.Stranger", (ValueError,), {"__module__": "antigravity"})

    @queue.handler("task")
    async def task(job: Job) -> None:
        raise stranger("plain text")

    async with queue.worker():
        with pytest.raises(JobFailed) as caught:
            await queue.enqueue_and_wait("task", max_attempts=1, wait=5)
    error = caught.value.error
    assert (error.type, error.message) == ("antigravity.Stranger", "plain text")
    assert all(type(text) is str for text in (error.type, error.message, error.traceback))
    assert "antigravity" not in sys.modules


_RESULTS: dict[str, Callable[[], Any]] = {
    "an object": object,
    "a function": lambda: print,
    "a generator": lambda: (n for n in range(3)),
    "an object deep inside": lambda: {"a": [1, {"b": object()}]},
    "a list in itself": _unending,
    "a lone surrogate": lambda: "\ud800",
    "an integer without end": lambda: 10**5_000,
}


async def test_a_result_that_cannot_be_serialised_fails_the_job_once(queue: Queue) -> None:
    runs: list[str] = []

    @queue.handler("async")
    async def async_task(job: Job) -> Any:
        runs.append(job.id)
        return _RESULTS[job.payload]()

    @queue.handler("sync")
    def sync_task(job: Job) -> Any:
        runs.append(job.id)
        return _RESULTS[job.payload]()

    queue.handler("good")(lambda job: "still here")
    async with queue.worker():
        for kind, name in product(_RESULTS, ("async", "sync")):
            error = await _fails(queue, name, kind)
            assert (error.type, error.reason) == ("SerializationError", "unserialisable")
            assert "the result cannot be serialised" in error.message
            assert await queue.enqueue_and_wait("good", wait=5) == "still here"
    assert len(runs) == 2 * len(_RESULTS)


async def test_a_result_that_is_too_large_fails_the_job_once(make_queue: MakeQueue) -> None:
    queue = make_queue(max_result=1_000)
    queue.handler("task")(lambda job: b"x" * job.payload)
    async with queue.worker():
        assert len(await queue.enqueue_and_wait("task", 900)) == 900
        error = await _fails(queue, "task", 1_001)
    assert error.reason == "unserialisable"
    assert "max_result is 1000" in error.message


_SPECS: dict[str, tuple[bytes, str]] = {
    "no msgpack": (b"\xc1\xff\0garbage", "cannot be decoded"),
    "nothing": (b"", "cannot be decoded"),
    "not an array": (msgpack.packb({"v": 1, "payload": b"\xc0"}), "cannot be decoded"),
    "no payload": (msgpack.packb([1]), "cannot be decoded"),
    "payload no msgpack": (msgpack.packb([1, b"\xc1"]), "payload cannot be decoded"),
    "payload cut off": (
        msgpack.packb([1, msgpack.packb("long text")[:4]]),
        "payload cannot be decoded",
    ),
    "payload with more behind": (msgpack.packb([1, b"\x01\x02"]), "decoded"),
    "unknown extension": (
        msgpack.packb([1, msgpack.packb(msgpack.ExtType(99, b"x"))]),
        "extension type 99",
    ),
    "unknown serde": (msgpack.packb([1, b"x", {"serde": "yaml"}]), "'yaml'"),
    "JSON that is none": (msgpack.packb([1, b"{", {"serde": "json"}]), "decoded"),
    "newer version": (msgpack.packb([2, b"\xc0", True]), "version 2, this worker reads 1"),
    "no version": (msgpack.packb([None, b"\xc0"]), "version None"),
    "options no map": (msgpack.packb([1, b"\xc0", []]), "no map"),
    "bad max_attempts": (msgpack.packb([1, b"\xc0", {"max_attempts": "x"}]), ""),
    "bad timeout": (msgpack.packb([1, b"\xc0", {"timeout_ms": "soon"}]), ""),
    "negative timeout": (msgpack.packb([1, b"\xc0", {"timeout_ms": -5}]), ""),
    "bad retry": (msgpack.packb([1, b"\xc0", {"retry": ["cubic", []]}]), "retry"),
    "retry of nonsense": (msgpack.packb([1, b"\xc0", {"retry": 7}]), "retry"),
    "deep": (msgpack.packb([1, b"\x91" * 5_000 + b"\xc0"]), "decoded"),
}


async def _store(queue: Queue, spec: bytes, name: str = "task", id: str | None = None) -> str:
    """Store a job as some other program would: straight through the port."""
    job = NewJob(id=id or new_job_id(), name=name, spec=spec)
    await queue.open()
    await queue.storage.enqueue(queue.name, [job])
    return job.id


async def test_a_job_that_cannot_be_decoded_fails_and_its_bytes_are_kept(queue: Queue) -> None:
    runs: list[str] = []
    queue.handler("task")(lambda job: runs.append(job.id))
    for kind, (spec, _) in _SPECS.items():
        await _store(queue, spec, id=kind)
    async with queue.worker():
        for kind, (spec, expected) in _SPECS.items():
            with pytest.raises(JobFailed) as caught:
                await queue.result(kind, wait=5)
            error = caught.value.error
            assert expected in error.message, kind
            assert (error.reason, error.attempts) == ("undecodable", 1), kind
            info = await info_of(queue, kind)
            assert (info.state, info.raw, info.attempt) == ("failed", spec, 1), kind
        assert await queue.enqueue_and_wait("task", wait=5) is None
    assert len(runs) == 1


async def test_a_name_that_nobody_handles_fails_with_the_names_that_are(queue: Queue) -> None:
    queue.handler("known")(lambda job: "fine")
    async with queue.worker():
        error = await _fails(queue, "unknown")
        assert error.reason == "no_handler"
        assert "no handler for 'unknown'" in error.message
        assert "'known'" in error.message
        assert await queue.enqueue_and_wait("known") == "fine"
        with pytest.raises(JobFailed):
            await queue.enqueue_and_wait("unknown", {"kept": True}, id="one")
    assert (await info_of(queue, "one")).payload == {"kept": True}


async def test_the_worker_goes_on_at_full_speed(make_queue: MakeQueue) -> None:
    queue = make_queue(concurrency=4)
    queue.handler("task")(lambda job: job.payload)
    specs = [spec for spec, _ in _SPECS.values()]
    good = []
    for n in range(10):
        for spec in specs:
            await _store(queue, spec)
        await _store(queue, msgpack.packb([1, b"\xc0"]), name="unknown")
        good.append(await queue.enqueue("task", n))
    bad = 10 * (len(specs) + 1)
    async with queue.worker():
        with takes_at_most(5):  # a stall of 50 ms for each would take twice that
            for n, receipt in enumerate(good):
                assert await receipt.result(10) == n
            await until_counted(queue, 10, failed=bad, completed=10)


async def test_arguments_that_do_not_fit_fail_that_job_only(queue: Queue) -> None:
    @queue.job(max_attempts=1)
    async def add(a: int, b: int = 1) -> int:
        return a + b

    async with queue.worker():
        for payload in (None, [1], "text", {}, {"a": 1, "c": 2}, {1: 2}):
            with pytest.raises(JobFailed) as caught:
                await queue.enqueue_and_wait("add", payload, wait=5)
            assert caught.value.error.type == "TypeError", payload
        assert await queue.enqueue_and_wait("add", {"a": 1}) == 2
    assert await counted(queue) == {"failed": 6, "completed": 1}
