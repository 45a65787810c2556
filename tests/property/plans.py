"""What Hypothesis chooses from: jobs, outcomes, times and sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hypothesis import strategies as st

from jobqueue.flow import Flow, Limit, LimitKind, LimitScope, Priority, Rate, RateKind, Unique
from jobqueue.flow import UniqueUntil as Until
from jobqueue.storage.base import MAX_BATCH
from tests.support.jobs import (
    HOUR,
    cancelled,
    completed,
    failed,
    released,
    requeued,
    retrying,
    snoozed,
)

IDS: Final = ("a", "b c:{d}", "\0", "\N{PILE OF POO}*")
WORKERS: Final = ("w1", "w:{2}")
REAPERS: Final = ("reaper", "w1")
LONGEST: Final = 4 * HOUR

hours = st.integers(1, LONGEST // HOUR).map(lambda n: n * HOUR)
hours_or_none = st.integers(0, LONGEST // HOUR).map(lambda n: n * HOUR)
values = st.binary(max_size=3)
ids = st.lists(st.sampled_from(IDS), min_size=1, max_size=2)
workers = st.sampled_from(WORKERS)
limits = st.sampled_from([1, 2, MAX_BATCH])
counts = st.integers(1, 4)
picks = st.lists(st.integers(0, 3), min_size=1, max_size=3)
"""Of a list of leases, counted from the newest."""

outcome = st.one_of(
    st.builds(completed, values, ttl_ms=hours),
    st.builds(failed, values, ttl_ms=hours),
    st.builds(cancelled, values, ttl_ms=hours),
    st.builds(retrying, hours_or_none, value=values),
    st.builds(snoozed, hours_or_none),
    st.builds(released),
    st.builds(requeued),
)
some_outcomes = st.lists(outcome, min_size=1, max_size=3)

keys = st.sampled_from(["k", "\0"])
uniques = st.one_of(
    st.builds(Unique, keys, st.sampled_from([Until.STARTED, Until.FINISHED])),
    st.builds(Unique, keys, st.just(Until.ELAPSED), window_ms=hours),
    st.builds(
        Unique,
        keys,
        st.just(Until.STARTED),
        replace=st.just(True),
        max_wait_ms=hours_or_none,
    ),
)
levels = st.sampled_from(Priority)
flows = st.one_of(
    st.builds(Flow, priority=levels),
    st.builds(Flow, priority=levels, expires_ms=hours),
    st.builds(Flow, priority=levels, alone=st.sampled_from(["x", "}:*"])),
    st.builds(Flow, priority=levels, limit=st.just("by:key"), key=keys),
    st.builds(Flow, unique=uniques),
    st.builds(
        Flow,
        priority=levels,
        expires_ms=hours_or_none,
        limit=st.just("by:key"),
        key=keys,
        alone=st.sampled_from(["", "x"]),
        unique=st.one_of(st.none(), uniques),
    ),
)
TYPES: Final = ("one", "two:{}")
scopes = st.sampled_from(
    [
        LimitScope(LimitKind.QUEUE),
        *(LimitScope(LimitKind.TYPE, name) for name in TYPES),
        LimitScope(LimitKind.KEY, "by:key"),
    ]
)
limits_in_force = st.sampled_from(
    [
        None,
        Limit(1),
        Limit(2),
        Limit(rate=Rate(1, HOUR)),
        Limit(3, Rate(2, 2 * HOUR)),
        Limit(rate=Rate(1, 2 * HOUR, RateKind.BUCKET)),
        Limit(2, Rate(2, 2 * HOUR, RateKind.BUCKET, burst=2)),
    ]
)
"""Each with a rate of its own, so that what counts is clear when one takes the place of another."""
changes = st.one_of(
    st.fixed_dictionaries({"paused": st.integers(0, 1)}),
    st.fixed_dictionaries({"draining": st.integers(0, 1)}),
    st.fixed_dictionaries({"max_waiting": st.integers(0, 3)}),
    st.fixed_dictionaries({"low_every": st.integers(0, 3)}),
    st.just({"paused": 0, "draining": 0, "max_waiting": 0}),
)


@dataclass(frozen=True)
class JobPlan:
    """A job to enqueue, but for what only the machine knows. ``due`` is relative to now. Without a
    request it gets an id of its own, which nobody has had before; without a type, such a one."""

    id: str
    spec: bytes
    delay: int = 0
    due: int | None = None
    ttl: int = 0
    has_request: bool = True
    flow: Flow | None = None
    type: str = ""


plans = st.one_of(
    st.builds(JobPlan, st.sampled_from(IDS), values, ttl=hours_or_none),
    st.builds(
        JobPlan,
        st.sampled_from(IDS),
        values,
        delay=hours_or_none,
        ttl=hours_or_none,
        has_request=st.booleans(),
    ),
    st.builds(
        JobPlan,
        st.sampled_from(IDS),
        values,
        due=st.integers(-2, 4).map(lambda n: n * HOUR),
        ttl=hours_or_none,
    ),
)
plans_that_flow = st.one_of(
    st.builds(
        JobPlan,
        st.sampled_from(IDS),
        values,
        delay=st.one_of(st.just(0), hours),
        ttl=hours,
        flow=flows,
        type=st.sampled_from(TYPES),
    ),
    st.builds(JobPlan, st.sampled_from(IDS), values, ttl=hours, type=st.sampled_from(TYPES)),
)
