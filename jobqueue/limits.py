"""Limits as users write and see them, and as the port has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jobqueue import flow
from jobqueue.ids import check_name
from jobqueue.values import Seconds, check_count, to_ms

MAX_COUNT = 10_000_000


@dataclass(frozen=True, slots=True)
class Rate:
    """How many jobs may start in a time, on all workers together.

    Attributes:
        count: So many, at least 1.
        per: In so many seconds. Default 1.
        kind: ``"sliding"`` (the default): at most ``count`` in any window of ``per``. ``"bucket"``:
            one every ``per / count``, and after a quiet time up to ``burst`` at once.
        burst: With ``"bucket"``: at once at most. Default 1.
    """

    count: int
    per: Seconds = 1.0
    kind: Literal["sliding", "bucket"] = "sliding"
    burst: int = 1

    def __post_init__(self) -> None:
        check_count(self.count, "Rate(count)", maximum=MAX_COUNT)
        to_ms(self.per, "Rate(per)")
        if self.kind not in ("sliding", "bucket"):
            raise ValueError(f'Rate(kind) must be "sliding" or "bucket", not {self.kind!r}')
        check_count(self.burst, "Rate(burst)", maximum=MAX_COUNT)
        if self.burst != 1 and self.kind != "bucket":
            raise ValueError('Rate(burst) goes with kind="bucket"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """At most so much at a time, on all workers together. At least one of the first two.

    Attributes:
        concurrency: Jobs that run at a time.
        rate: Starts in a time.
        by: Name of an argument: the limit holds for the jobs of each value apart. Where a job type
            declares it.
        name: With ``by``: the limit's name. Job types that give the same name share one limit.
            Default: the name of the job type.
    """

    concurrency: int | None = None
    rate: Rate | None = None
    by: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if self.concurrency is None and self.rate is None:
            raise ValueError("a Limit needs a concurrency or a rate")
        if self.concurrency is not None:
            check_count(self.concurrency, "Limit(concurrency)", maximum=MAX_COUNT)
        if self.rate is not None and not isinstance(self.rate, Rate):  # pyright: ignore[reportUnnecessaryIsInstance] - users' types are not checked
            raise TypeError(f"Limit(rate) must be a Rate(...), not {self.rate!r}")
        if self.by is not None:
            check_name(self.by, "Limit(by)")
        if self.name is not None:
            check_name(self.name, "Limit(name)")
            if self.by is None:
                raise ValueError("Limit(name) goes with by: only limits by an argument have names")


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitInfo:
    """A limit that is in force.

    Attributes:
        kind: ``"queue"``, ``"type"`` (of one job type) or ``"key"`` (of each key apart).
        name: Of the job type, or of the limit by key; empty for the whole queue.
        limit: What holds.
        pinned: An operator has set it: what the code declares does not take its place.
        running: Jobs under it that run now.
        held_back: Jobs that wait although their turn has come. Of the whole queue's limit 0.
    """

    kind: Literal["queue", "type", "key"]
    name: str
    limit: Limit
    pinned: bool
    running: int
    held_back: int


def check_limits(limits: object) -> tuple[Limit, ...]:
    """The limits that a job type declares: one, or a list of one without and one with ``by``.

    Raises:
        TypeError: Not a limit, nor a sequence of limits.
        ValueError: Two of the same kind.
    """
    found = (limits,) if isinstance(limits, Limit) else limits
    if not isinstance(found, list | tuple) or not all(isinstance(one, Limit) for one in found):  # pyright: ignore[reportUnknownVariableType]
        raise TypeError(f"limits must be Limit(...) or a list of them, not {limits!r}")
    checked: tuple[Limit, ...] = tuple(found)  # pyright: ignore[reportUnknownArgumentType] - just checked
    kinds = [limit.by is None for limit in checked]
    if len(set(kinds)) < len(kinds):
        raise ValueError("limits may hold one Limit without and one with by, not two of a kind")
    return checked


def scope_of(limit: Limit, job_type: str) -> flow.LimitScope:
    """Which jobs a limit is about that a job type declares."""
    if limit.by is None:
        return flow.LimitScope(flow.LimitKind.TYPE, job_type)
    return flow.LimitScope(flow.LimitKind.KEY, limit.name or job_type)


def to_port(limit: Limit, *, pinned: bool = False) -> flow.Limit:
    """A limit as a storage keeps it."""
    rate = limit.rate
    return flow.Limit(
        concurrency=limit.concurrency or 0,
        rate=None
        if rate is None
        else flow.Rate(
            count=rate.count,
            per_ms=to_ms(rate.per, "Rate(per)"),
            kind=flow.RateKind(rate.kind),
            burst=rate.burst,
        ),
        pinned=pinned,
    )


def from_port(info: flow.LimitInfo) -> LimitInfo:
    """A limit of a storage as users see it."""
    limit, rate = info.limit, info.limit.rate
    return LimitInfo(
        kind=info.scope.kind.value,
        name=info.scope.name,
        limit=Limit(
            concurrency=limit.concurrency or None,
            rate=None
            if rate is None
            else Rate(rate.count, rate.per_ms / 1000, rate.kind.value, rate.burst),
        ),
        pinned=limit.pinned,
        running=info.running,
        held_back=info.held_back,
    )
