"""The typed layer: functions that can be called, enqueued, or called elsewhere."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from jobqueue import (
    ConfigurationError,
    Job,
    JobFailed,
    JobSpec,
    JobType,
    Queue,
    SerializationError,
    current_job,
)
from tests.integration.asking import counted, info_of, takes_at_most
from tests.integration.programs import MakeQueue


async def test_enqueue_call_and_direct_call(queue: Queue) -> None:
    @queue.job()
    async def add(a: int, b: int = 10) -> int:
        """Adds."""
        return a + b

    @queue.job()
    def sync_add(a: int, b: int = 10) -> int:
        return a + b

    assert await add(1, 2) == 3  # the plain functions
    assert sync_add(1, 2) == 3
    assert sync_add(5) == 15
    assert (add.name, add.__name__, add.__doc__) == ("add", "add", "Adds.")
    async with queue.worker():
        assert await add.call(1, 2) == 3
        assert await add.call(1) == 11
        assert await add.call(b=1, a=2) == 3
        assert await sync_add.call(1, b=2) == 3
        receipt = await add.enqueue(4, b=5)
        assert receipt.status == "queued"
        assert await receipt.result(5) == 9
    info = await receipt.info()
    assert info is not None
    assert (info.name, info.payload) == ("add", {"a": 4, "b": 5})


async def test_arguments_of_every_kind(queue: Queue) -> None:
    @queue.job()
    async def everything(
        a: Any, /, b: Any, c: Any = "c", *args: Any, d: Any, e: Any = "e", **kwargs: Any
    ) -> list[Any]:
        return [a, b, c, list(args), d, e, kwargs]

    @queue.job()
    async def only_args(*args: int) -> int:
        return sum(args)

    @queue.job()
    async def only_kwargs(**kwargs: int) -> dict[str, int]:
        return kwargs

    @queue.job()
    def positional_only(a: int, b: int = 2, /) -> list[int]:
        return [a, b]

    @queue.job()
    async def keyword_only(*, a: int, b: int = 2) -> list[int]:
        return [a, b]

    @queue.job()
    async def same_names(payload: int, self: int, id: str, job: int, args: int) -> list[Any]:
        return [payload, self, id, job, args]

    async with queue.worker():
        assert await everything.call(1, 2, d=4) == [1, 2, "c", [], 4, "e", {}]
        assert await everything.call(1, 2, 3, 4, 5, d=6, e=7, f=8, a=9) == [
            *[1, 2, 3, [4, 5], 6, 7],
            {"f": 8, "a": 9},
        ]
        assert await only_args.call(1, 2, 3) == 6
        assert await only_args.call() == 0
        assert await only_kwargs.call(x=1, kwargs=2) == {"x": 1, "kwargs": 2}
        assert await positional_only.call(1) == [1, 2]
        assert await positional_only.call(1, 3) == [1, 3]
        assert await keyword_only.call(a=5) == [5, 2]
        assert await same_names.call(1, 2, "3", job=4, args=5) == [1, 2, "3", 4, 5]


async def test_arguments_travel_as_a_map_of_names(queue: Queue) -> None:
    @queue.job()
    async def resize(path: str, *, width: int = 256) -> str:
        return f"{path} {width}"

    async with queue.worker():
        # As a program in another language would enqueue it.
        assert await queue.enqueue_and_wait("resize", {"path": "a", "width": 1}) == "a 1"
        assert await queue.enqueue_and_wait("resize", {"path": "a"}) == "a 256"
    receipt = await resize.enqueue("b.jpg")
    assert (await info_of(queue, receipt.id)).payload == {"path": "b.jpg"}


async def test_a_default_is_the_workers(make_queue: MakeQueue) -> None:
    producer, worker = make_queue(), make_queue()

    def old(a: int, b: int = 1) -> list[int]:
        return [a, b]

    def new(a: int, b: int = 2, c: int = 3) -> list[int]:
        return [a, b, c]

    at_producer = producer.job("task")(old)
    worker.job("task")(new)
    async with worker.worker():
        assert await at_producer.call(0) == [0, 2, 3]


async def test_arguments_that_do_not_fit_raise_in_the_caller(queue: Queue) -> None:
    @queue.job()
    async def task(a: int, *, b: int = 0) -> None: ...

    call: Any = task
    for args, kwargs in (
        ((), {}),
        ((1, 2), {}),
        ((1,), {"c": 3}),
        ((1,), {"a": 1}),
        ((), {"b": 1}),
    ):
        for method in (call.enqueue, call.call):
            with pytest.raises(TypeError):
                await method(*args, **kwargs)
        with pytest.raises(TypeError):
            call.spec(*args, **kwargs)
    for method in (call.enqueue, call.call):
        with pytest.raises(SerializationError, match="task"):
            await method(object())
    assert await counted(queue) == {}


async def test_options_never_mix_with_arguments(queue: Queue) -> None:
    @queue.job(result_ttl=100)
    async def task(id: str, delay: int, wait: int = 0) -> list[Any]:
        return [id, delay, wait, current_job().id, current_job().max_attempts]

    later = task.options(id="the id", max_attempts=7)
    assert isinstance(later, JobType)
    async with queue.worker():
        assert await later.call("argument", 1) == ["argument", 1, 0, "the id", 7]
        plain = await task.call("argument", 1)
        assert plain[3] != "the id"
        assert plain[4] == 3
    again = await later.enqueue("other", 2)
    assert again.status == "completed"
    combined = later.options(id="another id").options(delay=60)
    receipt = await combined.enqueue("x", 1)
    info = await info_of(queue, receipt.id)
    assert (info.id, info.state, info.max_attempts) == ("another id", "scheduled", 7)
    run_at = combined.options(run_at=datetime(2001, 1, 1, tzinfo=UTC), id="third")
    assert (await run_at.enqueue("x", 1)).state == "queued"  # it takes the delay's place


async def test_specs_are_inert_and_go_together(queue: Queue) -> None:
    @queue.job()
    async def double(n: int) -> int:
        return 2 * n

    @queue.job()
    def shout(text: str, *, mark: str = "!") -> str:
        return text.upper() + mark

    specs: list[JobSpec[Any]] = [
        double.spec(1),
        shout.options(id="s").spec("hello", mark="?"),
        double.spec(n=3),
    ]
    assert await counted(queue) == {}
    with pytest.raises(AttributeError):
        specs[0].payload = None  # type: ignore[misc]
    receipts = await queue.enqueue_many(specs)
    assert receipts[1].id == "s"
    assert [(await info_of(queue, receipt.id)).payload for receipt in receipts] == [
        {"n": 1},
        {"text": "hello", "mark": "?"},
        {"n": 3},
    ]
    assert [receipt.status for receipt in await queue.enqueue_many(specs)] == [
        "queued",
        "duplicate",
        "queued",
    ]
    async with queue.worker():
        assert [await receipt.result(5) for receipt in receipts] == [2, "HELLO?", 6]


async def test_enqueue_many_of_thousands(make_queue: MakeQueue) -> None:
    queue = make_queue(concurrency=100)

    @queue.job()
    async def double(n: int) -> int:
        return 2 * n

    with takes_at_most(10):
        receipts = await queue.enqueue_many(double.spec(n) for n in range(1_700))
        assert len({receipt.id for receipt in receipts}) == 1_700
        async with queue.worker():
            results = await asyncio.gather(*(receipt.result(10) for receipt in receipts))
    assert results == [2 * n for n in range(1_700)]


async def test_names_of_job_types(queue: Queue) -> None:
    @queue.job("other name")
    async def task() -> str:
        return current_job().name

    @queue.job(name="by keyword")
    def task_2() -> str:
        return current_job().name

    assert (task.name, task_2.name) == ("other name", "by keyword")
    with pytest.raises(ConfigurationError, match="registered already"):

        @queue.job("other name")
        async def third() -> None: ...

    async with queue.worker():
        assert await task.call() == "other name"
        assert await task_2.call() == "by keyword"


async def test_a_sync_job_type_runs_in_a_thread(queue: Queue) -> None:
    @queue.job()
    def where() -> list[Any]:
        return [threading.get_ident(), current_job().name]

    async with queue.worker():
        thread, name = await where.call()
    assert thread != threading.get_ident()
    assert name == "where"


async def test_options_of_the_decorator(make_queue: MakeQueue) -> None:
    queue = make_queue(max_attempts=9, timeout=50)
    seen: list[Job] = []

    @queue.job(max_attempts=2, timeout=0.2, result_ttl=77, retry=lambda attempt, error: 0.01)
    async def task() -> None:
        seen.append(current_job())
        await asyncio.sleep(5)

    async with queue.worker():
        with pytest.raises(JobFailed) as caught:
            await task.options(id="one").call()
    assert caught.value.error.reason == "timeout"
    assert [job.attempt for job in seen] == [1, 2]
    assert seen[0].max_attempts == 2
    info = await info_of(queue, "one")
    assert info.expires_at is not None
    assert info.finished_at is not None
    assert round((info.expires_at - info.finished_at).total_seconds()) == 77
    assert info.max_attempts == 2


async def test_calling_waits_as_long_as_it_is_told(queue: Queue) -> None:
    @queue.job()
    async def task() -> None: ...

    with takes_at_most(1), pytest.raises(TimeoutError):
        await task.options(wait=0.1).call()
