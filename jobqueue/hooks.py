"""Hooks: functions of the user that are called when something happens to a job in this process."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from jobqueue.errors import JobError
from jobqueue.job import Event, Job
from jobqueue.states import EventType
from jobqueue.values import Seconds

logger = logging.getLogger("jobqueue")


@dataclass(slots=True, kw_only=True)
class Execution:
    """One attempt that just ended, before anything is stored; ``after_execution`` may change it.

    Attributes:
        job: The job. Not to be changed.
        result: What the handler returned.
        error: What it raised, or ``None``. Set it to fail the attempt, clear it to let
            ``result`` count.
        result_ttl: Seconds for which the job is kept, if this attempt ends it.
    """

    job: Job
    result: Any
    error: BaseException | None
    result_ttl: Seconds


Hook: TypeAlias = Callable[[Event], Awaitable[None] | None]
ExecutionHook: TypeAlias = Callable[[Execution], Awaitable[None] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class HookEvent(Event):
    """An event in the process where it happened, which knows more.

    Attributes:
        result: The result of a completed job.
        error: Why an attempt failed, or the job was cancelled.
    """

    result: Any = None
    error: JobError | None = None


class Hooks:
    """The hooks of one queue. A hook that raises is logged and changes nothing."""

    def __init__(self) -> None:
        self._hooks: dict[EventType, list[Hook]] = {}
        self._after_execution: list[ExecutionHook] = []

    def add(self, type: str, hook: Hook) -> None:
        """Register a hook.

        Raises:
            ValueError: No such event.
        """
        try:
            event_type = EventType(type)
        except ValueError:
            known = ", ".join(EventType)
            raise ValueError(f"no event is called {type!r}: use one of {known}") from None
        self._hooks.setdefault(event_type, []).append(hook)

    def add_after_execution(self, hook: ExecutionHook) -> None:
        """Register a hook that sees each attempt before its outcome is stored."""
        self._after_execution.append(hook)

    def wanted(self, type: EventType) -> bool:
        """Whether anybody listens, so that nobody builds an event in vain."""
        return type in self._hooks

    @property
    def sees_executions(self) -> bool:
        return bool(self._after_execution)

    async def emit(self, event: HookEvent) -> None:
        """Call the hooks of this event, one after the other."""
        for hook in self._hooks.get(event.type, ()):
            await _call(hook, event, f"hook for {event.type!r} of job {event.id!r}")

    async def after_execution(self, execution: Execution) -> None:
        """Call the hooks that may change an outcome."""
        for hook in self._after_execution:
            before = (execution.result, execution.error, execution.result_ttl)
            what = f"after_execution of job {execution.job.id!r}"
            if not await _call(hook, execution, what):
                execution.result, execution.error, execution.result_ttl = before


async def _call(hook: Callable[[Any], Any], argument: object, what: str) -> bool:
    try:
        answer = cast("object", hook(argument))
        if inspect.isawaitable(answer):
            await answer
    except Exception:
        logger.exception("%s raised; nothing else is affected", what)
        return False
    return True
