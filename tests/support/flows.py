"""Short ways to say when a job may start, for the storage tests."""

from __future__ import annotations

from typing import Any

from jobqueue.flow import (
    Control,
    Flow,
    Limit,
    LimitInfo,
    LimitKind,
    LimitScope,
    Priority,
    Rate,
    Unique,
    UniqueUntil,
)
from jobqueue.storage.base import Storage
from jobqueue.storage.types import NewJob
from tests.support.jobs import QUEUE, new_job


def of_level(priority: Priority, *ids: str) -> list[NewJob]:
    """Jobs of one level."""
    return [new_job(id, flow=Flow(priority=priority)) for id in ids]


def high(*ids: str) -> list[NewJob]:
    return of_level(Priority.HIGH, *ids)


def low(*ids: str) -> list[NewJob]:
    return of_level(Priority.LOW, *ids)


def grouped(group: str, *ids: str) -> list[NewJob]:
    """Jobs of one group."""
    return [new_job(id, flow=Flow(group=group)) for id in ids]


def keyed(key: str, *ids: str, limit: str = "customer") -> list[NewJob]:
    """Jobs of one key under a limit by key."""
    return [new_job(id, flow=Flow(limit=limit, key=key)) for id in ids]


def alone(text: str, *ids: str) -> list[NewJob]:
    """Jobs of which one runs at a time."""
    return [new_job(id, flow=Flow(alone=text)) for id in ids]


def expiring(id: str, expires_ms: int, **options: Any) -> NewJob:
    """A job that must start in time, with the time to live that such a one has."""
    options.setdefault("ttl_ms", 3_600_000)
    return new_job(id, flow=Flow(expires_ms=expires_ms), **options)


def unique(
    id: str,
    until: UniqueUntil = UniqueUntil.FINISHED,
    *,
    key: str = "key",
    window_ms: int = 0,
    **options: Any,
) -> NewJob:
    """A job that keeps others of its key away, or is kept away by one."""
    return new_job(id, flow=Flow(unique=Unique(key, until, window_ms)), **options)


def replacing(
    id: str, *, key: str = "key", max_wait_ms: int = 0, alone: str = "", **options: Any
) -> NewJob:
    """A job that takes the place of one of its key that has not started."""
    rule = Unique(key, UniqueUntil.STARTED, replace=True, max_wait_ms=max_wait_ms)
    return new_job(id, flow=Flow(unique=rule, alone=alone), **options)


def scope_of(kind: LimitKind, name: str = "") -> LimitScope:
    """The scope of such a limit; of a queue, none is named."""
    default = {LimitKind.QUEUE: "", LimitKind.TYPE: "task", LimitKind.KEY: "customer"}[kind]
    return LimitScope(kind, name or default)


async def set_limit(
    storage: Storage,
    kind: LimitKind,
    name: str = "",
    *,
    concurrency: int = 0,
    rate: Rate | None = None,
    queue: str = QUEUE,
) -> None:
    """Put a limit in force; without a name, on the jobs that :func:`new_job` and :func:`keyed`
    make."""
    await storage.set_limit(queue, scope_of(kind, name), Limit(concurrency, rate))


async def lift_limit(storage: Storage, kind: LimitKind, name: str = "", queue: str = QUEUE) -> None:
    """End a limit."""
    await storage.set_limit(queue, scope_of(kind, name), None)


async def limit_info(
    storage: Storage, kind: LimitKind, name: str = "", queue: str = QUEUE
) -> LimitInfo:
    """What is said of a limit that must be in force."""
    (info,) = [one for one in await storage.limits(queue) if one.scope == scope_of(kind, name)]
    return info


async def change(storage: Storage, queue: str = QUEUE, **changes: int) -> Control:
    """Change some fields of the queue's control."""
    return await storage.control(queue, changes)
