"""``queue.schedules`` of a queue without ``await``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar, Unpack

from jobqueue.receipt import JobSpec
from jobqueue.schedules import Cron, Every, PolicyOptions, QueueSchedules, ScheduleInfo
from jobqueue.syncclient import SyncClient, SyncReceipt

P = ParamSpec("P")
R = TypeVar("R")


class SyncSchedules:
    """The schedules of one queue; see :class:`~jobqueue.schedules.QueueSchedules`."""

    def __init__(self, client: SyncClient) -> None:
        self._client = client

    def _call(
        self,
        method: Callable[Concatenate[QueueSchedules, P], Coroutine[Any, Any, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        return self._client.call(
            f"queue.schedules.{method.__name__}",
            lambda producer: method(QueueSchedules(producer), *args, **kwargs),
        )

    def upsert(
        self, id: str, spec: Cron | Every, job: JobSpec[Any], **options: Unpack[PolicyOptions]
    ) -> ScheduleInfo:
        """Store a schedule, or change the one of this id. See :meth:`QueueSchedules.upsert`."""
        return self._call(QueueSchedules.upsert, id, spec, job, **options)

    def pause(self, id: str) -> None:
        """Let a schedule rest. See :meth:`QueueSchedules.pause`."""
        self._call(QueueSchedules.pause, id)

    def resume(self, id: str) -> None:
        """Go on with the next instant after now. See :meth:`QueueSchedules.resume`."""
        self._call(QueueSchedules.resume, id)

    def run_now(self, id: str) -> SyncReceipt[Any]:
        """Enqueue the schedule's job once more, now. See :meth:`QueueSchedules.run_now`."""
        return SyncReceipt(self._client, self._call(QueueSchedules.run_now, id))

    def delete(self, id: str) -> bool:
        """Forget a schedule; whether there was one. See :meth:`QueueSchedules.delete`."""
        return self._call(QueueSchedules.delete, id)

    def get(self, id: str) -> ScheduleInfo | None:
        """What is stored about a schedule, or ``None``."""
        return self._call(QueueSchedules.get, id)

    def list(self) -> list[ScheduleInfo]:
        """All schedules, by id."""
        return self._call(QueueSchedules.list)
