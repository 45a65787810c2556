"""``Queue``: the facade. It holds the job types and delegates the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, ParamSpec, TypeVar, Unpack

from jobqueue import admin
from jobqueue.admin import Progress, QueueControl
from jobqueue.decorators import JobDecorator, ScheduleDecorator
from jobqueue.events import EventStream
from jobqueue.hooks import ExecutionHook, Hook, Hooks
from jobqueue.ids import check_name
from jobqueue.job import JobInfo
from jobqueue.limiting import QueueLimits
from jobqueue.limits import Limit
from jobqueue.options import CallOptions, QueueOptions, TypeOptions, type_options
from jobqueue.producer import Producer
from jobqueue.receipt import JobSpec, Receipt
from jobqueue.registry import JobFunction, Registry, make_handler
from jobqueue.retry import Backoff, ErrorTypes
from jobqueue.schedules import Cron, Every, PolicyOptions, QueueSchedules
from jobqueue.serde import Serde, SerdeSet
from jobqueue.states import CancelResult, RescheduleResult, TtlResult
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
        limits: What holds for all jobs of the queue together, on all workers: a
            :class:`~jobqueue.Limit` without ``by``. Default: no limit.

    Attributes:
        limits: The limits that are in force; see :class:`~jobqueue.limiting.QueueLimits`.

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
        limits: Limit | None = None,
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
            "limits": limits,
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
        self.limits: Final = QueueLimits(self.producer)
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
        give_up_on: ErrorTypes = (),
        retry_on: ErrorTypes = (),
        **options: Unpack[TypeOptions],
    ) -> JobDecorator:
        """Register a function as a job type.

        Args:
            name: Under which its jobs are stored. Default: the function's name.
            give_up_on: Errors that are never retried.
            retry_on: If given, only these are.
            options: What holds for its jobs, in place of the queue's own: ``max_attempts``,
                ``timeout``, ``retry`` (a policy, or any ``(attempt, error) -> seconds | None``),
                ``result_ttl``, ``priority``, ``expires``, ``group_by``, ``unique``, ``throttle``,
                ``debounce``, ``keep_last``, ``limits``, ``drop_abandoned``. See
                :class:`~jobqueue.JobOptions`.

        Raises:
            TypeError: An option of the wrong type; the message names it.
            ValueError: An option out of range, or one that names an argument which the function
                does not have; the message names it.
        """
        return JobDecorator(self, name, type_options(**options), give_up_on, retry_on)

    def handler(
        self,
        name: str | None = None,
        *,
        give_up_on: ErrorTypes = (),
        retry_on: ErrorTypes = (),
        **options: Unpack[TypeOptions],
    ) -> Callable[[F], F]:
        """Register a function of one :class:`~jobqueue.Job`, which may use ``job.payload``.

        Args:
            name: Which jobs it runs. Default: all that have no handler of their own.
            give_up_on, retry_on, options: As in :meth:`job`.
        """
        own = type_options(**options)

        def register(function: F) -> F:
            handler = make_handler(function, own, give_up_on=give_up_on, retry_on=retry_on)
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

    # -- jobs that wait for their time -----------------------------------------------------------

    async def reschedule(self, id: str, at: datetime | Seconds) -> RescheduleResult:
        """Give a job that waits for its time another one.

        Args:
            id: The job.
            at: An aware datetime, or seconds from now; 0, or a moment that is not in the future,
                for at once.

        Returns:
            ``updated``; ``queued``, ``running`` or ``finished`` for a job that does not wait for a
            time; ``not_found``.
        """
        return await admin.reschedule(self.producer, id, at)

    async def run_now(self, id: str) -> RescheduleResult:
        """Let a job that waits for its time start at once; as :meth:`reschedule`."""
        return await admin.run_now(self.producer, id)

    async def scheduled(self, limit: int = 100, after: JobInfo | None = None) -> list[JobInfo]:
        """Jobs that wait for their time, or for their retry, the next one first.

        Args:
            limit: So many at most.
            after: The last one of the page before.
        """
        return await admin.scheduled(self.producer, limit, after)

    # -- the whole queue -------------------------------------------------------------------------

    async def control(self) -> QueueControl:
        """What holds for the whole queue now."""
        return await admin.control(self.producer)

    async def pause(self) -> None:
        """Let no worker start anything; what runs, runs on. Holds until :meth:`resume`."""
        await admin.pause(self.producer)

    async def resume(self) -> None:
        """Take back :meth:`pause` and :meth:`drain`."""
        await admin.resume(self.producer)

    async def drain(self, wait: Seconds | None = None) -> None:
        """Accept nothing new; what is there is finished. Holds until :meth:`resume`.

        Producers get :class:`~jobqueue.QueueDraining`. Schedules still make their jobs.

        Args:
            wait: Seconds to wait until nothing waits (also for its time) or runs any more.
                Default: do not wait.

        Raises:
            DrainTimeout: Something still waits or runs. The queue goes on draining.
        """
        await admin.drain(self.producer, wait)

    async def clear(self, progress: Progress | None = None) -> int:
        """Cancel every job that waits; what runs, runs on.

        A step at a time, so that nobody has to wait long: jobs that come meanwhile go too.

        Args:
            progress: Called after each step with the number so far.

        Returns:
            How many jobs were cancelled.
        """
        return await admin.clear(self.producer, progress)

    async def obliterate(
        self, confirm: str, *, force: bool = False, progress: Progress | None = None
    ) -> int:
        """Forget everything about the queue: jobs of any state, results, schedules, limits.

        It is paused and drained first; afterwards it is as new. Nobody who waits is told.

        Args:
            confirm: The queue's name.
            force: Also while jobs run: their workers lose them, and stop their handlers.
            progress: Called after each step with the number so far.

        Returns:
            How many jobs were forgotten.

        Raises:
            ValueError: ``confirm`` is not the queue's name. Nothing was done.
            ConfigurationError: Jobs run, and ``force`` was not given. Nothing was done.
        """
        return await admin.obliterate(self.producer, confirm, force, progress)

    async def set_max_length(self, count: int | None) -> None:
        """Let no more than so many jobs wait (queued or scheduled); ``None`` for any number.

        Producers get :class:`~jobqueue.QueueFull` for more. What is there stays.
        """
        await admin.set_max_length(self.producer, count)

    async def set_low_share(self, share: float | None) -> None:
        """Give ``low`` jobs a share of the starts, however many others wait.

        Args:
            share: At most 0.5: with 0.1, at least every tenth job that starts is a ``low`` one
                while there are any. ``None`` for strict priority.
        """
        await admin.set_low_share(self.producer, share)

    # -- the consuming side ----------------------------------------------------------------------

    def worker(self, *, concurrency: int | None = None) -> Worker:
        """A worker for this queue, to be used with ``async with``."""
        return Worker(self, concurrency=concurrency)

    async def run(self) -> None:
        """Work on this queue until cancelled; then stop gracefully. Waits for a storage that is
        away."""
        await self.worker().run()
