"""``Queue``: the facade. It holds the job types and delegates the rest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, ParamSpec, TypeVar, Unpack, cast, overload

from jobqueue.events import EventStream
from jobqueue.hooks import ExecutionHook, Hook, Hooks
from jobqueue.ids import check_name
from jobqueue.job import JobInfo
from jobqueue.jobtype import JobType
from jobqueue.options import JobOptions, QueueOptions
from jobqueue.producer import Producer
from jobqueue.receipt import CallOptions, JobSpec, Receipt
from jobqueue.registry import JobFunction, Registry, make_handler
from jobqueue.retry import Backoff, ErrorTypes
from jobqueue.schedules import Cron, Every, PolicyOptions, QueueSchedules
from jobqueue.serde import Serde, SerdeSet
from jobqueue.states import CancelResult, TtlResult
from jobqueue.storage.base import Storage
from jobqueue.syncclient import SyncClient
from jobqueue.undisturbed import undisturbed
from jobqueue.values import UNSET, Seconds, Unset
from jobqueue.worker import Worker

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=JobFunction)
H = TypeVar("H", bound=Hook)
X = TypeVar("X", bound=ExecutionHook)

NO_KWARGS: Final[Mapping[str, Any]] = MappingProxyType({})


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
        self._queue.registry.add(
            name,
            make_handler(
                job_type.handle,
                self._options,
                is_async=_is_async(function),
                give_up_on=self._give_up_on,
                retry_on=self._retry_on,
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


class Queue:
    """A named queue on a storage.

    Args:
        name: 1 to 255 bytes of any text.
        storage: A storage or its URL (``memory://``, ``sqlite:///file.db``, ``redis://...``).
            ``None``: ``$JOBQUEUE_URL``, and without it ``sqlite:///jobqueue.db`` in this folder.
        concurrency: Jobs that one worker runs at a time. Default 10.
        lease: Seconds without a sign of life after which a worker's job is recovered; a living
            worker renews it, so jobs may run for hours. Default 30.
        grace: Seconds that a stop waits for running jobs. Default 30.
        max_attempts: Attempts in total, the first included. Default 3.
        retry: Backoff policy. Default ``Exponential()``.
        timeout: Seconds one attempt may run. Default: no limit.
        result_ttl: Seconds for which a finished job's result, error and id are kept. Default 3600.
        serde: ``"msgpack"``, ``"json"`` or a :class:`~jobqueue.serde.Serde`.
        max_payload: Largest payload in bytes. Default 1 MiB.
        max_result: Largest result in bytes. Default 16 MiB.
        worker_id: Name of this process's worker; no other may have it at the same time. Default: a
            new one for each worker.
        maintenance: Whether workers of this queue also recover, promote and prune. Default yes;
            safe in any number of workers.

    Raises:
        ConfigurationError: The storage's URL cannot work; the message says what to do.
        TypeError: An option of the wrong type; the message names it.
        ValueError: An option out of range; the message names it.
    """

    def __init__(
        self,
        name: str = "default",
        storage: Storage | str | None = None,
        *,
        concurrency: int | Unset = UNSET,
        lease: Seconds | Unset = UNSET,
        grace: Seconds | Unset = UNSET,
        max_attempts: int | Unset = UNSET,
        retry: Backoff | Unset = UNSET,
        timeout: Seconds | Unset | None = UNSET,
        result_ttl: Seconds | Unset = UNSET,
        serde: str | Serde = "msgpack",
        max_payload: int | Unset = UNSET,
        max_result: int | Unset = UNSET,
        worker_id: str | None = None,
        maintenance: bool | Unset = UNSET,
    ) -> None:
        given: dict[str, Any] = {
            "concurrency": concurrency,
            "lease": lease,
            "grace": grace,
            "max_attempts": max_attempts,
            "retry": retry,
            "timeout": timeout,
            "result_ttl": result_ttl,
            "max_payload": max_payload,
            "max_result": max_result,
            "maintenance": maintenance,
        }
        self.options = QueueOptions(
            **{option: value for option, value in given.items() if value is not UNSET}
        )
        self.worker_id = None if worker_id is None else check_name(worker_id, "worker_id")
        self.registry = Registry(self.options)
        self.hooks = Hooks()
        self.producer = Producer(
            storage, name, serde=serde, registry=self.registry, hooks=self.hooks
        )
        self.schedules: Final = QueueSchedules(self.producer)
        self.sync_client = SyncClient(lambda: self.storage, self._producer_on)

    @property
    def name(self) -> str:
        return self.producer.queue

    @property
    def storage(self) -> Storage:
        return self.producer.storage

    @property
    def serdes(self) -> SerdeSet:
        return self.producer.serdes

    def _producer_on(self, storage: Storage) -> Producer:
        serde = self.serdes.default
        return Producer(storage, self.name, serde=serde, registry=self.registry, hooks=self.hooks)

    def __repr__(self) -> str:
        return f"<Queue {self.name!r} on {self.storage.url}>"

    # -- life cycle ------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect. Happens by itself on first use; idempotent."""
        await self.producer.open()

    async def close(self) -> None:
        """Send what is on its way and let go of everything. Idempotent."""
        await undisturbed(self._close())

    async def _close(self) -> None:
        await self.producer.close()
        await self.sync_client.aclose()

    async def __aenter__(self) -> Queue:
        await self.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    # -- job types, handlers, hooks --------------------------------------------------------------

    def job(
        self,
        name: str | None = None,
        *,
        max_attempts: int | Unset = UNSET,
        timeout: Seconds | Unset | None = UNSET,
        retry: Backoff | Unset = UNSET,
        result_ttl: Seconds | Unset = UNSET,
        give_up_on: ErrorTypes = (),
        retry_on: ErrorTypes = (),
    ) -> JobDecorator:
        """Register a function as a job type.

        Args:
            name: Under which its jobs are stored. Default: the function's name.
            max_attempts: Attempts in total. Default: the queue's.
            timeout: Seconds one attempt may run. Default: the queue's.
            retry: Backoff policy, or any ``(attempt, error) -> seconds | None``. Default: the
                queue's.
            result_ttl: Seconds for which a finished job is kept. Default: the queue's.
            give_up_on: Errors that are never retried.
            retry_on: If given, only these are.
        """
        options = JobOptions(
            max_attempts=max_attempts, timeout=timeout, retry=retry, result_ttl=result_ttl
        )
        return JobDecorator(self, name, options, give_up_on, retry_on)

    def handler(
        self,
        name: str | None = None,
        *,
        max_attempts: int | Unset = UNSET,
        timeout: Seconds | Unset | None = UNSET,
        retry: Backoff | Unset = UNSET,
        result_ttl: Seconds | Unset = UNSET,
        give_up_on: ErrorTypes = (),
        retry_on: ErrorTypes = (),
    ) -> Callable[[F], F]:
        """Register a function of one :class:`~jobqueue.Job`, which may use ``job.payload``.

        Args:
            name: Which jobs it runs. Default: all that have no handler of their own.
            max_attempts, timeout, retry, result_ttl, give_up_on, retry_on: As in :meth:`job`.
        """
        options = JobOptions(
            max_attempts=max_attempts, timeout=timeout, retry=retry, result_ttl=result_ttl
        )

        def register(function: F) -> F:
            handler = make_handler(function, options, give_up_on=give_up_on, retry_on=retry_on)
            self.registry.add(name, handler)
            return function

        return register

    def cron(
        self,
        expression: str,
        *,
        tz: str = "UTC",
        id: str | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] = NO_KWARGS,
        **options: Unpack[PolicyOptions],
    ) -> ScheduleDecorator:
        """Have a job type called at times of the day: ``@queue.cron("30 2 * * *")``.

        Stands above ``@queue.job(...)``, or makes a job type of a plain function. Each worker of
        the queue that starts sees to it that the schedule is stored; see
        :meth:`QueueSchedules.declare`.

        Args:
            expression: Minute, hour, day of the month, month, day of the week; see
                :class:`~jobqueue.Cron`, also for what happens when clocks are set.
            tz: Time zone of the expression, such as ``"Europe/Rome"``.
            id: Of the schedule. Default: the job type's name.
            args, kwargs: For each call.
            options: What becomes of instants that nobody fired in time, or before the last job has
                ended; see :class:`~jobqueue.schedules.record.Policy`.

        Raises:
            TypeError: A value of the wrong type, or arguments that do not fit the function.
            ValueError: A value that cannot be used; the message says why.
        """
        return ScheduleDecorator(self, id, Cron(expression, tz=tz), (args, kwargs), options)

    def every(
        self,
        period: Seconds,
        *,
        start: datetime | None = None,
        id: str | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] = NO_KWARGS,
        **options: Unpack[PolicyOptions],
    ) -> ScheduleDecorator:
        """Have a job type called at intervals: ``@queue.every(30)``; otherwise like :meth:`cron`.

        Args:
            period: Seconds or ``timedelta``.
            start: The first instant, an aware datetime. Default: the multiples of the period since
                1970-01-01 in UTC.
            id, args, kwargs, options: As in :meth:`cron`.

        Raises:
            TypeError, ValueError: As :meth:`cron`.
        """
        return ScheduleDecorator(self, id, Every(period, start=start), (args, kwargs), options)

    def on(self, event: str) -> Callable[[H], H]:
        """Register a hook: ``@queue.on("failed")``; called in the process where it happened.

        Args:
            event: ``enqueued``, ``started``, ``completed``, ``retrying``, ``failed``,
                ``cancelled``, ``stalled`` or ``released``.
        """

        def register(hook: H) -> H:
            self.hooks.add(event, hook)
            return hook

        return register

    def after_execution(self, hook: X) -> X:
        """Register a hook that sees each attempt before anything is stored, and may change its
        result, its error and the time to live."""
        self.hooks.add_after_execution(hook)
        return hook

    # -- the producing side ----------------------------------------------------------------------

    async def enqueue(
        self, name: str, payload: Any = None, **options: Unpack[CallOptions]
    ) -> Receipt[Any]:
        """Store a job and return at once. See :meth:`Producer.enqueue`."""
        return await self.producer.enqueue(name, payload, **options)

    async def enqueue_many(self, specs: Iterable[JobSpec[R]]) -> list[Receipt[R]]:
        """Store many jobs, receipts in the same order. See :meth:`Producer.enqueue_many`."""
        return await self.producer.enqueue_many(specs)

    async def enqueue_and_wait(
        self, name: str, payload: Any = None, **options: Unpack[CallOptions]
    ) -> Any:
        """Store a job and wait for its result. See :meth:`Producer.enqueue_and_wait`."""
        return await self.producer.enqueue_and_wait(name, payload, **options)

    async def result(self, id: str, *, wait: Seconds | None = None) -> Any:
        """The result of a job, as soon as there is one. See :meth:`Producer.result`."""
        return await self.producer.result(id, wait=wait)

    async def get(self, id: str) -> JobInfo | None:
        """All that is stored about a job, or ``None``. See :meth:`Producer.get`."""
        return await self.producer.get(id)

    async def cancel(self, id: str) -> CancelResult:
        """Cancel a job that waits; ask a running one to stop. See :meth:`Producer.cancel`."""
        return await self.producer.cancel(id)

    async def set_result_ttl(self, id: str, seconds: Seconds) -> TtlResult:
        """Forget a finished job that many seconds from now. See :meth:`Producer.set_result_ttl`."""
        return await self.producer.set_result_ttl(id, seconds)

    async def counts(self) -> dict[str, int]:
        """The exact number of jobs in each state. See :meth:`Producer.counts`."""
        return await self.producer.counts()

    def events(self) -> EventStream:
        """Every worker's and producer's events from now on. See :meth:`Producer.events`."""
        return self.producer.events()

    # -- the consuming side ----------------------------------------------------------------------

    def worker(self, *, concurrency: int | None = None) -> Worker:
        """A worker for this queue, to be used with ``async with``."""
        return Worker(self, concurrency=concurrency)

    async def run(self) -> None:
        """Work on this queue until cancelled; then stop gracefully. Waits for a storage that is
        away."""
        await self.worker().run()


def _is_async(function: Callable[..., Any]) -> bool:
    handler = make_handler(function)
    return handler.is_async
