"""What happens to a job next: ``decide()``, the one place with a policy.

Whatever ends an attempt (a handler, a time limit, a stop, the reaper) becomes one of the small
values below; ``decide`` turns it into an :class:`Outcome`; a storage applies the outcome without
knowing why.
"""

from __future__ import annotations

import traceback as traceback_module
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, TypeAlias

from jobqueue.errors import JobError
from jobqueue.options import Policy
from jobqueue.packing import pack, unpack
from jobqueue.retry import next_delay
from jobqueue.states import EventType, JobState
from jobqueue.values import MAX_MS

MAX_MESSAGE_CHARS: Final = 8_000
MAX_TRACEBACK_CHARS: Final = 32_000
CANCELLED_WHILE_RUNNING: Final = "cancelled while running"


class Outcome(NamedTuple):
    """What a storage is to do with a leased job.

    Attributes:
        state: The state to enter. ``retrying`` and ``scheduled`` wait for ``delay_ms``; ``queued``
            goes to the head of the queue; the terminal ones keep ``value`` for ``ttl_ms``.
        event: What is published.
        refund: Give the attempt back.
        delay_ms: Milliseconds until the job is due again.
        value: The result, or the error, as bytes.
        ttl_ms: Milliseconds for which a terminal job is kept.
    """

    state: JobState
    event: EventType
    refund: bool = False
    delay_ms: int = 0
    value: bytes = b""
    ttl_ms: int = 0


@dataclass(frozen=True, slots=True)
class Returned:
    """The handler returned; ``value`` is its result as bytes."""

    value: bytes


@dataclass(frozen=True, slots=True)
class Raised:
    """The handler raised, or ran out of time (``TimeoutError``)."""

    error: BaseException
    reason: str = "exception"


@dataclass(frozen=True, slots=True)
class Refused:
    """The job can never succeed: undecodable, unknown name, unserialisable result."""

    error: BaseException
    reason: str


@dataclass(frozen=True, slots=True)
class RetryAsked:
    """The handler asked for another attempt (``Retry``); without a delay, the policy chooses."""

    delay_ms: int | None


@dataclass(frozen=True, slots=True)
class Snoozed:
    """The handler asked to be called again later, for free."""

    delay_ms: int


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """The handler gave up for good (``Cancel``)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Released:
    """The worker stops before the job is done."""


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """The worker gave no sign of life for a whole lease."""

    worker: str


Happened: TypeAlias = (
    Returned | Raised | Refused | RetryAsked | Snoozed | CancelAsked | Released | WorkerLost
)


def decide(
    policy: Policy, attempt: int, happened: Happened, *, cancel_requested: bool = False
) -> Outcome:
    """Choose the next state of a running job. Pure: no clock, no storage.

    Args:
        policy: What holds for this job.
        attempt: The charged attempt that just ended, 1-based.
        happened: How it ended.
        cancel_requested: Somebody asked to cancel the job while it ran, and its worker knew it:
            whatever happened, the job ends ``cancelled``.
    """
    if cancel_requested:
        return _cancelled(policy, attempt, CANCELLED_WHILE_RUNNING)
    match happened:
        case Returned(value):
            return Outcome(
                state=JobState.COMPLETED,
                event=EventType.COMPLETED,
                value=value,
                ttl_ms=policy.result_ttl_ms,
            )
        case CancelAsked(reason):
            return _cancelled(policy, attempt, reason)
        case Released():
            return Outcome(state=JobState.QUEUED, event=EventType.RELEASED, refund=True)
        case Snoozed(delay_ms):
            return Outcome(
                state=JobState.SCHEDULED, event=EventType.RELEASED, refund=True, delay_ms=delay_ms
            )
        case WorkerLost(worker):
            error = JobError(
                type="WorkerLost",
                message=f"worker {worker!r} died or hung while it ran this job",
                attempts=attempt,
                reason="worker_lost",
            )
            if attempt < policy.max_attempts:
                return Outcome(
                    state=JobState.QUEUED, event=EventType.RETRYING, value=encode_error(error)
                )
            return _failed(policy, error)
        case Refused(error, reason):
            return _failed(policy, describe(error, attempt, reason))
        case RetryAsked(delay_ms):
            return _retry_asked(policy, attempt, delay_ms)
        case Raised(error, reason):
            return _raised(policy, attempt, error, reason)


def with_result_ttl(policy: Policy, ttl_ms: int) -> Policy:
    """The policy, with another time to live for what ends now."""
    return policy if ttl_ms == policy.result_ttl_ms else replace(policy, result_ttl_ms=ttl_ms)


def _raised(policy: Policy, attempt: int, error: BaseException, reason: str) -> Outcome:
    # What is no Exception (SystemExit, a stray CancelledError) or cannot even say what it is
    # would not go better the next time.
    if isinstance(error, Exception) and attempt < policy.max_attempts and _printable(error):
        delay = next_delay(policy.retry, policy.narrowing, attempt, error)
        if delay is not None:
            return Outcome(
                state=JobState.RETRYING,
                event=EventType.RETRYING,
                delay_ms=_delay_ms(delay),
                value=encode_error(describe(error, attempt, reason)),
            )
    return _failed(policy, describe(error, attempt, reason))


def _retry_asked(policy: Policy, attempt: int, delay_ms: int | None) -> Outcome:
    exhausted = RuntimeError(f"asked for a retry after its last attempt ({attempt})")
    if attempt >= policy.max_attempts:
        return _failed(policy, describe(exhausted, attempt, "exception"))
    if delay_ms is None:
        delay = next_delay(policy.retry, policy.narrowing, attempt, exhausted)
        delay_ms = 0 if delay is None else _delay_ms(delay)
    return Outcome(state=JobState.RETRYING, event=EventType.RETRYING, delay_ms=delay_ms)


def _delay_ms(seconds: float) -> int:
    return round(min(seconds * 1000, MAX_MS))


def _failed(policy: Policy, error: JobError) -> Outcome:
    return Outcome(
        state=JobState.FAILED,
        event=EventType.FAILED,
        value=encode_error(error),
        ttl_ms=policy.result_ttl_ms,
    )


def _cancelled(policy: Policy, attempt: int, reason: str) -> Outcome:
    return Outcome(
        state=JobState.CANCELLED,
        event=EventType.CANCELLED,
        value=encode_error(cancellation(reason, attempt)),
        ttl_ms=policy.result_ttl_ms,
    )


def cancellation(reason: str, attempts: int = 0) -> JobError:
    """The error that a cancelled job keeps."""
    return JobError(type="Cancelled", message=reason, attempts=attempts, reason="cancelled")


def _printable(error: BaseException) -> bool:
    try:
        str(error)
    except BaseException:
        return False
    return True


def describe(error: BaseException, attempts: int, reason: str = "exception") -> JobError:
    """An exception as plain text, whatever it does when it is printed."""
    try:
        message = str(error)
    except BaseException as failure:
        message = f"<the error cannot be printed: {type(failure).__name__}>"
    try:
        text = "".join(traceback_module.format_exception(error))
    except BaseException:
        text = ""
    return JobError(
        type=type(error).__name__,
        message=_clean(message)[:MAX_MESSAGE_CHARS],
        traceback=_clean(text)[-MAX_TRACEBACK_CHARS:],
        attempts=attempts,
        reason=reason,
    )


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def encode_error(error: JobError) -> bytes:
    """A :class:`JobError` as the bytes that a storage keeps."""
    fields = [error.type, error.message, error.traceback, error.attempts, error.reason]
    return pack(fields)


def decode_error(data: bytes) -> JobError:
    """The error that :func:`encode_error` wrote; anything else becomes an error that says so."""
    try:
        fields: Any = unpack(data)
        kind, message, text, attempts, reason = fields[:5]
        error = JobError(type=str(kind), message=str(message), traceback=str(text))
        return replace(error, attempts=int(attempts), reason=str(reason))
    except Exception:
        return JobError(type="Unknown", message="the stored error cannot be read")


EXPIRED_REASON: Final = "expired"
EXPIRED: Final = encode_error(
    JobError(type="Expired", message="not started in time", reason=EXPIRED_REASON)
)
"""The error of a job that was not started in time."""
