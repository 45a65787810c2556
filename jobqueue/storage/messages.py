"""What arrives on a channel is anybody's bytes: held against what it must be."""

from __future__ import annotations

from typing import Any, Final

from jobqueue.states import TERMINAL, EventType
from jobqueue.storage.types import CancelRequested, Claim, Reply, StorageEvent

_LAST_MS: Final = 253_402_300_799_999
"""The end of the year 9999, behind which there is no datetime."""


_ENDINGS: Final = {state.value: state for state in TERMINAL}


class MalformedMessage(ValueError):
    """A message that nobody of ours has sent."""


def reply(id: Any, state: Any, value: Any) -> Reply:
    """A reply.

    Raises:
        ValueError: It is none.
    """
    if type(id) is str and (value is None or type(value) is bytes):
        ended = _ENDINGS.get(state)
        if ended is not None:
            return Reply(id, ended, value)
    raise MalformedMessage("no reply")


def storage_event(
    type_: Any, id: Any, name: Any, at_ms: Any, attempt: Any, worker: Any
) -> StorageEvent:
    """An event.

    Raises:
        ValueError: It is none.
    """
    numbers = type(at_ms) is int and type(attempt) is int and 0 <= at_ms <= _LAST_MS
    if numbers and type(id) is type(name) is type(worker) is str:
        return StorageEvent(EventType(type_), id, name, at_ms, attempt, worker)
    raise MalformedMessage("no event")


def cancel_requested(id: Any) -> CancelRequested:
    """A request to stop a job.

    Raises:
        ValueError: It is none.
    """
    if type(id) is str:
        return CancelRequested(id)
    raise MalformedMessage("no request to stop a job")


def handed_claim(fields: Any, worker: str) -> Claim:
    """A job that a worker is handed, with texts as bytes.

    Raises:
        ValueError: It is none.
    """
    id, name, spec, fence, attempt, enqueued_ms, ttl_ms = fields
    numbers = type(fence) is type(attempt) is type(enqueued_ms) is type(ttl_ms) is int
    if (
        numbers
        and type(id) is type(name) is type(spec) is bytes
        and fence > 0
        and attempt > 0
        and 0 <= enqueued_ms <= _LAST_MS
        and ttl_ms >= 0
    ):
        return Claim(
            id.decode(), name.decode(), spec, fence, attempt, enqueued_ms, ttl_ms, False, worker
        )
    raise MalformedMessage("no job that is handed over")
