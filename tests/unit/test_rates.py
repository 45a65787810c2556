"""The arithmetic of rates."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobqueue.flow import Rate, RateKind
from jobqueue.storage.rates import RateState, free, next_start, nothing_started, started

NOW = 1_700_000_000_000

rates = st.builds(
    Rate,
    count=st.integers(1, 20),
    per_ms=st.sampled_from([1, 7, 100, 1_000, 60_000]),
    kind=st.sampled_from(list(RateKind)),
    burst=st.integers(1, 10),
)


def after(rate: Rate, *moments: int) -> RateState:
    state = nothing_started(rate)
    for moment in moments:
        state = started(rate, state, moment)
    return state


def test_a_window_takes_so_many_and_then_none() -> None:
    rate = Rate(3, 1_000)
    assert free(rate, [], NOW) == 3
    assert free(rate, after(rate, NOW), NOW) == 2
    assert free(rate, after(rate, NOW, NOW, NOW), NOW) == 0


def test_a_start_counts_for_the_window_and_one_grain_at_most() -> None:
    rate = Rate(1, 1_000)
    state = after(rate, NOW)
    assert state == [[NOW + 1_001, 1]]
    assert free(rate, state, NOW + 1_000) == 0
    assert free(rate, state, NOW + 1_001) == 1
    assert next_start(rate, state, NOW) == NOW + 1_001


def test_long_windows_keep_their_starts_by_the_grain() -> None:
    rate = Rate(10, 60_000)
    assert after(rate, NOW + 3, NOW + 30) == [[NOW // 60 * 60 + 60 + 60_000, 2]]


def test_a_window_forgets_what_no_longer_counts() -> None:
    rate = Rate(5, 1_000)
    assert after(rate, NOW, NOW + 1_001) == [[NOW + 2_002, 1]]


def test_starts_are_kept_in_order_when_the_clock_goes_back() -> None:
    rate = Rate(2, 1_000)
    state = after(rate, NOW, NOW - 500)
    assert state == [[NOW + 501, 1], [NOW + 1_001, 1]]
    assert next_start(rate, state, NOW) == NOW + 501


def test_a_bucket_gives_its_burst_and_then_one_an_interval() -> None:
    rate = Rate(10, 1_000, RateKind.BUCKET, burst=3)
    assert free(rate, 0.0, NOW) == 3
    state = after(rate, NOW, NOW, NOW)
    assert state == NOW + 300
    assert free(rate, state, NOW) == 0
    assert next_start(rate, state, NOW) == NOW + 100
    assert free(rate, state, NOW + 99) == 0
    assert free(rate, state, NOW + 100) == 1
    assert free(rate, state, NOW + 299) == 2
    assert free(rate, state, NOW + 300) == 3
    assert free(rate, state, NOW + 10_000) == 3


def test_what_waits_for_part_of_a_millisecond_waits_for_all_of_it() -> None:
    rate = Rate(3, 1_000, RateKind.BUCKET)
    state = after(rate, NOW)
    assert free(rate, state, NOW + 333) == 0
    assert next_start(rate, state, NOW) == NOW + 334
    assert free(rate, state, NOW + 334) == 1


@given(rates, st.lists(st.integers(0, 500), max_size=60))
def test_never_more_than_promised_and_the_next_moment_is_true(rate: Rate, gaps: list[int]) -> None:
    """Everybody starts as soon as he may: no window has more than promised."""
    state, now, starts = nothing_started(rate), NOW, list[int]()
    for gap in gaps:
        now = next_start(rate, state, now + gap)
        assert free(rate, state, now) > 0
        state = started(rate, state, now)
        starts.append(now)
    allowed = rate.count if rate.kind is RateKind.SLIDING else rate.burst + rate.count
    for first in starts:
        assert sum(first <= start < first + rate.per_ms for start in starts) <= allowed


@given(rates, st.integers(0, 100_000))
def test_the_next_moment_is_the_first(rate: Rate, gap: int) -> None:
    state, now = nothing_started(rate), NOW
    while free(rate, state, now):
        state = started(rate, state, now)
    moment = next_start(rate, state, now + gap)
    assert free(rate, state, moment) > 0
    assert moment == now + gap or free(rate, state, moment - 1) == 0
