"""Every option: its meaning, its one default and its check.

Three layers: a queue's options are complete, those of a job type override them, those of a call
override both. Public values are seconds or ``timedelta``; inside, everything is whole milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Final

from jobqueue.ids import check_name
from jobqueue.retry import Backoff, Exponential, Narrowing, check_backoff
from jobqueue.values import UNSET, Seconds, Unset, check_count, due_ms, to_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """The options of a job type or of one call; :data:`UNSET` leaves the choice to the next layer.

    Attributes:
        id: Text of 1 to 255 bytes. Default: a new sortable id.
        delay: Seconds to wait before the job is due.
        run_at: Aware datetime at which the job is due. Not together with ``delay``.
        timeout: Seconds one attempt may run; ``None`` for no limit.
        max_attempts: Attempts in total, the first included.
        retry: Backoff policy.
        result_ttl: Seconds for which a finished job's result, error and id are kept.
        wait: Seconds a caller waits for the result; ``None`` for as long as it takes.

    Raises:
        TypeError: A value of the wrong type; the message names the option.
        ValueError: A value out of range; the message names the option.
    """

    id: str | Unset = UNSET
    delay: Seconds | Unset = UNSET
    run_at: datetime | Unset = UNSET
    timeout: Seconds | Unset | None = UNSET
    max_attempts: int | Unset = UNSET
    retry: Backoff | Unset = UNSET
    result_ttl: Seconds | Unset = UNSET
    wait: Seconds | Unset | None = UNSET

    def __post_init__(self) -> None:
        if self.id is not UNSET:
            check_name(self.id, "id")
        if self.delay is not UNSET:
            to_ms(self.delay, "delay")
            if self.run_at is not UNSET:
                raise ValueError("give delay or run_at, not both")
        if self.run_at is not UNSET:
            due_ms(self.run_at)
        if self.timeout is not UNSET and self.timeout is not None:
            to_ms(self.timeout, "timeout")
        if self.max_attempts is not UNSET:
            check_count(self.max_attempts, "max_attempts")
        if self.retry is not UNSET:
            check_backoff(self.retry)
        if self.result_ttl is not UNSET:
            to_ms(self.result_ttl, "result_ttl")
        if self.wait is not UNSET and self.wait is not None:
            to_ms(self.wait, "wait")

    def override(self, other: JobOptions) -> JobOptions:
        """These options, with those that ``other`` sets in their place."""
        if self is NO_OPTIONS or other is NO_OPTIONS:
            return other if self is NO_OPTIONS else self
        changes = _given(other)
        if "delay" in changes:
            changes.setdefault("run_at", UNSET)
        elif "run_at" in changes:
            changes.setdefault("delay", UNSET)
        return replace(self, **changes) if changes else self


_JOB_OPTION_NAMES: Final = tuple(field.name for field in fields(JobOptions))


def _given(options: JobOptions) -> dict[str, Any]:
    return {
        name: value for name in _JOB_OPTION_NAMES if (value := getattr(options, name)) is not UNSET
    }


NO_OPTIONS: Final = JobOptions()

KiB: Final = 1024
MiB: Final = 1024 * KiB
DEFAULT_WAIT: Final = 30.0
"""Seconds that ``call`` and ``enqueue_and_wait`` wait when nothing else is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOptions:
    """The options of a queue, complete: the last layer, and the one place of the defaults.

    Attributes:
        concurrency: Jobs that one worker runs at a time.
        lease: Seconds without a sign of life after which a worker's job is recovered.
        grace: Seconds that a stop waits for running jobs.
        max_attempts: Attempts in total, the first included.
        retry: Backoff policy.
        timeout: Seconds one attempt may run; ``None`` for no limit.
        result_ttl: Seconds for which a finished job's result, error and id are kept.
        max_payload: Largest payload in bytes.
        max_result: Largest result in bytes.
        maintenance: Whether workers of this queue also recover, promote and prune.

    Raises:
        TypeError: A value of the wrong type; the message names the option.
        ValueError: A value out of range; the message names the option.
    """

    concurrency: int = 10
    lease: Seconds = 30.0
    grace: Seconds = 30.0
    max_attempts: int = 3
    retry: Backoff = Exponential()  # noqa: RUF009 - frozen, so one object may serve all
    timeout: Seconds | None = None
    result_ttl: Seconds = 3600.0
    max_payload: int = MiB
    max_result: int = 16 * MiB
    maintenance: bool = True

    def __post_init__(self) -> None:
        check_count(self.concurrency, "concurrency", maximum=100_000)
        if to_ms(self.lease, "lease") < 100:
            raise ValueError(f"lease must be at least 0.1 s, not {self.lease!r}")
        to_ms(self.grace, "grace", zero=True)
        check_count(self.max_attempts, "max_attempts")
        check_backoff(self.retry)
        if self.timeout is not None:
            to_ms(self.timeout, "timeout")
        to_ms(self.result_ttl, "result_ttl")
        check_count(self.max_payload, "max_payload", maximum=512 * MiB)
        check_count(self.max_result, "max_result", maximum=512 * MiB)

    @property
    def lease_ms(self) -> int:
        return to_ms(self.lease, "lease")

    @property
    def grace_seconds(self) -> float:
        return to_ms(self.grace, "grace", zero=True) / 1000

    @property
    def result_ttl_ms(self) -> int:
        return to_ms(self.result_ttl, "result_ttl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What holds for one running job once all layers are merged.

    Attributes:
        max_attempts: Attempts in total.
        retry: Backoff policy.
        narrowing: Errors that are never, or alone, retried.
        timeout_ms: Milliseconds one attempt may run, or ``None``.
        result_ttl_ms: Milliseconds for which the finished job is kept.
    """

    max_attempts: int
    retry: Backoff
    narrowing: Narrowing
    timeout_ms: int | None
    result_ttl_ms: int
