"""One stored job, and what is said about it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from jobqueue.flow import LEVELS, Priority
from jobqueue.states import JobState
from jobqueue.storage.types import INLINE_BYTES, Claim, StoredJob

if TYPE_CHECKING:
    from jobqueue.storage.memory.limits import Lane

KEPT_REPLACERS: Final = 16
"""Requests that replaced a job, of which a repeat is known."""

_NORMAL: Final = LEVELS.index(Priority.NORMAL)


@dataclass(slots=True, eq=False)
class Row:
    """A job with what only this storage needs to know.

    Attributes:
        order: Names the row's one valid entry in the heap of delayed jobs.
        turn: When a limit first held it back, as a number that grows; 0 if none has since its last
            start.
        held_by: The lane with which it waits, instead of in a line.
        called_by: The lane that put it back in its line, and keeps a place for it.
        replacers: Tokens of the last requests that replaced it.
        level: Number of its level, 0 for the first to be served.
        group: Its group, empty for none.
    """

    job: StoredJob
    request: str
    order: int = 0
    lease_until: int = 0
    settled_fence: int = 0
    cancel_value: bytes | None = None
    cancel_request: str | None = None
    turn: int = 0
    held_by: Lane | None = None
    called_by: Lane | None = None
    reply_to: list[str] = field(default_factory=lambda: list[str]())
    replacers: deque[str] | None = None
    level: int = field(init=False, default=_NORMAL)
    group: str = field(init=False, default="")

    def __post_init__(self) -> None:
        flow = self.job.flow
        if flow is not None:
            self.level, self.group = LEVELS.index(flow.priority), flow.group

    def update(self, **changes: object) -> None:
        self.job = replace(self.job, **changes)  # pyright: ignore[reportArgumentType] - checked by the dataclass

    @property
    def has_not_started(self) -> bool:
        """It waits, and nobody ever claimed it."""
        return self.job.fence == 0 and self.job.state in (JobState.SCHEDULED, JobState.QUEUED)

    @property
    def ends_unstarted_ms(self) -> int:
        """The moment at which it expires; 0 for never."""
        flow = self.job.flow
        return self.job.enqueued_ms + flow.expires_ms if flow and flow.expires_ms else 0

    def remember(self, reply_to: str | None) -> None:
        """Tell this address too when it ends."""
        if reply_to is not None and reply_to not in self.reply_to:
            self.reply_to.append(reply_to)

    def claim(self, worker: str, *, cancel_requested: bool = False) -> Claim:
        """The lease as it is told; ``worker`` is who holds it, or lost it."""
        job = self.job
        return Claim(
            id=job.id,
            name=job.name,
            spec=job.spec,
            fence=job.fence,
            attempt=job.attempt,
            enqueued_ms=job.enqueued_ms,
            ttl_ms=job.ttl_ms,
            cancel_requested=cancel_requested,
            worker=worker,
        )


def inline(value: bytes) -> bytes | None:
    """The value, if it travels inside an answer."""
    return value if len(value) <= INLINE_BYTES else None
