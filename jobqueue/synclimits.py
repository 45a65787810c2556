"""``queue.limits`` of a queue without ``await``."""

from __future__ import annotations

from jobqueue.limiting import list_limits, remove_limit, set_limit
from jobqueue.limits import Limit, LimitInfo
from jobqueue.syncclient import SyncClient


class SyncLimits:
    """The limits of one queue; see :class:`~jobqueue.limiting.QueueLimits`."""

    def __init__(self, client: SyncClient) -> None:
        self._client = client

    def set(self, limit: Limit, *, job_type: str | None = None, key: str | None = None) -> None:
        """Put a limit in force. See :func:`~jobqueue.limiting.set_limit`."""
        self._client.call("queue.limits.set", set_limit, limit, job_type=job_type, key=key)

    def remove(self, *, job_type: str | None = None, key: str | None = None) -> None:
        """End a limit. See :func:`~jobqueue.limiting.remove_limit`."""
        self._client.call("queue.limits.remove", remove_limit, job_type=job_type, key=key)

    def list(self) -> list[LimitInfo]:
        """The limits in force. See :func:`~jobqueue.limiting.list_limits`."""
        return self._client.call("queue.limits.list", list_limits)
