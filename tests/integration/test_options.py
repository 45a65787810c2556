"""Bad input is refused at the door: the message names it, and nothing is stored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from jobqueue import (
    ConfigurationError,
    Exponential,
    Fixed,
    Immediate,
    Job,
    JobSpec,
    Linear,
    Queue,
    QueueOptions,
    Retry,
    SerializationError,
    Snooze,
    Worker,
)
from jobqueue.options import JobOptions
from tests.integration.asking import counted, info_of
from tests.integration.programs import MakeQueue

NAN, INF = float("nan"), float("inf")
BAD_SECONDS: list[Any] = [0, 0.0, -1, -0.001, NAN, INF, -INF, 1e12, timedelta(0), timedelta(-1)]
NO_SECONDS: list[Any] = ["5", b"5", True, False, [1], {}, 1j, Decimal(5), datetime.now(UTC)]
BAD_COUNTS: list[Any] = [0, -1, 10**9]
NO_COUNTS: list[Any] = [1.0, 1.5, NAN, "3", True, None, [3]]

# Seconds that have a default which is not None do not take None for an answer.
_CALL_SECONDS = {"delay": [None], "timeout": [], "result_ttl": [None], "wait": []}
_QUEUE_SECONDS = {"lease": [None], "timeout": [], "result_ttl": [None], "grace": [None]}

_CASES: list[tuple[str, Any, type[Exception]]] = []
for _option, _more in _CALL_SECONDS.items():
    _CASES += [(_option, value, ValueError) for value in BAD_SECONDS]
    _CASES += [(_option, value, TypeError) for value in NO_SECONDS + _more]
_CASES += [("max_attempts", value, ValueError) for value in BAD_COUNTS]
_CASES += [("max_attempts", value, TypeError) for value in NO_COUNTS]
_CASES += [("retry", value, TypeError) for value in (None, 5, "fast", Fixed, [1, 2])]
_CASES += [("run_at", datetime(2030, 1, 1), ValueError)]
_CASES += [("run_at", value, TypeError) for value in (5, "tomorrow", None, timedelta(1))]
_CASES += [("id", value, ValueError) for value in ("", "x" * 256)]
_CASES += [("id", value, TypeError) for value in (None, 5, b"id")]


async def test_bad_options_of_a_call(queue: Queue) -> None:
    @queue.job()
    async def task() -> None: ...

    for option, value, error in _CASES:
        options: dict[str, Any] = {option: value}
        with pytest.raises(error, match=option):
            await queue.enqueue("task", **options)
        with pytest.raises(error, match=option):
            await queue.enqueue_and_wait("task", **options)
        with pytest.raises(error, match=option):
            task.options(**options)
        with pytest.raises(error, match=option):
            JobOptions(**options)
    assert await counted(queue) == {}


async def test_bad_options_of_a_job_type_and_of_a_queue(make_queue: MakeQueue) -> None:
    queue = make_queue()
    for option, value, error in _CASES:
        if option not in ("timeout", "result_ttl", "max_attempts", "retry"):
            continue
        options: dict[str, Any] = {option: value}
        with pytest.raises(error, match=option):
            queue.job(**options)
        with pytest.raises(error, match=option):
            queue.handler("task", **options)
        with pytest.raises(error, match=option):
            make_queue(**options)
        with pytest.raises(error, match=option):
            QueueOptions(**options)


_QUEUE_CASES: list[tuple[str, Any, type[Exception]]] = []
for _option, _more in _QUEUE_SECONDS.items():
    _bad = [
        value for value in BAD_SECONDS if not (_option == "grace" and value in (0, timedelta(0)))
    ]
    _QUEUE_CASES += [(_option, value, ValueError) for value in _bad]
    _QUEUE_CASES += [(_option, value, TypeError) for value in NO_SECONDS + _more]
for _option in ("concurrency", "max_attempts", "max_payload", "max_result"):
    _QUEUE_CASES += [(_option, value, ValueError) for value in BAD_COUNTS]
    _QUEUE_CASES += [(_option, value, TypeError) for value in NO_COUNTS]
_QUEUE_CASES += [("lease", 0.01, ValueError)]


@pytest.mark.storages("memory")
def test_bad_options_of_a_queue() -> None:
    for option, value, error in _QUEUE_CASES:
        options: dict[str, Any] = {option: value}
        with pytest.raises(error, match=option):
            Queue("q", "memory://", **options)
    for value in (0, -1, 1.5, "2", True):
        with pytest.raises((TypeError, ValueError), match="concurrency"):
            Worker(Queue("q", "memory://"), concurrency=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("serde", ["yaml", "", 5, object(), JobSpec])
def test_a_serde_that_is_none(serde: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"[Ss]erde"):
        Queue("q", "memory://", serde=serde)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nothing",
        "ftp://host",
        "memory:",
        "memory://a/b",
        "sqlite://",
        "sqlite:///",
        "redis://:x",
    ],
)
def test_a_storage_that_is_none(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOBQUEUE_URL", raising=False)
    if url == "redis://:x":
        url = "redis://localhost:port"
    with pytest.raises(ConfigurationError):
        Queue("q", url)


def test_something_else_than_a_storage() -> None:
    for value in (5, object(), b"memory://"):
        with pytest.raises(TypeError, match="storage"):
            Queue("q", value)  # type: ignore[arg-type]


def test_bad_policies() -> None:
    bad: list[Any] = [-1, NAN, INF, "1", True, None]
    for value in bad:
        for make in (
            lambda value: Fixed(value),
            lambda value: Linear(value),
            lambda value: Linear(max=value),
            lambda value: Exponential(initial=value),
            lambda value: Exponential(factor=value),
            lambda value: Exponential(max=value),
            lambda value: Exponential(jitter=value),
        ):
            with pytest.raises((TypeError, ValueError), match=r"Fixed|Linear|Exponential"):
                make(value)
    with pytest.raises(ValueError, match="jitter"):
        Exponential(jitter=1.5)
    with pytest.raises(ValueError, match="factor"):
        Exponential(factor=0.5)
    for classes in (5, (5,), (Job,)):
        with pytest.raises(TypeError, match="exception classes"):
            Immediate(give_up_on=classes)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [-1, NAN, INF, "1", True])
def test_bad_signals(value: Any) -> None:
    for make in (Retry, Snooze):
        with pytest.raises((TypeError, ValueError), match=make.__name__):
            make(value)
    with pytest.raises((TypeError, ValueError), match="Snooze"):
        Snooze(0)


async def test_delay_and_run_at_exclude_each_other(queue: Queue) -> None:
    soon = datetime.now(UTC) + timedelta(minutes=1)
    with pytest.raises(ValueError, match="delay or run_at"):
        await queue.enqueue("task", delay=5, run_at=soon)
    assert await counted(queue) == {}


async def test_unknown_options(queue: Queue) -> None:
    with pytest.raises(TypeError, match="dealy"):
        await queue.enqueue("task", dealy=5)  # type: ignore[call-arg]
    assert await counted(queue) == {}


async def test_bad_waits_and_times_to_live(queue: Queue) -> None:
    await queue.enqueue("task", id="one")
    for value in BAD_SECONDS + NO_SECONDS:
        for ask in (lambda value: queue.result("one", wait=value), _receipt_wait(queue)):
            with pytest.raises((TypeError, ValueError), match="wait"):
                await ask(value)
        with pytest.raises((TypeError, ValueError), match="seconds"):
            await queue.set_result_ttl("one", value)


def _receipt_wait(queue: Queue) -> Any:
    async def ask(value: Any) -> Any:
        receipt = await queue.enqueue("task", id="one")
        return await receipt.result(value)

    return ask


class _Opaque: ...


async def test_payloads_that_cannot_be_serialised(queue: Queue) -> None:
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    itself: list[Any] = []
    itself.append(itself)
    bad: list[Any] = [_Opaque(), print, {"a": [_Opaque]}, deep, itself, "\ud800", 10**5_000]
    for value in bad:
        with pytest.raises(SerializationError, match="the payload of 'task'"):
            await queue.enqueue("task", value)
        with pytest.raises(SerializationError):
            await queue.enqueue_and_wait("task", value)
    assert await counted(queue) == {}


async def test_a_payload_that_is_too_large(make_queue: MakeQueue) -> None:
    queue = make_queue(max_payload=1_000)
    assert (await queue.enqueue("task", b"x" * 900)).status == "queued"
    with pytest.raises(SerializationError, match="max_payload is 1000"):
        await queue.enqueue("task", b"x" * 1_001)
    assert await counted(queue) == {"queued": 1}


async def test_one_bad_spec_and_none_is_stored(queue: Queue) -> None:
    good = JobSpec("task", 1)
    for bad in (
        JobSpec("task", _Opaque()),
        JobSpec("", 1),
        JobSpec("task", b"x" * 2_000_000),
        JobSpec("task", 1, JobOptions(retry=lambda attempt, error: 1.0)),
    ):
        with pytest.raises((TypeError, ValueError, SerializationError)):
            await queue.enqueue_many([good, bad, good])
    assert await queue.enqueue_many([]) == []
    assert await counted(queue) == {}


async def test_good_options_of_every_kind(queue: Queue) -> None:
    options: list[dict[str, Any]] = [
        {"delay": 0.5},
        {"delay": timedelta(hours=1)},
        {"run_at": datetime.now(UTC) + timedelta(days=1)},
        {"run_at": datetime.now().astimezone()},
        {"timeout": 5, "max_attempts": 1, "result_ttl": 0.001, "wait": 1},
        {"timeout": None, "wait": None, "retry": Linear(5)},
        {"timeout": timedelta(days=365), "result_ttl": timedelta(days=3650)},
        {"max_attempts": 1_000_000, "retry": Exponential(give_up_on=(ValueError,))},
        {"id": "x" * 255},
    ]
    for each in options:
        receipt = await queue.enqueue("task", **each)
        assert receipt.status == "queued"
        assert (await info_of(queue, receipt.id)).name == "task"
