"""What a health check wants to know of a worker."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class HealthState(StrEnum):
    """What a worker does for one queue."""

    STOPPED = "stopped"
    """It has not been started, or has stopped."""
    CLAIMING = "claiming"
    """It claims jobs and runs them, as many as it has slots."""
    STORAGE_UNAVAILABLE = "storage_unavailable"
    """The storage does not serve. What runs goes on, outcomes are held, and all that failed is
    tried again: a restart would help nothing."""
    STOPPING = "stopping"
    """It claims no more, and finishes what runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The health of a worker in one queue.

    Attributes:
        queue: The queue's name.
        state: What it does there.
        unavailable_since: When the storage first failed, while it does not serve.
        active_count: Jobs that run here now.
    """

    queue: str
    state: HealthState
    active_count: int = 0
    unavailable_since: datetime | None = None

    @property
    def is_claiming(self) -> bool:
        """Whether new jobs get a worker here."""
        return self.state is HealthState.CLAIMING

    def __str__(self) -> str:
        state = self.state.replace("_", " ")
        if self.unavailable_since is not None:
            state += f" since {self.unavailable_since.isoformat(timespec='seconds')}"
        return f"queue {self.queue!r}: {state}, {self.active_count} running"
