"""Which waiting job may start next: the model's limits, rates, levels and uniqueness, written from
``jobqueue/flow.py`` and the port's docstrings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import ceil, floor
from typing import Protocol

from jobqueue.flow import (
    LEVELS,
    OPEN,
    Control,
    Flow,
    Limit,
    LimitKind,
    LimitScope,
    Priority,
    Rate,
    RateKind,
    Unique,
    UniqueUntil,
)
from jobqueue.storage.types import NewJob

SILENT = Flow()
"""What holds for a job that says nothing."""


class Waiting(Protocol):
    """What is asked of a job here."""

    new: NewJob
    perhaps_held: bool


def flow_of(job: Waiting) -> Flow:
    return job.new.flow or SILENT


def level_of(job: Waiting) -> Priority:
    return flow_of(job).priority


def counts(unique: Unique, *, ended: bool, started: bool, enqueued: int, now: int) -> bool:
    """Whether a job that is there keeps away one that comes with ``unique``."""
    match unique.until:
        case UniqueUntil.STARTED:
            return not (ended or started)
        case UniqueUntil.FINISHED:
            return not ended
        case UniqueUntil.ELAPSED:
            return now < enqueued + unique.window_ms


@dataclass
class Starts:
    """The starts that count under one rate."""

    rate: Rate
    until: list[int] = field(default_factory=list)
    full: float = 0.0
    """Of a bucket: when it will be full again."""

    def next_ms(self, now: int) -> int:
        """When one more may start; not in the future if it may now."""
        if self.rate.kind is RateKind.BUCKET:
            interval = self.rate.per_ms / self.rate.count
            slack = (self.rate.burst - 1) * interval
            if floor((now + slack - max(self.full, now)) / interval + 1e-9) >= 0:
                return now
            return ceil(self.full - slack)
        counted = sorted(moment for moment in self.until if moment > now)
        return now if len(counted) < self.rate.count else counted[-self.rate.count]

    def add(self, now: int) -> None:
        per = self.rate.per_ms
        if self.rate.kind is RateKind.BUCKET:
            self.full = max(self.full, now) + per / self.rate.count
        else:
            grain = max(1, per // 1000)
            self.until.append((now // grain + 1) * grain + per)


@dataclass
class InForce:
    """A limit, and the starts under it by key (of one that is not by key: under '')."""

    limit: Limit
    starts: dict[str, Starts] = field(default_factory=dict)


@dataclass
class Rules:
    """What holds for the queue, and what has started under it.

    Attributes:
        limits: Those in force.
        control: What holds for the whole queue.
        waited: Jobs that started since the last low one while a low one waited.
        stood_back: Those of them that started while a low one could have.
    """

    limits: dict[LimitScope, InForce] = field(default_factory=dict)
    control: Control = OPEN
    waited: int = 0
    stood_back: int = 0

    def set_limit(self, scope: LimitScope, limit: Limit | None) -> None:
        there = self.limits.get(scope)
        if limit is None:
            self.limits.pop(scope, None)
        elif there is None or there.limit != limit:
            self.limits[scope] = InForce(limit)

    def scopes(self, job: Waiting) -> Iterator[tuple[LimitScope, str]]:
        """Those that a job falls under, whether in force or not, each with the job's key there."""
        flow = flow_of(job)
        if flow.limit:
            yield LimitScope(LimitKind.KEY, flow.limit), flow.key
        yield LimitScope(LimitKind.TYPE, job.new.name), ""
        yield LimitScope(LimitKind.QUEUE), ""

    def running_under(self, scope: LimitScope, key: str | None, running: Iterable[Waiting]) -> int:
        """How many run under a limit; with a ``key``, of that one."""
        return sum(
            any(scope == one and key in (None, of) for one, of in self.scopes(job))
            for job in running
        )

    def next_ms(self, job: Waiting, running: list[Waiting], now: int) -> int | None:
        """When a job may start, if nothing else happens: ``None`` for never, not in the future if
        it may now."""
        flow = flow_of(job)
        if flow.alone and any(flow_of(other).alone == flow.alone for other in running):
            return None
        moment = now
        for scope, key in self.scopes(job):
            there = self.limits.get(scope)
            if there is None:
                continue
            most = there.limit.concurrency
            if most and self.running_under(scope, key, running) >= most:
                return None
            if there.limit.rate is not None and key in there.starts:
                moment = max(moment, there.starts[key].next_ms(now))
        return moment

    def rate_moments(self, job: Waiting, now: int) -> Iterator[int]:
        """When each of the rates over a job lets one more start."""
        for scope, key in self.scopes(job):
            there = self.limits.get(scope)
            if there is not None and there.limit.rate is not None:
                yield there.starts[key].next_ms(now) if key in there.starts else now

    def start(self, job: Waiting, startable: list[Waiting], low_waits: bool, now: int) -> None:
        """A job starts, and was allowed to be the next by its level."""
        # Of those that one limit held back, the higher ones come first all the same.
        low_could = any(
            level_of(other) is Priority.LOW and not other.perhaps_held for other in startable
        )
        self._check_level(level_of(job), {level_of(other) for other in startable}, low_could)
        if level_of(job) is Priority.LOW:
            self.waited = self.stood_back = 0
        else:
            self.waited += low_waits
            self.stood_back += low_could
        for scope, key in self.scopes(job):
            there = self.limits.get(scope)
            if there is not None and there.limit.rate is not None:
                there.starts.setdefault(key, Starts(there.limit.rate)).add(now)

    def _check_level(self, level: Priority, possible: set[Priority], low_could: bool) -> None:
        every = self.control.low_every
        if every and low_could and self.stood_back >= every - 1:
            assert level is Priority.LOW, "a low one has not had its share"
        elif level is Priority.LOW and every and self.waited >= every - 1:
            pass  # it may count others that could not have started
        else:
            first = next(one for one in LEVELS if one in possible)
            assert level is first, f"a {level} one started before a {first} one"
