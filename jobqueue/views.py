"""Turns what a storage keeps into what users see."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar

from jobqueue.errors import (
    JobCancelled,
    JobError,
    JobExpired,
    JobFailed,
    SerializationError,
)
from jobqueue.job import Event, JobInfo, from_ms, maybe_from_ms
from jobqueue.outcome import EXPIRED_REASON, decode_error
from jobqueue.registry import Registry
from jobqueue.serde import SerdeSet
from jobqueue.spec import Spec, SpecError, decode_spec
from jobqueue.states import EventType, JobState
from jobqueue.storage.types import StorageEvent, StoredJob, StoredResult

E = TypeVar("E", bound=Event)


def result_of(id: str, ending: StoredResult, serdes: SerdeSet) -> Any:
    """The value of a job that has ended.

    Raises:
        JobFailed: It failed.
        JobCancelled: It was cancelled.
        JobExpired: It was not started in time.
        SerializationError: The result cannot be read here.
    """
    value = ending.value or b""
    if ending.state is JobState.COMPLETED:
        return serdes.load_alone(value, f"the result of job {id!r}")
    error = decode_error(value)
    if ending.state is JobState.CANCELLED:
        ended = JobExpired if error.reason == EXPIRED_REASON else JobCancelled
        raise ended(id, error.message)
    raise JobFailed(id, error)


def job_info(stored: StoredJob, queue: str, serdes: SerdeSet, registry: Registry) -> JobInfo:
    """A stored job, decoded as far as it can be."""
    spec = _readable_spec(stored.spec)
    payload, result, error = None, None, None
    if spec is not None:
        payload = _readable(lambda: serdes.loads(spec.serde, spec.payload, "the payload"))
    if stored.state is JobState.COMPLETED:
        result = _readable(lambda: serdes.load_alone(stored.value, "the result"))
    elif stored.value:
        error = decode_error(stored.value)
    return JobInfo(
        id=stored.id,
        name=stored.name,
        queue=queue,
        state=stored.state,
        payload=payload,
        raw=stored.spec,
        attempt=stored.attempt,
        max_attempts=registry.policy(stored.name, spec, stored.ttl_ms).max_attempts,
        enqueued_at=from_ms(stored.enqueued_ms),
        due_at=maybe_from_ms(stored.due_ms),
        started_at=maybe_from_ms(stored.started_ms),
        finished_at=maybe_from_ms(stored.finished_ms),
        expires_at=maybe_from_ms(stored.expires_ms),
        worker=stored.worker or None,
        cancel_requested=stored.cancel_requested,
        result=result,
        error=error,
        **_conditions(stored),
    )


def _conditions(stored: StoredJob) -> dict[str, Any]:
    flow = stored.flow
    if flow is None:
        return {}
    return {
        "priority": flow.priority,
        "group": flow.group or None,
        "start_by": from_ms(stored.enqueued_ms + flow.expires_ms) if flow.expires_ms else None,
        "unique_key": flow.unique.key if flow.unique else None,
        "limit": flow.limit or None,
        "limit_key": flow.key or None,
    }


def _readable_spec(data: bytes) -> Spec | None:
    try:
        return decode_spec(data)
    except SpecError:
        return None


def _readable(load: Any) -> Any:
    try:
        return load()
    except SerializationError:
        return None


def event_of(event: StorageEvent, queue: str) -> Event:
    """An event from a storage."""
    return Event(
        type=event.type,
        id=event.id,
        name=event.name,
        queue=queue,
        at=from_ms(event.at_ms),
        attempt=event.attempt,
        worker=event.worker or None,
    )


def local_event(
    event_class: type[E],
    type: EventType,
    id: str,
    name: str,
    queue: str,
    *,
    attempt: int,
    worker: str | None = None,
    **more: JobError | Any,
) -> E:
    """An event that happened in this process, by this machine's clock."""
    return event_class(
        type=type,
        id=id,
        name=name,
        queue=queue,
        at=datetime.now(UTC),
        attempt=attempt,
        worker=worker,
        **more,
    )
