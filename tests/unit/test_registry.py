"""Which handler runs what, and what holds for a job."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobqueue.errors import ConfigurationError
from jobqueue.options import NO_OPTIONS, JobOptions, Policy, QueueOptions
from jobqueue.registry import Registry, make_handler
from jobqueue.retry import Exponential, Fixed, Immediate, Narrowing
from jobqueue.spec import Spec
from jobqueue.values import UNSET

QUEUE = QueueOptions(max_attempts=7, timeout=70, result_ttl=77, retry=Fixed(7))


async def asynchronous(job: Any) -> None: ...


def synchronous(job: Any) -> None: ...


class Callable_:
    async def __call__(self, job: Any) -> None: ...


class PlainCallable:
    def __call__(self, job: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "is_async"),
    [
        (asynchronous, True),
        (synchronous, False),
        (Callable_(), True),
        (PlainCallable(), False),
        (functools.partial(asynchronous), True),
        (functools.partial(synchronous), False),
        (Callable_().__call__, True),
        (lambda job: None, False),
        (print, False),
    ],
)
def test_async_handlers_are_recognised(function: Any, is_async: bool) -> None:
    assert make_handler(function).is_async is is_async
    assert make_handler(function, is_async=not is_async).is_async is not is_async


@pytest.mark.parametrize("thing", [None, 5, "name", object()])
def test_a_handler_can_be_called(thing: Any) -> None:
    with pytest.raises(TypeError, match=r"^a handler must be a function"):
        make_handler(thing)


def test_a_name_is_found_and_another_is_not() -> None:
    registry = Registry(QUEUE)
    handler = make_handler(synchronous)
    registry.add("a", handler)
    assert registry.find("a") is handler
    assert registry.find("b") is None
    assert registry.names == ["a"]


def test_one_handler_may_serve_all_other_names() -> None:
    registry = Registry(QUEUE)
    own, others = make_handler(synchronous), make_handler(asynchronous)
    registry.add(None, others)
    registry.add("a", own)
    assert registry.find("a") is own
    assert registry.find("b") is others
    assert registry.names == ["a", "*"]


def test_a_name_is_taken_once() -> None:
    registry = Registry(QUEUE)
    registry.add("a", make_handler(synchronous))
    registry.add(None, make_handler(synchronous))
    with pytest.raises(ConfigurationError, match=r"^a handler for 'a' is registered already: give"):
        registry.add("a", make_handler(asynchronous))
    with pytest.raises(ConfigurationError, match=r"^a handler for all other names is registered"):
        registry.add(None, make_handler(asynchronous))
    assert registry.find("a") is not None


@pytest.mark.parametrize("name", ["", "x" * 256, 5])
def test_a_name_is_legal(name: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^the job type's name must"):
        Registry(QUEUE).add(name, make_handler(synchronous))


def test_only_what_can_travel_travels() -> None:
    registry = Registry(QUEUE)
    own = JobOptions(max_attempts=2, retry=lambda attempt, error: 1.0)
    registry.add("function", make_handler(synchronous, own))
    plain = JobOptions(max_attempts=2, retry=Fixed(1))
    registry.add("plain", make_handler(synchronous, plain))
    registry.add(None, make_handler(synchronous, plain))
    assert registry.options_of("function") == JobOptions(max_attempts=2)
    assert registry.options_of("plain") == plain
    assert registry.options_of("another") == NO_OPTIONS
    assert registry.policy("function", Spec(payload=b""), 0).retry is own.retry


# -- what holds for a job ------------------------------------------------------------------------

own_options = st.builds(
    JobOptions,
    timeout=st.sampled_from([UNSET, None, 20]),
    max_attempts=st.sampled_from([UNSET, 2]),
    retry=st.sampled_from([UNSET, Immediate()]),
    result_ttl=st.sampled_from([UNSET, 22]),
)
specs = st.none() | st.builds(
    Spec,
    payload=st.just(b""),
    timeout_ms=st.sampled_from([None, 0, 30_000]),
    max_attempts=st.sampled_from([None, 3]),
    retry=st.sampled_from([None, Exponential()]),
)
NARROWING = Narrowing(give_up_on=(ValueError,))


@given(st.sampled_from(["own", "all others", None]), own_options, specs, st.sampled_from([0, 33]))
def test_the_job_wins_over_its_type_and_its_type_over_the_queue(
    registered: str | None, own: JobOptions, spec: Spec | None, ttl_ms: int
) -> None:
    registry = Registry(QUEUE)
    if registered is None:
        own = NO_OPTIONS
    else:
        handler = make_handler(synchronous, own, give_up_on=(ValueError,))
        registry.add("a" if registered == "own" else None, handler)

    job = spec or Spec(payload=b"")
    timeout = 70 if own.timeout is UNSET else own.timeout
    timeout_ms = (timeout and timeout * 1_000) if job.timeout_ms is None else job.timeout_ms
    assert registry.policy("a", spec, ttl_ms) == Policy(
        max_attempts=job.max_attempts or (7 if own.max_attempts is UNSET else own.max_attempts),
        retry=job.retry or (Fixed(7) if own.retry is UNSET else own.retry),
        narrowing=Narrowing() if registered is None else NARROWING,
        timeout_ms=timeout_ms or None,
        result_ttl_ms=ttl_ms or (77_000 if own.result_ttl is UNSET else 22_000),
    )


def test_one_job_says_nothing_about_the_next() -> None:
    registry = Registry(QUEUE)
    registry.add("a", make_handler(synchronous))
    usual = registry.policy("a", Spec(payload=b""), 0)
    registry.policy("a", Spec(payload=b"", max_attempts=1, timeout_ms=1, retry=Immediate()), 1)
    assert registry.policy("a", Spec(payload=b""), 0) == usual
    assert usual == replace(usual, max_attempts=7, timeout_ms=70_000, result_ttl_ms=77_000)
