"""The states of a job, and every legal step between them, as data."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class JobState(StrEnum):
    """Where a job stands. Equal to the plain string."""

    SCHEDULED = "scheduled"
    """Waits for its time (``delay``, ``run_at`` or a snooze)."""
    QUEUED = "queued"
    """Waits for a worker."""
    RUNNING = "running"
    """Leased to a worker."""
    RETRYING = "retrying"
    """An attempt failed; waits for its backoff."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL: Final = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})
"""States that nothing leaves, except by the job's time to live (or, for ``cancelled``, a new
enqueue of the same id)."""

TRANSITIONS: Final[Mapping[JobState, frozenset[JobState]]] = MappingProxyType(
    {
        JobState.SCHEDULED: frozenset({JobState.QUEUED, JobState.CANCELLED}),
        JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED}),
        JobState.RUNNING: frozenset(
            {
                JobState.COMPLETED,
                JobState.FAILED,
                JobState.CANCELLED,
                JobState.RETRYING,
                JobState.SCHEDULED,  # a snooze
                JobState.QUEUED,  # a release
            }
        ),
        JobState.RETRYING: frozenset({JobState.QUEUED, JobState.CANCELLED}),
        JobState.COMPLETED: frozenset(),
        JobState.FAILED: frozenset(),
        JobState.CANCELLED: frozenset(),
    }
)
"""Each state with the states that may follow it."""


class EventType(StrEnum):
    """What ``queue.on()`` hooks are named after and ``queue.events()`` yields."""

    ENQUEUED = "enqueued"
    STARTED = "started"
    COMPLETED = "completed"
    RETRYING = "retrying"
    FAILED = "failed"
    CANCELLED = "cancelled"
    STALLED = "stalled"
    """The worker of a running job gave no sign of life for a lease; the job was taken over."""
    RELEASED = "released"
    """A worker gave the job back without charging the attempt (stop, or a snooze)."""


class EnqueueStatus(StrEnum):
    """What became of an enqueue."""

    QUEUED = "queued"
    """The id was new; the job is stored."""
    DUPLICATE = "duplicate"
    """The id is known and has no result (yet); nothing was stored."""
    COMPLETED = "completed"
    """The id already has a result; nothing will run."""
    REPLACED = "replaced"
    """A job of the same unique key waits; it has this one's payload now."""


class CancelResult(StrEnum):
    """What became of a cancel."""

    CANCELLED = "cancelled"
    NOT_FOUND = "not_found"
    RUNNING = "running"
    """It runs; a stop has been requested."""
    FINISHED = "finished"


class TtlResult(StrEnum):
    """What became of a change of a finished job's time to live."""

    UPDATED = "updated"
    NOT_FOUND = "not_found"
    NOT_FINISHED = "not_finished"


class RescheduleResult(StrEnum):
    """What became of a new due time."""

    UPDATED = "updated"
    NOT_FOUND = "not_found"
    QUEUED = "queued"
    """It waits for a worker, not for a time."""
    RUNNING = "running"
    FINISHED = "finished"
