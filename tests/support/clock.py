"""A clock that moves only when a test says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

START_MS: Final = 2_000_000_000_000
"""Years away from the real time, so that a storage that looks at the wrong clock is noticed."""


class ManualClock:
    """Milliseconds since the epoch, as a storage's injected clock.

    Args:
        on_advance: Told by how much the time moves; for what keeps a time of its own, such as the
            time to live of a key on a real server.
    """

    def __init__(self, on_advance: Callable[[int], None] | None = None) -> None:
        self._now = START_MS
        self._on_advance = on_advance

    def now(self) -> int:
        """The moment."""
        return self._now

    async def advance(self, ms: int) -> None:
        """Let ``ms`` milliseconds pass at once."""
        self._now += ms
        if self._on_advance is not None:
            self._on_advance(ms)
