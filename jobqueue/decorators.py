"""What ``@queue.job(...)``, ``@queue.cron(...)`` and ``@queue.every(...)`` return."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

from jobqueue.jobtype import JobType
from jobqueue.options import JobOptions
from jobqueue.registry import make_handler
from jobqueue.retry import ErrorTypes
from jobqueue.schedules import Cron, Every, PolicyOptions

if TYPE_CHECKING:
    from jobqueue.queue import Queue

P = ParamSpec("P")
R = TypeVar("R")


class JobDecorator:
    """What ``@queue.job(...)`` returns: turns a function into a :class:`JobType`."""

    def __init__(
        self,
        queue: Queue,
        name: str | None,
        options: JobOptions,
        give_up_on: ErrorTypes,
        retry_on: ErrorTypes,
    ) -> None:
        self._queue = queue
        self._name = name
        self._options = options
        self._give_up_on = give_up_on
        self._retry_on = retry_on

    @overload
    def __call__(self, function: Callable[P, Awaitable[R]]) -> JobType[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R]) -> JobType[P, R]: ...
    def __call__(self, function: Callable[..., Any]) -> JobType[..., Any]:
        name = self._name or function.__name__
        job_type: JobType[..., Any] = JobType(self._queue, function, name)
        job_type.check_arguments(self._options)
        self._queue.registry.add(
            name,
            make_handler(
                job_type.handle,
                self._options,
                is_async=_is_async(function),
                give_up_on=self._give_up_on,
                retry_on=self._retry_on,
                defaults=job_type.defaults,
            ),
        )
        return job_type


class ScheduleDecorator:
    """What ``@queue.cron(...)`` and ``@queue.every(...)`` return: declares a schedule of a job
    type, and makes one of a plain function."""

    def __init__(
        self,
        queue: Queue,
        id: str | None,
        timing: Cron | Every,
        arguments: tuple[Sequence[Any], Mapping[str, Any]],
        options: PolicyOptions,
    ) -> None:
        self._queue = queue
        self._id = id
        self._timing = timing
        self._arguments = arguments
        self._options = options

    @overload
    def __call__(self, function: JobType[P, R]) -> JobType[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, Awaitable[R]]) -> JobType[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R]) -> JobType[P, R]: ...
    def __call__(self, function: Callable[..., Any]) -> JobType[..., Any]:
        job_type: JobType[..., Any] = (
            cast("JobType[..., Any]", function)
            if isinstance(function, JobType)
            else self._queue.job()(function)
        )
        args, kwargs = self._arguments
        job = job_type.spec(*args, **kwargs)
        id = self._id or job_type.name
        self._queue.schedules.declare(id, self._timing, job, **self._options)
        return job_type


def _is_async(function: Callable[..., Any]) -> bool:
    handler = make_handler(function)
    return handler.is_async
