"""``queue.limits``: the limits that are in force, and how declared ones come into force."""

from __future__ import annotations

from jobqueue.flow import LimitKind, LimitScope
from jobqueue.ids import check_name
from jobqueue.limits import Limit, LimitInfo, from_port, to_port
from jobqueue.producer import Producer
from jobqueue.registry import Registry


class QueueLimits:
    """The limits of one queue. A change holds at once, for all workers."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    async def set(
        self, limit: Limit, *, job_type: str | None = None, key: str | None = None
    ) -> None:
        """See :func:`set_limit`."""
        await set_limit(self._producer, limit, job_type=job_type, key=key)

    async def remove(self, *, job_type: str | None = None, key: str | None = None) -> None:
        """See :func:`remove_limit`."""
        await remove_limit(self._producer, job_type=job_type, key=key)

    async def list(self) -> list[LimitInfo]:
        """See :func:`list_limits`."""
        return await list_limits(self._producer)


async def set_limit(
    producer: Producer, limit: Limit, *, job_type: str | None = None, key: str | None = None
) -> None:
    """Put a limit in force in place of the one that was. It stays, whatever the code declares.

    Jobs that run now count from the first moment, and run on; starts of the past do not count.

    Args:
        limit: What is to hold.
        job_type: For the jobs of this name.
        key: For the jobs of each key apart that fall under the limit of this name: a job type
            declares it with ``Limit(by=...)``, or a call gives it as ``limit=``. With neither: for
            the whole queue.

    Raises:
        TypeError: Not a limit, or a name that is no text.
        ValueError: Both names, or a limit with ``by``.
    """
    if not isinstance(limit, Limit):  # pyright: ignore[reportUnnecessaryIsInstance] - users' types are not checked
        raise TypeError(f"limit must be a Limit(...), not {limit!r}")
    if limit.by is not None:
        raise ValueError("by belongs to the declaration of a job type; here, give key= its name")
    scope = _scope(job_type, key)
    storage = await producer.open_storage()
    await storage.set_limit(producer.queue, scope, to_port(limit, pinned=True))


async def remove_limit(
    producer: Producer, *, job_type: str | None = None, key: str | None = None
) -> None:
    """End a limit, if there is one. What is declared comes into force with the next worker that
    starts.

    Args:
        job_type, key: Which one, as for :func:`set_limit`.
    """
    scope = _scope(job_type, key)
    storage = await producer.open_storage()
    await storage.set_limit(producer.queue, scope, None)


async def list_limits(producer: Producer) -> list[LimitInfo]:
    """The limits in force: of the queue, then by job type, then by key."""
    storage = await producer.open_storage()
    return [from_port(info) for info in await storage.limits(producer.queue)]


async def declare_limits(producer: Producer, registry: Registry) -> None:
    """Put the declared limits in force, but for those in whose place an operator has set others."""
    if not registry.limits:
        return
    storage = await producer.open_storage()
    in_force = {info.scope: info.limit for info in await storage.limits(producer.queue)}
    for scope, limit in registry.limits.items():
        there = in_force.get(scope)
        if there is None or (not there.pinned and there != limit):
            await storage.set_limit(producer.queue, scope, limit)


def _scope(job_type: str | None, key: str | None) -> LimitScope:
    if job_type is not None and key is not None:
        raise ValueError("give job_type or key, not both")
    if job_type is not None:
        return LimitScope(LimitKind.TYPE, check_name(job_type, "job_type"))
    if key is not None:
        return LimitScope(LimitKind.KEY, check_name(key, "key"))
    return LimitScope(LimitKind.QUEUE)
