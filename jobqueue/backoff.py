"""How long our own plumbing waits before it tries a storage again."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from typing import Final

_FIRST: Final = 0.05
_LONGEST: Final = 2.0


class Outage:
    """A stretch of time in which a storage does not serve: when it began, and the next wait."""

    def __init__(self) -> None:
        self._delay = _FIRST
        self.since: float | None = None
        """Monotonic time of the first failure, or ``None`` while all is well."""
        self.began_at: datetime | None = None
        """The same by the clock on the wall, for people."""

    def failed(self) -> float:
        """Note a failure; seconds to wait, doubling up to 2, with jitter of a half."""
        if self.since is None:
            self.since, self.began_at = time.monotonic(), datetime.now(UTC)
        delay = self._delay * random.uniform(0.5, 1.0)
        self._delay = min(_LONGEST, self._delay * 2)
        return delay

    def over(self) -> float | None:
        """Note a success; seconds that the outage lasted, if there was one."""
        if self.since is None:
            return None
        lasted = time.monotonic() - self.since
        self.since, self.began_at, self._delay = None, None, _FIRST
        return lasted
