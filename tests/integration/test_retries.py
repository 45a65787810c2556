"""Attempts: when they are counted, how long a retry waits, and what ends them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from jobqueue import (
    Cancel,
    Exponential,
    Fixed,
    Immediate,
    Job,
    JobCancelled,
    JobFailed,
    Linear,
    Queue,
    Retry,
    Snooze,
)
from jobqueue.retry import Backoff
from tests.integration.asking import counted, info_of, takes_at_most, until_state
from tests.integration.programs import MakeQueue
from tests.support.wait import wait_until


class _Flaky:
    """A handler that fails a number of times, and notes when it was called and as which attempt."""

    def __init__(self, failures: int = 1_000, error: Callable[[], Any] = ValueError) -> None:
        self.failures = failures
        self.error = error
        self.attempts: list[int] = []
        self.times: list[float] = []

    async def __call__(self, job: Job) -> str:
        self.attempts.append(job.attempt)
        self.times.append(time.monotonic())
        if len(self.attempts) <= self.failures:
            raise self.error()
        return f"worked at attempt {job.attempt}"

    @property
    def waits(self) -> list[float]:
        return [after - before for before, after in zip(self.times, self.times[1:], strict=False)]


async def test_a_failure_is_tried_again_until_it_works(make_queue: MakeQueue) -> None:
    queue = make_queue(retry=Fixed(0.02))
    flaky = _Flaky(2)
    queue.handler("task")(flaky)
    async with queue.worker():
        receipt = await queue.enqueue("task")
        assert await receipt.result(5) == "worked at attempt 3"
    assert flaky.attempts == [1, 2, 3]
    info = await info_of(queue, receipt.id)
    assert (info.state, info.attempt, info.error) == ("completed", 3, None)


async def test_it_fails_for_good_after_max_attempts(make_queue: MakeQueue) -> None:
    queue = make_queue(retry=Immediate(), max_attempts=4)
    flaky = _Flaky(error=lambda: ValueError(f"time {len(flaky.attempts)}"))
    queue.handler("task")(flaky)
    async with queue.worker():
        with pytest.raises(JobFailed) as caught:
            await queue.enqueue_and_wait("task", wait=5)
    assert flaky.attempts == [1, 2, 3, 4]
    assert (caught.value.error.attempts, caught.value.error.message) == (4, "time 4")


@pytest.mark.parametrize("layer", ["queue", "handler", "call"])
async def test_max_attempts_of_one_never_retries(make_queue: MakeQueue, layer: str) -> None:
    of_queue: dict[str, Any] = {"max_attempts": 1} if layer == "queue" else {"max_attempts": 5}
    of_handler: dict[str, Any] = {"max_attempts": 1} if layer == "handler" else {}
    of_call: dict[str, Any] = {"max_attempts": 1} if layer == "call" else {}
    queue = make_queue(retry=Immediate(), **of_queue)
    flaky = _Flaky()
    queue.handler("task", **of_handler)(flaky)
    async with queue.worker():
        with pytest.raises(JobFailed):
            await queue.enqueue_and_wait("task", id="one", wait=5, **of_call)
    assert flaky.attempts == [1]
    info = await info_of(queue, "one")
    assert (info.attempt, info.max_attempts) == (1, 1)


async def test_a_retry_waits_for_its_backoff(make_queue: MakeQueue) -> None:
    queue = make_queue(retry=Linear(0.15), max_attempts=3)
    flaky = _Flaky(2)
    queue.handler("task")(flaky)
    async with queue.worker():
        receipt = await queue.enqueue("task", id="one")
        info = await until_state(queue, "one", "retrying")
        assert info.error is not None
        assert info.error.type == "ValueError"
        assert info.due_at is not None
        assert info.started_at is not None
        due_after = info.due_at - info.started_at
        assert timedelta(seconds=0.14) < due_after < timedelta(seconds=0.3)
        await receipt.result(5)
    first, second = flaky.waits
    assert 0.14 <= first < 0.5
    assert 0.29 <= second < 0.7


async def test_a_worker_that_comes_later_waits_too(make_queue: MakeQueue) -> None:
    queue, other = make_queue(retry=Fixed(0.5)), make_queue()
    flaky = _Flaky(1)
    for each in (queue, other):
        each.handler("task")(flaky)
    receipt = await queue.enqueue("task", id="one")
    async with queue.worker():
        await until_state(queue, "one", "retrying")
    async with other.worker():
        assert await receipt.result(5) == "worked at attempt 2"
    assert flaky.waits[0] >= 0.49


async def test_retries_do_not_overtake(make_queue: MakeQueue) -> None:
    queue = make_queue(concurrency=1, retry=Fixed(0.1))
    runs: list[str] = []

    @queue.handler("task")
    async def task(job: Job) -> None:
        runs.append(f"{job.id}{job.attempt}")
        await asyncio.sleep(0.03)
        if job.id == "a" and job.attempt == 1:
            raise ValueError

    for id in "abcdefgh":
        await queue.enqueue("task", id=id)
    async with queue.worker():
        await until_state(queue, "a", "completed")
    # When its backoff is over it goes to the end of those that wait.
    assert runs == ["a1", "b1", "c1", "d1", "e1", "f1", "g1", "h1", "a2"]


async def test_an_immediate_retry_does_not_overtake_either(make_queue: MakeQueue) -> None:
    queue = make_queue(concurrency=1, retry=Immediate())
    runs: list[str] = []

    @queue.handler("task")
    async def task(job: Job) -> None:
        runs.append(f"{job.id}{job.attempt}")
        if job.attempt == 1:
            raise ValueError

    for id in "abc":
        await queue.enqueue("task", id=id)
    async with queue.worker():
        await until_state(queue, "c", "completed")
    assert runs == ["a1", "b1", "c1", "a2", "b2", "c2"]


async def test_a_waiting_retry_leaves_its_slot_to_others(make_queue: MakeQueue) -> None:
    queue = make_queue(concurrency=1, retry=Fixed(30))
    queue.handler("bad")(_Flaky())
    queue.handler("good")(lambda job: "good")
    async with queue.worker():
        await queue.enqueue("bad", id="bad")
        with takes_at_most(1):
            assert await queue.enqueue_and_wait("good") == "good"
    assert await counted(queue) == {"retrying": 1, "completed": 1}


async def test_attempts_are_counted_when_a_job_is_claimed(make_queue: MakeQueue) -> None:
    queue = make_queue(retry=Immediate())
    gate = asyncio.Event()
    seen: list[int] = []

    @queue.handler("task")
    async def task(job: Job) -> None:
        seen.append(job.attempt)
        await gate.wait()
        gate.clear()
        raise ValueError

    await queue.enqueue("task", id="one", max_attempts=2)
    assert (await info_of(queue, "one")).attempt == 0
    async with queue.worker():
        for attempt in (1, 2):
            await wait_until(lambda attempt=attempt: seen[-1:] == [attempt])
            info = await info_of(queue, "one")
            assert (info.state, info.attempt) == ("running", attempt)
            gate.set()
        await until_state(queue, "one", "failed")


# -- what a handler says ---------------------------------------------------------------------------


def _says(signal: Callable[[], Exception], how: str, times: int = 1) -> _Flaky:
    """A handler that raises, or returns, a signal so many times."""
    if how == "raised":
        return _Flaky(times, signal)

    class Returning(_Flaky):
        async def __call__(self, job: Job) -> Any:
            try:
                return await super().__call__(job)
            except Exception as error:
                return error

    return Returning(times, signal)


_HOW = pytest.mark.parametrize("how", ["raised", "returned"])


@_HOW
async def test_retry_with_a_delay(make_queue: MakeQueue, how: str) -> None:
    queue = make_queue(retry=Fixed(30))
    handler = _says(lambda: Retry(0.2), how)
    queue.handler("task")(handler)
    async with queue.worker():
        assert await queue.enqueue_and_wait("task", wait=5) == "worked at attempt 2"
    assert 0.19 <= handler.waits[0] < 1


@_HOW
async def test_retry_without_a_delay_asks_the_policy(make_queue: MakeQueue, how: str) -> None:
    queue = make_queue(retry=Fixed(0.2))
    handler = _says(Retry, how)
    queue.handler("task")(handler)
    async with queue.worker():
        assert await queue.enqueue_and_wait("task", wait=5) == "worked at attempt 2"
    assert 0.19 <= handler.waits[0] < 1


async def test_retry_with_no_delay_at_all(make_queue: MakeQueue) -> None:
    queue = make_queue(retry=Fixed(30))
    queue.handler("task")(_says(lambda: Retry(0), "raised"))
    async with queue.worker():
        with takes_at_most(1):
            assert await queue.enqueue_and_wait("task", wait=5) == "worked at attempt 2"


@_HOW
async def test_retry_is_charged_and_ends_with_max_attempts(queue: Queue, how: str) -> None:
    handler = _says(lambda: Retry(0.01), how, times=100)
    queue.handler("task")(handler)
    async with queue.worker():
        with pytest.raises(JobFailed, match="asked for a retry after its last attempt") as caught:
            await queue.enqueue_and_wait("task", max_attempts=3, wait=5)
    assert handler.attempts == [1, 2, 3]
    assert caught.value.error.attempts == 3


@_HOW
async def test_snooze_charges_no_attempt(queue: Queue, how: str) -> None:
    handler = _says(lambda: Snooze(0.1), how, times=3)
    queue.handler("task")(handler)
    async with queue.worker():
        receipt = await queue.enqueue("task", id="one", max_attempts=1)
        info = await until_state(queue, "one", "scheduled")
        assert (info.attempt, info.error) == (0, None)
        assert await receipt.result(5) == "worked at attempt 1"
    assert handler.attempts == [1, 1, 1, 1]
    assert all(wait >= 0.09 for wait in handler.waits)
    assert (await info_of(queue, "one")).attempt == 1


@_HOW
async def test_cancel_ends_the_job(queue: Queue, how: str) -> None:
    handler = _says(lambda: Cancel("not needed"), how)
    queue.handler("task")(handler)
    async with queue.worker():
        with pytest.raises(JobCancelled, match="not needed"):
            await queue.enqueue_and_wait("task", id="one", wait=5)
    assert handler.attempts == [1]
    info = await info_of(queue, "one")
    assert info.error is not None
    assert (info.state, info.error.message) == ("cancelled", "not needed")


@pytest.mark.parametrize("signal", [Retry(0.05), Snooze(0.05), Cancel("enough")])
async def test_a_sync_handler_says_the_same(queue: Queue, signal: Exception) -> None:
    runs: list[int] = []

    @queue.handler("task")
    def task(job: Job) -> str:
        runs.append(job.attempt)
        if len(runs) == 1:
            raise signal
        return "done"

    async with queue.worker():
        if isinstance(signal, Cancel):
            with pytest.raises(JobCancelled, match="enough"):
                await queue.enqueue_and_wait("task", wait=5)
        else:
            assert await queue.enqueue_and_wait("task", wait=5) == "done"
            assert runs == ([1, 2] if isinstance(signal, Retry) else [1, 1])


# -- which errors, and how long --------------------------------------------------------------------


class _Base(Exception): ...


class _Derived(_Base): ...


_NARROWINGS: list[tuple[dict[str, Any], type[Exception], int]] = [
    ({"give_up_on": (_Base,)}, _Base, 1),
    ({"give_up_on": (_Base,)}, _Derived, 1),
    ({"give_up_on": (_Derived,)}, _Base, 3),
    ({"give_up_on": (KeyError, OSError)}, FileNotFoundError, 1),
    ({"retry_on": (_Base,)}, _Derived, 3),
    ({"retry_on": (_Base,)}, ValueError, 1),
    ({"retry_on": (_Base,), "give_up_on": (_Derived,)}, _Derived, 1),
    ({"retry_on": (_Base,), "give_up_on": (_Derived,)}, _Base, 3),
    ({"retry_on": (TimeoutError,)}, TimeoutError, 3),
]


async def test_errors_that_are_retried_and_errors_that_are_not(make_queue: MakeQueue) -> None:
    queue = make_queue(retry=Immediate())
    handlers: dict[str, tuple[_Flaky, int]] = {}
    policies: dict[str, dict[str, Any]] = {}
    for n, (narrowing, error, attempts) in enumerate(_NARROWINGS):
        ways: dict[str, dict[str, Any]] = {
            "of the handler": narrowing,
            "of its policy": {"retry": Immediate(**narrowing)},
            "of the call": {},
        }
        for way, options in ways.items():
            name = f"{n} {way}"
            handlers[name] = _Flaky(error=error), attempts
            queue.handler(name, **options)(handlers[name][0])
            # Classes travel by name.
            policies[name] = {} if options else {"retry": Immediate(**narrowing)}
    async with queue.worker():
        receipts = {name: await queue.enqueue(name, **policies[name]) for name in handlers}
        for name, receipt in receipts.items():
            handler, attempts = handlers[name]
            with pytest.raises(JobFailed) as caught:
                await receipt.result(5)
            assert len(handler.attempts) == attempts, name
            assert caught.value.error.type == handler.error.__name__


async def test_the_users_own_backoff_function(make_queue: MakeQueue) -> None:
    asked: list[tuple[int, str]] = []

    def backoff(attempt: int, error: BaseException) -> float | None:
        asked.append((attempt, str(error)))
        return None if attempt == 3 else 0.05 * attempt

    queue = make_queue(max_attempts=10)
    flaky = _Flaky(error=lambda: ValueError(f"time {len(flaky.attempts)}"))
    queue.handler("task", retry=backoff)(flaky)
    async with queue.worker():
        with pytest.raises(JobFailed) as caught:
            await queue.enqueue_and_wait("task", wait=5)
    assert asked == [(1, "time 1"), (2, "time 2"), (3, "time 3")]
    assert caught.value.error.attempts == 3
    assert flaky.waits[0] >= 0.045
    assert flaky.waits[1] >= 0.095


async def test_a_backoff_function_that_answers_nonsense_gives_up(queue: Queue) -> None:
    nonsense: list[Any] = [-1, float("nan"), float("inf"), "soon", True, [1], None]
    async with queue.worker():
        for n, answer in enumerate(nonsense):
            flaky = _Flaky(error=lambda: ValueError("the real error"))
            queue.handler(f"{n}", retry=lambda attempt, error, answer=answer: answer)(flaky)
            with pytest.raises(JobFailed, match="the real error"):
                await queue.enqueue_and_wait(f"{n}", wait=5)
            assert flaky.attempts == [1]


async def test_a_backoff_function_that_raises_gives_up(make_queue: MakeQueue) -> None:
    def backoff(attempt: int, error: BaseException) -> float:
        raise KeyError("in the policy")

    queue = make_queue(retry=backoff)
    queue.handler("task")(_Flaky(error=lambda: ValueError("the real error")))
    queue.handler("good")(lambda job: "good")
    async with queue.worker():
        with pytest.raises(JobFailed, match="the real error") as caught:
            await queue.enqueue_and_wait("task", wait=5)
        assert "in the policy" in caught.value.error.traceback
        assert await queue.enqueue_and_wait("good", wait=5) == "good"


async def test_a_huge_delay_of_a_backoff_function(make_queue: MakeQueue) -> None:
    queue = make_queue(retry=lambda attempt, error: 1e300)
    queue.handler("task")(_Flaky())
    queue.handler("good")(lambda job: "good")
    async with queue.worker():
        await queue.enqueue("task", id="one")
        assert await queue.enqueue_and_wait("good", wait=5) == "good"

        async def decided() -> bool:
            return (await info_of(queue, "one")).state in ("retrying", "failed")

        await wait_until(decided, 2)


@pytest.mark.parametrize(
    ("policy", "waits"),
    [
        (Immediate(), [0, 0]),
        (Fixed(0.1), [0.1, 0.1]),
        (Linear(0.1, max=0.15), [0.1, 0.15]),
        (Exponential(0.05, 3, jitter=0), [0.05, 0.15]),
        (Exponential(0.1, 100, max=0.12, jitter=0.5), [0.05, 0.06]),
    ],
    ids=repr,
)
async def test_each_policy_of_a_call(queue: Queue, policy: Backoff, waits: list[float]) -> None:
    flaky = _Flaky(2)
    queue.handler("task")(flaky)
    async with queue.worker():
        await queue.enqueue_and_wait("task", retry=policy, wait=5)
    for took, least in zip(flaky.waits, waits, strict=True):
        assert least - 0.005 <= took < least + 0.9


async def test_the_closest_policy_counts(make_queue: MakeQueue) -> None:
    queue = make_queue(retry=Fixed(60))
    queue.handler("of the queue")(_Flaky())
    queue.handler("of the handler", retry=Immediate())(_Flaky())
    async with queue.worker():
        await queue.enqueue("of the queue", id="queue")
        await queue.enqueue("of the handler", id="handler")
        await queue.enqueue("of the handler", id="call", retry=Fixed(60))
        await until_state(queue, "queue", "retrying")
        await until_state(queue, "handler", "failed")
        await until_state(queue, "call", "retrying")


async def test_the_worker_decides_where_the_producer_says_nothing(make_queue: MakeQueue) -> None:
    producer = make_queue(retry=Fixed(60), max_attempts=7)
    worker = make_queue(retry=Immediate(), max_attempts=2)
    flaky = _Flaky()
    worker.handler("task")(flaky)
    async with worker.worker():
        with pytest.raises(JobFailed):
            await producer.enqueue_and_wait("task", wait=5)
    assert flaky.attempts == [1, 2]


async def test_a_function_cannot_travel_with_a_call(make_queue: MakeQueue) -> None:
    queue = make_queue()
    with pytest.raises(TypeError, match="retry: a function cannot travel"):
        await queue.enqueue("task", retry=lambda attempt, error: 1.0)
    assert await counted(queue) == {}
