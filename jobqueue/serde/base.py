"""The serde protocol."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

MAX_DEPTH = 64
"""Levels of nesting that are written and read."""


@runtime_checkable
class Serde(Protocol):
    """Turns values into bytes and back.

    Both methods may raise anything; the queue reports it as ``SerializationError``. The name is
    stored with each job, 1 to 32 ASCII letters, digits, ``-`` or ``_``: a worker reads what it was
    given with the serde of that name.
    """

    @property
    def name(self) -> str: ...

    def dumps(self, value: Any) -> bytes: ...

    def loads(self, data: bytes) -> Any: ...
