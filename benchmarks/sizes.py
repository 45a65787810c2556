"""How much of everything is measured: in full, and in two minutes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Counts of the scenarios. Slow systems get a share of them (``peers.py``)."""

    name: str
    rounds: int
    patience: float
    """Seconds after which a system that does not answer has failed."""
    single: int
    """Enqueues one at a time."""
    concurrent: int
    """Enqueues, 100 in flight."""
    bulk: int
    """Jobs of one bulk call."""
    drain: int
    """Jobs that wait for a worker and do nothing."""
    sleeps: dict[int, int]
    """Jobs that sleep, for each number of milliseconds."""
    calls: int
    """Calls one at a time."""
    calls_in_flight: int
    """Calls, 100 in flight."""
    pickups: int
    growth: tuple[int, ...]
    """Jobs waiting."""
    growth_drain: int
    """Of which so many are drained."""
    growth_claims: int
    memory_jobs: int
    """Jobs for which the server's memory is measured."""
    sqlite: int
    flow: int
    """Jobs under a limit, or in front of one of high priority."""
    flow_seconds: int
    """For which a rate is watched."""
    flow_drain: int
    """Jobs that are run beside scheduled ones."""
    two_workers: tuple[int, ...] = (0, 10)
    """Milliseconds of the handlers of two worker processes; 0: no-op."""


FULL = Size(
    name="full",
    rounds=5,
    patience=300,
    single=2_000,
    concurrent=20_000,
    bulk=20_000,
    drain=20_000,
    sleeps={1: 20_000, 10: 20_000},
    calls=1_000,
    calls_in_flight=10_000,
    pickups=200,
    growth=(10_000, 100_000, 1_000_000),
    growth_drain=10_000,
    growth_claims=500,
    memory_jobs=10_000,
    sqlite=5_000,
    flow=100_000,
    flow_seconds=20,
    flow_drain=50_000,
)
QUICK = Size(
    name="quick",
    rounds=2,
    patience=30,
    single=300,
    concurrent=3_000,
    bulk=3_000,
    drain=5_000,
    sleeps={10: 2_000},
    calls=150,
    calls_in_flight=1_000,
    pickups=30,
    growth=(5_000,),
    growth_drain=2_000,
    growth_claims=100,
    memory_jobs=2_000,
    sqlite=500,
    flow=5_000,
    flow_seconds=8,
    flow_drain=5_000,
    two_workers=(),
)
