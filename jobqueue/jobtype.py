"""The typed layer: a function that can be called, enqueued, or called elsewhere."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, TypeVar, Unpack, cast

from jobqueue.errors import SerializationError
from jobqueue.job import Job
from jobqueue.options import NO_OPTIONS, CallOptions, JobOptions, call_options
from jobqueue.producer import Producer
from jobqueue.receipt import JobSpec, Receipt

if TYPE_CHECKING:
    from jobqueue.queue import Queue
    from jobqueue.syncclient import SyncReceipt

P = ParamSpec("P")
R = TypeVar("R")

_POSITIONAL: Final = inspect.Parameter.POSITIONAL_OR_KEYWORD
_KEYWORD: Final = inspect.Parameter.KEYWORD_ONLY


class JobType(Generic[P, R]):
    """A function registered with a queue. Called directly, it is that plain function.

    Attributes:
        name: Under which its jobs are stored.
        queue: Where they are enqueued.
    """

    def __init__(
        self,
        queue: Queue,
        function: Callable[P, Any],
        name: str,
        options: JobOptions = NO_OPTIONS,
    ) -> None:
        # First of all: it copies the attributes of the function, which may be a job type itself.
        functools.update_wrapper(cast("Any", self), function)
        self.queue = queue
        self.name = name
        self._function = function
        self._options = options
        self._signature = _Signature(function)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<JobType {self.name!r} of queue {self.queue.name!r}>"

    def options(self, **options: Unpack[CallOptions]) -> JobType[P, R]:
        """The same job type with these options; see :class:`~jobqueue.options.JobOptions`.

        Raises:
            TypeError: A value of the wrong type; the message names the option.
            ValueError: A value out of range; the message names the option.
        """
        merged = self._options.override(call_options(**options))
        return JobType(self.queue, self._function, self.name, merged)

    def spec(self, /, *args: P.args, **kwargs: P.kwargs) -> JobSpec[R]:
        """The call as an inert value, for ``queue.enqueue_many``.

        Raises:
            TypeError: The arguments do not fit the function.
        """
        return JobSpec(self.name, self._signature.to_payload(args, kwargs), self._options)

    async def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Receipt[R]:
        """Store the call and return at once.

        Raises:
            TypeError: The arguments do not fit the function; nothing is stored.
            SerializationError: An argument cannot be serialised; nothing is stored.
            QueueFull, QueueDraining: The queue accepts nothing new; nothing is stored.
            StorageUnavailable: It may or may not be stored.
        """
        producer = self.queue.producer
        return await producer.enqueue_job(producer.intake.new_job(self.spec(*args, **kwargs)))

    async def call(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Have a worker make the call, and wait for its result (30 s; see ``options(wait=...)``).

        Raises:
            JobFailed: It failed for good.
            JobCancelled: It was cancelled.
            JobExpired: It was not started in time.
            WaitTimeout: No result in time; the job goes on.
            TypeError, SerializationError, QueueFull, QueueDraining, StorageUnavailable: As
                :meth:`enqueue`.
        """
        return await self.queue.producer.call_spec(self.spec(*args, **kwargs))

    def enqueue_sync(self, /, *args: P.args, **kwargs: P.kwargs) -> SyncReceipt[R]:
        """:meth:`enqueue` for any thread without an event loop, a sync handler's included.

        Raises:
            RuntimeError: An event loop runs in this thread, and would be blocked.
            TypeError, SerializationError, StorageUnavailable: As :meth:`enqueue`.
        """
        spec = self.spec(*args, **kwargs)
        return self.queue.sync_client.enqueue(f"{self.name}.enqueue", spec)

    def call_sync(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """:meth:`call` for any thread without an event loop, a sync handler's included.

        Raises:
            RuntimeError: An event loop runs in this thread, and would be blocked.
            JobFailed, JobCancelled, WaitTimeout: As :meth:`call`.
            TypeError, SerializationError, StorageUnavailable: As :meth:`enqueue`.
        """
        spec = self.spec(*args, **kwargs)
        return self.queue.sync_client.call(f"{self.name}.call", Producer.call_spec, spec)

    @property
    def defaults(self) -> Mapping[str, Any]:
        """The arguments that need not be given, with their values, as far as those could be."""
        found: dict[str, Any] = {}
        for name, value in self._signature.defaults.items():
            with contextlib.suppress(SerializationError):
                self.queue.serdes.dumps(value, name)
                found[name] = value
        return found

    def check_arguments(self, options: JobOptions) -> None:
        """See whether the arguments that options name are there.

        Raises:
            ValueError: One is not; the message names it.
        """
        for name in sorted(options.arguments - self._signature.names):
            known = ", ".join(sorted(self._signature.names)) or "none"
            raise ValueError(
                f"an option of job type {self.name!r} names the argument {name!r}; it has: {known}"
            )

    def handle(self, job: Job) -> Any:
        """Make the call that a job describes."""
        return self._signature.call(self._function, job.payload)


class _Signature:
    """Turns arguments into a map of parameter name to value, and back."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._signature = inspect.signature(function)
        parameters = self._signature.parameters.values()
        self.names: Final = frozenset(parameter.name for parameter in parameters)
        self._positional = tuple(
            parameter.name for parameter in parameters if parameter.kind is _POSITIONAL
        )
        self.defaults: Final = {
            parameter.name: parameter.default
            for parameter in parameters
            if parameter.default is not inspect.Parameter.empty
        }
        self._required = frozenset(
            parameter.name
            for parameter in parameters
            if parameter.default is inspect.Parameter.empty
        )
        self._is_plain = all(parameter.kind in (_POSITIONAL, _KEYWORD) for parameter in parameters)
        is_positional = len(self._positional) == len(parameters)
        self._count = len(parameters) if is_positional else None
        """How many arguments there are, if all may be given by position."""

    def to_payload(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        if len(args) == self._count and not kwargs:
            return dict(zip(self._positional, args))  # noqa: B905 - a keyword takes twice as long
        if self._is_plain and len(args) <= len(self._positional):
            payload: dict[str, Any] = dict(zip(self._positional, args, strict=False))
            payload.update(kwargs)
            is_once = len(payload) == len(args) + len(kwargs)
            if is_once and self._required <= payload.keys() <= self.names:
                return payload
        # Everything else, and the words for what does not fit.
        return dict(self._signature.bind(*args, **kwargs).arguments)

    def call(self, function: Callable[..., Any], payload: Any) -> Any:
        if payload is None:
            payload = {}  # a job enqueued by name without a payload
        if not isinstance(payload, dict):
            raise TypeError(
                f"the payload must be a map of parameter name to value, not {payload!r:.80}"
            )
        values: dict[str, Any] = payload  # pyright: ignore[reportUnknownVariableType]
        if self._is_plain:
            return function(**values)
        unknown = values.keys() - self.names
        if unknown:
            raise TypeError(f"unexpected arguments: {', '.join(sorted(map(str, unknown)))}")
        bound = inspect.BoundArguments(self._signature, OrderedDict(values))
        return function(*bound.args, **bound.kwargs)
