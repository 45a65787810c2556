"""What a handler raises or returns to steer its job."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from jobqueue.control import Cancel, Retry, Snooze
from jobqueue.values import MAX_MS


@pytest.mark.parametrize(
    ("delay", "ms"),
    [(None, None), (0, 0), (0.0, 0), (1, 1_000), (0.0001, 1), (timedelta(minutes=1), 60_000)],
)
def test_a_retry_knows_its_delay(delay: Any, ms: int | None) -> None:
    assert Retry(delay).delay_ms == ms


def test_a_retry_leaves_the_delay_to_the_policy() -> None:
    assert Retry().delay_ms is None


@pytest.mark.parametrize(
    ("delay", "ms"), [(1, 1_000), (0.0001, 1), (timedelta(hours=1), 3_600_000)]
)
def test_a_snooze_knows_its_delay(delay: Any, ms: int) -> None:
    assert Snooze(delay).delay_ms == ms


@pytest.mark.parametrize("delay", ["1", b"1", True, None, [1]])
def test_a_delay_is_a_number_of_seconds(delay: Any) -> None:
    with pytest.raises(TypeError, match=r"^Snooze\.delay must be seconds"):
        Snooze(delay)
    if delay is not None:
        with pytest.raises(TypeError, match=r"^Retry\.delay must be seconds"):
            Retry(delay)


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf"), timedelta(-1), MAX_MS])
def test_a_delay_has_its_range(delay: Any) -> None:
    with pytest.raises(ValueError, match=r"^Snooze\.delay must be"):
        Snooze(delay)
    with pytest.raises(ValueError, match=r"^Retry\.delay must be"):
        Retry(delay)


def test_a_snooze_must_be_for_some_time() -> None:
    with pytest.raises(ValueError, match=r"^Snooze\.delay must be more than 0"):
        Snooze(0)


def test_a_cancel_says_why() -> None:
    assert Cancel().reason == ""
    assert Cancel("not needed").reason == "not needed"
    assert str(Cancel("not needed")) == "not needed"


def test_they_are_no_errors_of_ours_and_not_caught_as_one_another() -> None:
    assert {cls.__bases__ for cls in (Retry, Snooze, Cancel)} == {(Exception,)}
