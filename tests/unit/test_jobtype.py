"""Arguments as a map of parameter name to value, and back."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from jobqueue import Queue
from jobqueue.job import Job
from jobqueue.jobtype import JobType
from jobqueue.serde import MsgpackSerde


def none() -> Any:
    return ()


def plain(a: Any, b: Any) -> Any:
    return (a, b)


def defaults(a: Any, b: Any = 2, *, c: Any = 3) -> Any:
    return (a, b, c)


def keywords(*, a: Any, b: Any = 2) -> Any:
    return (a, b)


def positional(a: Any, b: Any = 2, /, c: Any = 3) -> Any:
    return (a, b, c)


def rest(a: Any, *b: Any) -> Any:
    return (a, b)


def options(a: Any, **b: Any) -> Any:
    return (a, b)


def everything(a: Any, /, b: Any = 2, *c: Any, d: Any = 4, **e: Any) -> Any:
    return (a, b, c, d, e)


def awkward(self: Any, job: Any = 1, name: Any = 2, args: Any = 3, kwargs: Any = 4) -> Any:
    return (self, job, name, args, kwargs)


FUNCTIONS: list[Callable[..., Any]] = [
    none,
    plain,
    defaults,
    keywords,
    positional,
    rest,
    options,
    everything,
    awkward,
]


def job_type(function: Callable[..., Any]) -> JobType[..., Any]:
    return JobType(Queue("q", "memory://"), function, "name")


def job(payload: Any) -> Job:
    """As a worker gets it: over the wire."""
    return Job(
        id="a",
        name="name",
        payload=MsgpackSerde().loads(MsgpackSerde().dumps(payload)),
        attempt=1,
        max_attempts=1,
        queue="q",
        enqueued_ms=0,
    )


arguments = st.lists(st.integers(), max_size=4)
named = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d", "e", "self", "name", "x"]), st.integers(), max_size=3
)


def misfit(function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> str | None:
    """What Python says about arguments that do not fit."""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        return str(error)
    return None


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_a_call_elsewhere_is_the_call_here(function: Callable[..., Any]) -> None:
    typed = job_type(function)

    @given(arguments, named)
    def check(args: list[Any], kwargs: dict[str, Any]) -> None:
        message = misfit(function, args, kwargs)
        if message is not None:
            with pytest.raises(TypeError) as caught:
                typed.spec(*args, **kwargs)
            assert str(caught.value) == message
            return
        try:
            expected = function(*args, **kwargs)
        except TypeError:
            # inspect of Python 3.13.0 takes a positional-only parameter by name, beside **kwargs.
            reject()
        spec = typed.spec(*args, **kwargs)
        assert spec.name == "name"
        assert typed.handle(job(spec.payload)) == expected
        assert typed(*args, **kwargs) == expected

    check()


def test_arguments_travel_by_name() -> None:
    assert job_type(defaults).spec(1, c=5).payload == {"a": 1, "c": 5}
    assert job_type(everything).spec(1, 2, 3, d=4, x=5).payload == {
        "a": 1,
        "b": 2,
        "c": (3,),
        "d": 4,
        "e": {"x": 5},
    }


def test_a_default_is_that_of_the_worker() -> None:
    assert "b" not in job_type(defaults).spec(1).payload


def test_a_job_without_a_payload_is_a_call_without_arguments() -> None:
    assert job_type(none).handle(job(None)) == ()
    with pytest.raises(TypeError, match="missing 1 required"):
        job_type(defaults).handle(job(None))


@pytest.mark.parametrize("payload", [[1], "a", 5, True])
def test_a_payload_that_is_no_map_is_refused(payload: Any) -> None:
    with pytest.raises(TypeError, match=r"^the payload must be a map of parameter name to value"):
        job_type(plain).handle(job(payload))


@pytest.mark.parametrize("function", [plain, everything, positional])
@pytest.mark.parametrize("payload", [{"a": 1, "b": 2, "unknown": 3}, {"a": 1, "b": 2, 5: 3}])
def test_an_unknown_argument_is_refused(function: Callable[..., Any], payload: Any) -> None:
    with pytest.raises(TypeError):
        job_type(function).handle(job(payload))


@pytest.mark.parametrize("function", [plain, everything, positional])
def test_a_missing_argument_is_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(TypeError):
        job_type(function).handle(job({}))


def test_a_job_type_is_still_its_function() -> None:
    typed = job_type(defaults)
    assert typed.__name__ == "defaults"
    assert typed.__doc__ == defaults.__doc__
    assert inspect.signature(typed) == inspect.signature(defaults)
    assert repr(typed) == "<JobType 'name' of queue 'q'>"


def test_options_make_another_job_type_of_the_same_function() -> None:
    typed = job_type(defaults)
    other = typed.options(max_attempts=5).options(timeout=2)
    assert typed.spec(1).options != other.spec(1).options
    assert (other.spec(1).options.max_attempts, other.spec(1).options.timeout) == (5, 2)
    assert (other.name, other.queue) == (typed.name, typed.queue)
    assert other(1) == typed(1)


def test_a_bad_option_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"^max_attempts"):
        job_type(defaults).options(max_attempts=0)
    with pytest.raises(TypeError):
        job_type(defaults).options(unknown=1)  # type: ignore[call-arg]


def test_a_function_may_belong_to_two_queues() -> None:
    one = job_type(defaults)
    other: JobType[..., Any] = JobType(Queue("other", "memory://"), one, "other name")
    assert (one.name, one.queue.name) == ("name", "q")
    assert (other.name, other.queue.name) == ("other name", "other")
    assert other.spec(1).payload == {"a": 1}
    assert other(1) == one(1)
