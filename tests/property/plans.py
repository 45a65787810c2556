"""What Hypothesis chooses from: jobs, outcomes, times and sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hypothesis import strategies as st

from jobqueue.flow import Flow, Limit, LimitKind, LimitScope, Priority, Rate, RateKind, Unique
from jobqueue.flow import UniqueUntil as Until
from jobqueue.storage.types import MAX_BATCH
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
levels = st.sampled_from(Priority)
nothing, never, none = st.just(""), st.just(0), st.none()


def some_unique(
    until: st.SearchStrategy[Until],
    window_ms: st.SearchStrategy[int] = never,
    replace: bool = False,
    max_wait_ms: st.SearchStrategy[int] = never,
) -> st.SearchStrategy[Unique]:
    return st.builds(Unique, keys, until, window_ms, st.just(replace), max_wait_ms)


uniques = st.one_of(
    some_unique(st.sampled_from([Until.STARTED, Until.FINISHED])),
    some_unique(st.just(Until.ELAPSED), window_ms=hours),
    some_unique(st.just(Until.STARTED), replace=True, max_wait_ms=hours_or_none),
)


def some_flow(
    expires_ms: st.SearchStrategy[int] = never,
    limit: str = "",
    alone: st.SearchStrategy[str] = nothing,
    unique: st.SearchStrategy[Unique | None] = none,
) -> st.SearchStrategy[Flow]:
    key = keys if limit else nothing
    return st.builds(Flow, levels, expires_ms, nothing, st.just(limit), key, alone, unique)


flows = st.one_of(
    some_flow(),
    some_flow(expires_ms=hours),
    some_flow(alone=st.sampled_from(["x", "}:*"])),
    some_flow(limit="by:key"),
    some_flow(unique=uniques),
    some_flow(hours_or_none, "by:key", st.sampled_from(["", "x"]), st.one_of(none, uniques)),
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
plans_of_keys = st.builds(
    JobPlan,
    st.sampled_from(IDS),
    values,
    delay=st.one_of(st.just(0), hours),
    ttl=hours,
    flow=some_flow(unique=uniques),
)
