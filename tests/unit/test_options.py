"""Every option: its default, its check, and who overrides whom."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobqueue.options import NO_OPTIONS, JobOptions, QueueOptions
from jobqueue.retry import Exponential, Fixed
from jobqueue.values import MAX_MS, UNSET, check_count, due_ms, to_ms

NO_SECONDS = ["1", b"1", True, False, [1], object(), 1j]
BAD_SECONDS = [
    -1,
    -0.001,
    float("nan"),
    float("inf"),
    float("-inf"),
    timedelta(microseconds=-1),
    timedelta.max,
    MAX_MS / 1000 + 1,
    10**400,
]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECONDS = ["delay", "timeout", "result_ttl", "wait"]


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        (1, 1_000),
        (1.5, 1_500),
        (timedelta(days=1), 86_400_000),
        (0.001, 1),
        (0.0001, 1),
        (5e-324, 1),
        (timedelta(microseconds=1), 1),
        (MAX_MS // 1000, MAX_MS),
    ],
)
def test_seconds_become_milliseconds_and_never_none(value: Any, ms: int) -> None:
    assert to_ms(value, "delay") == ms


def test_zero_is_zero_where_it_is_allowed() -> None:
    assert to_ms(0, "grace", zero=True) == to_ms(timedelta(0), "grace", zero=True) == 0
    with pytest.raises(ValueError, match="delay must be more than 0"):
        to_ms(0, "delay")
    with pytest.raises(ValueError, match="grace must be at least 0"):
        to_ms(-1, "grace", zero=True)


@given(st.integers(1, MAX_MS))
@example(2_007)
@example(65_037)
def test_whole_milliseconds_stay_what_they_are(ms: int) -> None:
    assert to_ms(timedelta(milliseconds=ms), "delay") == ms
    assert to_ms(ms / 1000, "delay") == ms


@given(st.integers(1, 10**13))
def test_a_moment_of_whole_milliseconds_stays_what_it_is(ms: int) -> None:
    assert due_ms(EPOCH + timedelta(milliseconds=ms)) == ms


@given(st.floats(min_value=0.001, max_value=MAX_MS / 1000))
def test_seconds_are_rounded_up_by_less_than_a_millisecond(seconds: float) -> None:
    assert -0.001 < to_ms(seconds, "delay") - seconds * 1000 < 1


@pytest.mark.parametrize("value", NO_SECONDS)
def test_what_is_no_number_of_seconds_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^delay must be seconds"):
        to_ms(value, "delay")


@pytest.mark.parametrize("value", BAD_SECONDS)
def test_seconds_have_their_range(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^delay must be"):
        to_ms(value, "delay")


def test_a_count_is_a_whole_number_from_one() -> None:
    assert check_count(1, "concurrency") == 1
    assert check_count(5, "concurrency", maximum=5) == 5
    for value in (0, -1, 6):
        with pytest.raises(ValueError, match=r"^concurrency must be between 1 and 5, not"):
            check_count(value, "concurrency", maximum=5)
    for value in (True, 1.0, "1", None):
        with pytest.raises(TypeError, match=r"^concurrency must be a whole number"):
            check_count(value, "concurrency")


def test_a_moment_is_rounded_up_to_the_millisecond() -> None:
    assert due_ms(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)) == 1_000
    assert due_ms(datetime(1970, 1, 1, 0, 0, 1, 1, tzinfo=UTC)) == 1_001


def test_a_moment_before_the_epoch_is_in_the_past_but_given() -> None:
    assert due_ms(datetime(1960, 1, 1, tzinfo=UTC)) == 1
    assert due_ms(datetime(1970, 1, 1, tzinfo=UTC)) == 1


@given(st.datetimes(timezones=st.timezones() | st.just(timezone(timedelta(hours=-3, minutes=-7)))))
def test_the_time_zone_counts(moment: datetime) -> None:
    assert due_ms(moment) == due_ms(moment.astimezone(UTC))


@pytest.mark.parametrize("moment", [datetime.min, datetime.max])
@pytest.mark.parametrize("hours", [-14, 0, 14])
def test_the_ends_of_the_calendar_are_moments_too(moment: datetime, hours: int) -> None:
    assert due_ms(moment.replace(tzinfo=timezone(timedelta(hours=hours)))) >= 1


def test_a_moment_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^run_at must have a time zone"):
        due_ms(datetime(2030, 1, 1))
    for value in (1, "2030-01-01", None):
        with pytest.raises(TypeError, match=r"^run_at must be a datetime"):
            due_ms(value)


# -- the options of a job ------------------------------------------------------------------------


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", NO_SECONDS)
def test_a_job_option_in_seconds_is_one(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be seconds"):
        JobOptions(**{name: value})


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", [*BAD_SECONDS, 0, 0.0, timedelta(0)])
def test_a_job_option_in_seconds_has_its_range(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be"):
        JobOptions(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("id", "", ValueError),
        ("id", "x" * 256, ValueError),
        ("id", b"a", TypeError),
        ("id", None, TypeError),
        ("delay", None, TypeError),
        ("result_ttl", None, TypeError),
        ("run_at", None, TypeError),
        ("run_at", datetime(2030, 1, 1), ValueError),
        ("max_attempts", 0, ValueError),
        ("max_attempts", 1_000_001, ValueError),
        ("max_attempts", 1.5, TypeError),
        ("max_attempts", None, TypeError),
        ("retry", None, TypeError),
        ("retry", 5, TypeError),
        ("retry", Exponential, TypeError),
    ],
)
def test_a_bad_option_is_named(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"^{name} "):
        JobOptions(**{name: value})


@pytest.mark.parametrize("name", ["timeout", "wait"])
def test_none_is_no_limit(name: str) -> None:
    assert getattr(JobOptions(**{name: None}), name) is None


def test_nothing_is_set_by_default() -> None:
    assert all(getattr(NO_OPTIONS, field.name) is UNSET for field in fields(JobOptions))
    assert repr(UNSET) == "UNSET"


def test_a_delay_and_a_moment_exclude_each_other() -> None:
    with pytest.raises(ValueError, match=r"^give delay or run_at, not both$"):
        JobOptions(delay=1, run_at=datetime.now(UTC))


def test_options_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        JobOptions().id = "a"  # type: ignore[misc]


MOMENT = datetime(2030, 1, 1, tzinfo=UTC)
given_options: dict[str, st.SearchStrategy[Any]] = {
    "id": st.sampled_from(["a", "b"]),
    "timeout": st.sampled_from([None, 1, 2]),
    "max_attempts": st.integers(1, 3),
    "retry": st.sampled_from([Fixed(1), Exponential()]),
    "result_ttl": st.integers(1, 3),
    "wait": st.sampled_from([None, 1, 2]),
}
when = st.sampled_from([{}, {"delay": 1}, {"delay": 2}, {"run_at": MOMENT}])
option_maps = st.builds(
    lambda options, when: options | when,
    st.fixed_dictionaries({}, optional=given_options),
    when,
)


@given(option_maps, option_maps)
def test_the_later_options_win(below: dict[str, Any], above: dict[str, Any]) -> None:
    expected = below | above
    if "delay" in above:
        expected.pop("run_at", None)
    elif "run_at" in above:
        expected.pop("delay", None)
    assert JobOptions(**below).override(JobOptions(**above)) == JobOptions(**expected)


@given(option_maps, option_maps, option_maps)
def test_layers_may_be_merged_in_any_grouping(
    one: dict[str, Any], two: dict[str, Any], three: dict[str, Any]
) -> None:
    a, b, c = JobOptions(**one), JobOptions(**two), JobOptions(**three)
    assert a.override(b).override(c) == a.override(b.override(c))


def test_none_overrides_a_limit() -> None:
    assert JobOptions(timeout=5).override(JobOptions(timeout=None)).timeout is None
    assert JobOptions(timeout=5).override(NO_OPTIONS).timeout == 5


# -- the options of a queue ----------------------------------------------------------------------


def test_the_defaults_are_those_of_the_documentation() -> None:
    assert QueueOptions() == QueueOptions(
        concurrency=10,
        lease=30.0,
        grace=30.0,
        max_attempts=3,
        retry=Exponential(initial=1.0, factor=2.0, max=300.0, jitter=0.2),
        timeout=None,
        result_ttl=3600.0,
        max_payload=1024 * 1024,
        max_result=16 * 1024 * 1024,
        maintenance=True,
    )


def test_a_queue_knows_its_milliseconds() -> None:
    options = QueueOptions(lease=timedelta(seconds=1.5), grace=0, result_ttl=0.0001)
    assert (options.lease_ms, options.grace_seconds, options.result_ttl_ms) == (1_500, 0.0, 1)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("concurrency", 0, ValueError),
        ("concurrency", 100_001, ValueError),
        ("concurrency", True, TypeError),
        ("lease", 0.09, ValueError),
        ("lease", 0, ValueError),
        ("lease", None, TypeError),
        ("grace", -1, ValueError),
        ("grace", "1", TypeError),
        ("max_attempts", 0, ValueError),
        ("retry", "fixed", TypeError),
        ("timeout", 0, ValueError),
        ("result_ttl", 0, ValueError),
        ("result_ttl", None, TypeError),
        ("max_payload", 0, ValueError),
        ("max_payload", 512 * 1024 * 1024 + 1, ValueError),
        ("max_result", 1.5, TypeError),
    ],
)
def test_a_bad_option_of_a_queue_is_named(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"^{name} "):
        QueueOptions(**{name: value})


def test_the_shortest_lease_is_a_tenth_of_a_second() -> None:
    assert QueueOptions(lease=0.1).lease_ms == 100


def test_options_of_a_queue_are_checked_when_one_is_replaced() -> None:
    with pytest.raises(ValueError, match="concurrency"):
        replace(QueueOptions(), concurrency=-1)
