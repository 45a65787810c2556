"""How many jobs may start under a rate, and when the next one may: pure arithmetic.

For storages that compute in Python. The state is a plain value, so that it can be packed.
"""

from __future__ import annotations

import math
from typing import Final, TypeAlias

from jobqueue.flow import Rate, RateKind

RateState: TypeAlias = "list[list[int]] | float"
"""What is known of past starts. ``SLIDING``: pairs of the moment from which some starts no longer
count, and how many those are, in order. ``BUCKET``: the moment at which the bucket is full again
but for the burst (the theoretical arrival time of the generic cell rate algorithm)."""

_WINDOW_PARTS: Final = 1_000
_ROUNDING: Final = 1e-9


def nothing_started(rate: Rate) -> RateState:
    """The state before the first start."""
    return [] if rate.kind is RateKind.SLIDING else 0.0


def free(rate: Rate, state: RateState, now: int) -> int:
    """How many jobs may start now, 0 or more."""
    if isinstance(state, list):
        return max(0, rate.count - sum(count for until, count in state if until > now))
    interval = rate.per_ms / rate.count
    ahead = now + (rate.burst - 1) * interval - max(state, now)
    return max(0, math.floor(ahead / interval + _ROUNDING) + 1)


def started(rate: Rate, state: RateState, now: int) -> RateState:
    """The state after one more start."""
    if not isinstance(state, list):
        return max(state, now) + rate.per_ms / rate.count
    grain = max(1, rate.per_ms // _WINDOW_PARTS)
    until = (now // grain + 1) * grain + rate.per_ms
    counts = {past: count for past, count in state if past > now}
    counts[until] = counts.get(until, 0) + 1
    return [[moment, counts[moment]] for moment in sorted(counts)]


def next_start(rate: Rate, state: RateState, now: int) -> int:
    """The moment from which at least one job may start; ``now`` if one may now."""
    if free(rate, state, now):
        return now
    if not isinstance(state, list):
        return math.ceil(state - (rate.burst - 1) * (rate.per_ms / rate.count))
    return next(until for until, _ in state if free(rate, state, until))
