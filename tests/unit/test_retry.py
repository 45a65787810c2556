"""Backoff policies."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jobqueue.packing import pack, unpack
from jobqueue.retry import (
    Exponential,
    Fixed,
    Immediate,
    Linear,
    Narrowing,
    backoff_from_wire,
    backoff_to_wire,
    can_travel,
    check_backoff,
    class_name,
    next_delay,
)

ANY = RuntimeError("any")
NO_NARROWING = Narrowing()


class Special(ValueError):
    """An error of a user."""


seconds = st.floats(min_value=1e-6, max_value=1e9)
errors = st.lists(st.sampled_from([ValueError, OSError, Special, "app.errors.Own"]), max_size=3)
narrow: dict[str, st.SearchStrategy[Any]] = {
    "give_up_on": errors.map(tuple),
    "retry_on": errors.map(tuple),
}
policies = st.one_of(
    st.builds(Immediate, **narrow),
    st.builds(Fixed, seconds | st.just(0.0), **narrow),
    st.builds(Linear, seconds, seconds, **narrow),
    st.builds(Exponential, seconds, st.floats(1, 100), seconds, st.floats(0, 1), **narrow),
)


@given(policies)
def test_a_policy_survives_the_wire(policy: Any) -> None:
    wire = unpack(pack(backoff_to_wire(policy)))
    assert backoff_from_wire(wire) == policy
    assert can_travel(policy)


@given(policies, st.integers(1, 10**6))
def test_a_wait_is_a_finite_number_of_seconds_within_its_bound(policy: Any, attempt: int) -> None:
    delay = policy.delay(attempt)
    assert 0 <= delay <= getattr(policy, "max", float("inf"))
    assert delay < float("inf")


@pytest.mark.parametrize(
    "wire",
    [
        None,
        [],
        ["fixed"],
        ["fixed", [1]],
        ["fixed", [1], [], [], []],
        ["unknown", [], [], []],
        [["fixed"], [1], [], []],
        ["fixed", [-1], [], []],
        ["fixed", ["1"], [], []],
        ["fixed", [1, 2], [], []],
        ["fixed", 1, [], []],
        ["linear", [0, 1], [], []],
        ["exponential", [1, 0.5, 1, 0], [], []],
        ["exponential", [1, 2, 1, 1.1], [], []],
        ["exponential", [1, 2, float("inf"), 0], [], []],
        ["immediate", [], [1], []],
        ["immediate", [], None, []],
        {"fixed": 1},
        "fixed",
    ],
)
def test_what_is_no_policy_is_refused(wire: Any) -> None:
    with pytest.raises(ValueError, match=r"^unknown retry policy"):
        backoff_from_wire(wire)


def test_each_policy_waits_as_it_says() -> None:
    assert [Immediate().delay(n) for n in (1, 2, 9)] == [0, 0, 0]
    assert [Fixed(2.5).delay(n) for n in (1, 2, 9)] == [2.5, 2.5, 2.5]
    assert [Linear(2, max=5).delay(n) for n in (1, 2, 3, 9)] == [2, 4, 5, 5]
    exponential = Exponential(initial=1, factor=3, max=20, jitter=0)
    assert [exponential.delay(n) for n in (1, 2, 3, 4, 9)] == [1, 3, 9, 20, 20]


@pytest.mark.parametrize("attempt", [1, 3, 10])
def test_jitter_spreads_both_ways_and_no_further(attempt: int) -> None:
    policy = Exponential(initial=1, factor=2, max=1e9, jitter=0.2)
    middle = 2.0 ** (attempt - 1)
    delays = [policy.delay(attempt) for _ in range(200)]
    assert all(0.8 * middle <= delay <= 1.2 * middle for delay in delays)
    assert min(delays) < middle < max(delays)


def test_jitter_does_not_go_beyond_the_bound() -> None:
    policy = Exponential(initial=10, factor=2, max=10, jitter=1)
    delays = [policy.delay(1) for _ in range(200)]
    assert max(delays) == 10
    assert min(delays) < 10


@pytest.mark.parametrize("factor", [2, 2.0])
@pytest.mark.parametrize("initial", [1, 1.0])
def test_a_late_attempt_of_an_exponential_policy_waits_for_the_bound(
    initial: float, factor: float
) -> None:
    assert Exponential(initial, factor, 300, 0).delay(1_000_000) == 300


def test_the_default_is_that_of_the_documentation() -> None:
    assert Exponential() == Exponential(initial=1.0, factor=2.0, max=300.0, jitter=0.2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Fixed(-1),
        lambda: Fixed(float("nan")),
        lambda: Fixed(float("inf")),
        lambda: Fixed(10**400),
        lambda: Linear(0),
        lambda: Linear(1, max=0),
        lambda: Exponential(initial=0),
        lambda: Exponential(factor=0.9),
        lambda: Exponential(max=0),
        lambda: Exponential(max=float("inf")),
        lambda: Exponential(jitter=-0.1),
        lambda: Exponential(jitter=1.1),
    ],
)
def test_numbers_have_their_range(make: Any) -> None:
    with pytest.raises(ValueError, match=r"^(Fixed|Linear|Exponential)\.\w+ must be"):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Fixed("1"),  # type: ignore[arg-type]
        lambda: Fixed(True),
        lambda: Linear(None),  # type: ignore[arg-type]
        lambda: Exponential(factor="2"),  # type: ignore[arg-type]
    ],
)
def test_numbers_are_numbers(make: Any) -> None:
    with pytest.raises(TypeError, match=r"^(Fixed|Linear|Exponential)\.\w+ must be a number"):
        make()


# -- which errors --------------------------------------------------------------------------------


def test_an_error_is_matched_by_its_class_and_those_above() -> None:
    policy = Fixed(1, give_up_on=(ValueError,))
    assert policy(1, Special("x")) is None
    assert policy(1, ValueError("x")) is None
    assert policy(1, OSError("x")) == 1


def test_a_class_is_matched_and_not_its_subclasses_only() -> None:
    policy = Fixed(1, retry_on=(Special,))
    assert policy(1, Special("x")) == 1
    assert policy(1, ValueError("x")) is None


def test_giving_up_wins() -> None:
    policy = Immediate(give_up_on=(Special,), retry_on=(ValueError,))
    assert policy(1, Special("x")) is None
    assert policy(1, ValueError("x")) == 0
    assert policy(1, OSError("x")) is None


def test_one_class_need_not_be_in_a_tuple() -> None:
    assert Fixed(1, give_up_on=ValueError) == Fixed(1, give_up_on=(ValueError,))  # type: ignore[arg-type]


def test_a_class_travels_as_its_name() -> None:
    policy = backoff_from_wire(backoff_to_wire(Fixed(1, give_up_on=(Special,))))
    assert policy(1, Special("x")) is None
    assert class_name(Special) == f"{__name__}.Special"
    assert class_name("app.Own") == "app.Own"


def test_every_exception_can_be_named_even_those_that_are_no_errors() -> None:
    policy = Fixed(1, give_up_on=(BaseException,))
    assert policy(1, KeyboardInterrupt()) is None


@pytest.mark.parametrize("value", [int, 5, None, ValueError("x"), (ValueError, 5)])
def test_only_exceptions_can_be_named(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^give_up_on and retry_on take exception classes"):
        Narrowing(give_up_on=value)


@given(policies, st.sampled_from([ValueError(), OSError(), Special(), KeyError()]))
def test_a_policy_answers_for_its_own_narrowing(policy: Any, error: Exception) -> None:
    assert (policy(1, error) is None) == policy.gives_up(error)


# -- a user's own function -----------------------------------------------------------------------


def test_a_function_is_a_policy_but_cannot_travel() -> None:
    function = lambda attempt, error: 1.0  # noqa: E731
    assert check_backoff(function) is function
    assert not can_travel(function)
    with pytest.raises(TypeError, match=r"^retry: a function cannot travel with a job; give it to"):
        backoff_to_wire(function)


def test_a_subclass_of_a_user_cannot_travel_as_its_base() -> None:
    class Own(Narrowing):
        kind = "fixed"

        def __call__(self, attempt: int, error: BaseException) -> float:
            return 1.0

    assert not can_travel(Own())


@pytest.mark.parametrize("value", [None, 5, "fixed", Fixed, lambda: Fixed])
def test_a_policy_can_be_called(value: Any) -> None:
    if callable(value) and not isinstance(value, type):
        assert check_backoff(value) is value
    else:
        with pytest.raises(TypeError, match=r"^retry must be a policy"):
            check_backoff(value)


@pytest.mark.parametrize("answer", [-1, float("nan"), float("inf"), "1", True, [], 1j])
def test_a_function_that_answers_nonsense_gives_up(answer: Any) -> None:
    error = ValueError("the job's own")
    assert next_delay(lambda attempt, error: answer, NO_NARROWING, 1, error) is None
    assert any("retry policy failed" in note for note in error.__notes__)


def test_a_function_that_fails_gives_up() -> None:
    def policy(attempt: int, error: BaseException) -> float:
        raise LookupError("a bug")

    error = ValueError("the job's own")
    assert next_delay(policy, NO_NARROWING, 1, error) is None
    assert error.__notes__ == ["retry policy failed: LookupError('a bug')"]


def test_a_function_may_give_up() -> None:
    error = ValueError("the job's own")
    assert next_delay(lambda attempt, error: None, NO_NARROWING, 1, error) is None
    assert not hasattr(error, "__notes__")


def test_a_function_is_told_the_attempt_and_the_error() -> None:
    told: list[Any] = []

    def policy(attempt: int, error: BaseException) -> float:
        told.append((attempt, error))
        return 2

    assert next_delay(policy, NO_NARROWING, 7, ANY) == 2
    assert told == [(7, ANY)]


def test_the_narrowing_of_a_job_type_holds_for_any_policy() -> None:
    narrowing = Narrowing(retry_on=(OSError,))
    assert next_delay(Fixed(1), narrowing, 1, OSError()) == 1
    assert next_delay(Fixed(1), narrowing, 1, ValueError()) is None
    assert next_delay(lambda attempt, error: 1, narrowing, 1, ValueError()) is None


@given(policies, policies)
def test_policies_are_equal_when_they_say_the_same(one: Any, other: Any) -> None:
    assume(one != other)
    assert backoff_to_wire(one) != backoff_to_wire(other)


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """Takes no notes."""

    number: int = 1


class Unprintable(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("error", [Frozen(), ValueError()], ids=["frozen", "plain"])
@pytest.mark.parametrize("failure", [Frozen(), Unprintable()], ids=["frozen", "unprintable"])
def test_a_function_may_fail_in_any_way(error: Exception, failure: Exception) -> None:
    def policy(attempt: int, error: BaseException) -> float:
        raise failure

    assert next_delay(policy, Narrowing(), 1, error) is None
