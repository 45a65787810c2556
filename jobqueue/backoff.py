"""How long our own plumbing waits before it tries a storage again."""

from __future__ import annotations

import random
import time
from typing import Final

_FIRST: Final = 0.05
_LONGEST: Final = 2.0


class Outage:
    """A stretch of time in which a storage does not serve: when it began, and the next wait."""

    def __init__(self) -> None:
        self._delay = _FIRST
        self.since: float | None = None
        """Monotonic time of the first failure, or ``None`` while all is well."""

    def failed(self) -> float:
        """Note a failure; seconds to wait, doubling up to 2, with jitter of a half."""
        if self.since is None:
            self.since = time.monotonic()
        delay = self._delay * random.uniform(0.5, 1.0)
        self._delay = min(_LONGEST, self._delay * 2)
        return delay

    def over(self) -> float | None:
        """Note a success; seconds that the outage lasted, if there was one."""
        if self.since is None:
            return None
        lasted, self.since, self._delay = time.monotonic() - self.since, None, _FIRST
        return lasted
