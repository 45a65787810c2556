"""The clock of storages that have no server to ask."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

Clock: TypeAlias = Callable[[], int]
"""Gives milliseconds since the epoch."""


def system_clock() -> int:
    """Milliseconds since the epoch, by this machine."""
    return time.time_ns() // 1_000_000
