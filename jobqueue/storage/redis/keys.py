"""The names of a queue's keys. ``lua/README.md`` says what each holds."""

from __future__ import annotations

import re
from typing import Final

_ESCAPES: Final = str.maketrans({"%": "%25", "{": "%7B", "}": "%7D"})
# A queue's name ends at the first brace: escaped, no name can reach into another queue's keys.


class QueueKeys:
    """The keys of one queue, by the names that the headers of the scripts use.

    All carry the queue's hash tag, so that a cluster keeps them in one slot. What varies (an id, a
    worker) stands at the end of a key, where nothing is parsed out of it.
    """

    __slots__ = ("_fixed", "_prefix")

    def __init__(self, queue: str) -> None:
        self._prefix = f"jq:{{{queue.translate(_ESCAPES)}}}:".encode()
        prefix = self._prefix
        self._fixed = {
            "prefix": prefix,
            "job": prefix + b"job:",
            "reply": prefix + b"reply:",
            "ready": prefix + b"ready",
            "delayed": prefix + b"delayed",
            "leases": prefix + b"leases",
            "workers": prefix + b"workers",
            "counts": prefix + b"counts",
            "claimed": prefix + b"claimed",
            "finished_completed": prefix + b"finished:completed",
            "finished_failed": prefix + b"finished:failed",
            "finished_cancelled": prefix + b"finished:cancelled",
            "stale": prefix + b"stale",
            "listeners": prefix + b"listeners",
            "handed": prefix + b"handed",
            "events": prefix + b"events",
            "control": prefix + b"control",
        }

    @property
    def pattern(self) -> str:
        """What matches all keys and channels of the queue, and no others, in the server's ACL."""
        return re.sub(r"([*?\[\]\\])", r"\\\1", self._prefix.decode()) + "*"

    def named(self, name: str, worker: str = "") -> bytes:
        """The key that a script's header calls ``name``; the inbox belongs to one worker."""
        key = self._fixed.get(name)
        return key if key is not None else self._prefix + f"{name}:{worker}".encode()

    def job(self, id: str) -> bytes:
        """The hash of one job."""
        return self._fixed["job"] + id.encode()

    def topic(self, topic: str) -> bytes:
        """The channel of a topic of the storage port."""
        return self._prefix + topic.encode()
