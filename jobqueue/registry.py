"""Which handler runs which job type, and what holds for a job once all options are merged."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from jobqueue.errors import ConfigurationError
from jobqueue.flow import Limit, LimitKind, LimitScope
from jobqueue.ids import check_name
from jobqueue.job import Job
from jobqueue.limits import check_limits, scope_of, to_port
from jobqueue.options import NO_OPTIONS, JobOptions, Policy, QueueOptions
from jobqueue.retry import ErrorTypes, Narrowing, can_travel
from jobqueue.spec import Spec
from jobqueue.values import UNSET, to_ms

JobFunction: TypeAlias = Callable[[Job], Any]

NO_NARROWING = Narrowing()


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """What runs the jobs of one name.

    Attributes:
        call: Takes the job; a coroutine function, or a plain one that runs in a thread.
        is_async: Which of the two.
        options: Options of the job type.
        narrowing: Errors that are never, or alone, retried.
        defaults: Arguments that have the value given here when a job does not say another.
    """

    call: JobFunction
    is_async: bool
    options: JobOptions = NO_OPTIONS
    narrowing: Narrowing = NO_NARROWING
    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])


def make_handler(
    call: JobFunction,
    options: JobOptions = NO_OPTIONS,
    *,
    is_async: bool | None = None,
    give_up_on: ErrorTypes = (),
    retry_on: ErrorTypes = (),
    defaults: Mapping[str, Any] | None = None,
) -> Handler:
    """A handler for a function of one job.

    Raises:
        TypeError: It is not callable.
    """
    if not callable(call):
        raise TypeError(f"a handler must be a function, not {call!r}")
    if is_async is None:
        is_async = inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(
            getattr(call, "__call__", None)  # noqa: B004 - an object whose __call__ is async
        )
    narrowing = Narrowing(give_up_on=give_up_on, retry_on=retry_on)
    return Handler(
        call=call,
        is_async=is_async,
        options=options,
        narrowing=narrowing,
        defaults=defaults or {},
    )


class Registry:
    """The handlers of one queue, and the queue's own options as the last layer."""

    def __init__(self, options: QueueOptions) -> None:
        self.options = options
        self._handlers: dict[str, Handler] = {}
        self._travelling: dict[str, JobOptions] = {}
        self._fallback: Handler | None = None
        self._limits: dict[LimitScope, Limit] = {}
        if options.limits is not None:
            self._limits[LimitScope(LimitKind.QUEUE)] = to_port(options.limits)
        self._policies: dict[str, Policy] = {}
        self._fallback_policy = _policy(options, None)

    def add(self, name: str | None, handler: Handler) -> None:
        """Register a handler; without a name, for every name that has none of its own.

        Raises:
            ConfigurationError: The name is taken, or a limit of this name is declared otherwise.
        """
        if name is None:
            if not handler.options.is_plain:
                raise ConfigurationError(
                    "a handler for all other names cannot say when jobs may start: no producer "
                    "would know; give it a name, or give the options with each call"
                )
            if self._fallback is not None:
                raise ConfigurationError("a handler for all other names is registered already")
            self._fallback = handler
            self._fallback_policy = _policy(self.options, handler)
            return
        if check_name(name, "the job type's name") in self._handlers:
            raise ConfigurationError(
                f"a handler for {name!r} is registered already: give one of them another name, "
                'such as @queue.job(name="...")'
            )
        self._declare(name, handler.options)
        self._handlers[name] = handler
        self._policies[name] = _policy(self.options, handler)
        options = handler.options
        stays = options.retry is not UNSET and not can_travel(options.retry)
        self._travelling[name] = replace(options, retry=UNSET) if stays else options

    def find(self, name: str) -> Handler | None:
        """The handler of a name, or the one for all others, or ``None``."""
        return self._handlers.get(name, self._fallback)

    def options_of(self, name: str) -> JobOptions:
        """What a job type says about its jobs and can travel with them.

        A retry function stays with the worker. None for a name that is not known here.

        Raises:
            TypeError, ValueError: It cannot be a job's name.
        """
        try:
            return self._travelling[name]
        except (KeyError, TypeError):
            check_name(name, "the job's name")
            return NO_OPTIONS

    def defaults_of(self, name: str) -> Mapping[str, Any]:
        """Arguments with the values that they have when a job does not say others."""
        handler = self._handlers.get(name)
        return {} if handler is None else handler.defaults

    @property
    def limits(self) -> Mapping[LimitScope, Limit]:
        """The limits that are declared for this queue and its job types."""
        return self._limits

    def _declare(self, name: str, options: JobOptions) -> None:
        if options.limits is UNSET:
            return
        declared = {scope_of(one, name): to_port(one) for one in check_limits(options.limits)}
        for scope, limit in declared.items():
            if self._limits.get(scope, limit) != limit:
                raise ConfigurationError(
                    f"job type {name!r} declares the limit {scope.name!r}, which is declared "
                    "already with other numbers: give both the same, or one another name"
                )
        self._limits.update(declared)

    @property
    def names(self) -> list[str]:
        """The registered names; ``*`` stands for all others."""
        return sorted(self._handlers) + (["*"] if self._fallback else [])

    def policy(self, name: str, spec: Spec | None, ttl_ms: int) -> Policy:
        """What holds for one job: its own spec, else its job type, else the queue.

        Args:
            name: The job's name.
            spec: Its spec, or ``None`` when that cannot be read.
            ttl_ms: The time to live that is stored with it, or 0.
        """
        policy = self._policies.get(name, self._fallback_policy)
        if spec is None:
            return policy if not ttl_ms else replace(policy, result_ttl_ms=ttl_ms)
        changes: dict[str, Any] = {}
        if ttl_ms:
            changes["result_ttl_ms"] = ttl_ms
        if spec.timeout_ms is not None:
            changes["timeout_ms"] = spec.timeout_ms or None
        if spec.max_attempts is not None:
            changes["max_attempts"] = spec.max_attempts
        if spec.retry is not None:
            changes["retry"] = spec.retry
        return replace(policy, **changes) if changes else policy


def _policy(queue: QueueOptions, handler: Handler | None) -> Policy:
    """The two layers that are the same for every job of a handler."""
    own = NO_OPTIONS if handler is None else handler.options
    timeout = queue.timeout if own.timeout is UNSET else own.timeout
    result_ttl = queue.result_ttl if own.result_ttl is UNSET else own.result_ttl
    return Policy(
        max_attempts=queue.max_attempts if own.max_attempts is UNSET else own.max_attempts,
        retry=queue.retry if own.retry is UNSET else own.retry,
        narrowing=NO_NARROWING if handler is None else handler.narrowing,
        timeout_ms=None if timeout is None else to_ms(timeout, "timeout"),
        result_ttl_ms=to_ms(result_ttl, "result_ttl"),
    )
