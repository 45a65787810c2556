"""Seconds, counts and moments from outside: their checks. Inside, time is whole milliseconds."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from enum import Enum
from typing import Final, TypeAlias

Seconds: TypeAlias = int | float | timedelta

MAX_MS: Final = 10 * 366 * 24 * 3600 * 1000
"""Ten years: longer is a mistake, and would leave the whole numbers that Lua can represent."""


class Unset(Enum):
    """The type of :data:`UNSET`."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET
"""Not given: the next layer decides. ``None`` is a value, such as "no time limit"."""


def to_ms(value: object, what: str, *, zero: bool = False) -> int:
    """Turn public seconds into milliseconds, at least 1 (or 0 where ``zero`` is allowed).

    Raises:
        TypeError: Not an int, a float or a timedelta.
        ValueError: Negative, zero, NaN, infinite, or more than ten years.
    """
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = value
    else:
        raise TypeError(f"{what} must be seconds (int, float or timedelta), not {value!r}")
    if isinstance(seconds, float) and not math.isfinite(seconds):
        raise ValueError(f"{what} must be finite, not {value!r}")
    if seconds < 0 or (seconds == 0 and not zero):
        raise ValueError(f"{what} must be {'at least' if zero else 'more than'} 0, not {value!r}")
    # Some ints are too large for a float, and some floats for a thousand times as much.
    ms = _ceil_ms(seconds) if seconds <= MAX_MS else MAX_MS + 1
    if ms > MAX_MS:
        raise ValueError(f"{what} must be at most ten years, not {value!r}")
    return ms


def _ceil_ms(seconds: float) -> int:
    """Milliseconds, rounded up: 65.037 s are 65,037 ms, though 65.037 * 1000 is a little more."""
    ms = math.ceil(round(seconds * 1000, 3))
    return ms or (1 if seconds else 0)


def check_count(value: object, what: str, *, maximum: int = 1_000_000) -> int:
    """Check a whole number of at least 1.

    Raises:
        TypeError: Not an int.
        ValueError: Below 1 or above ``maximum``.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be a whole number, not {value!r}")
    if not 1 <= value <= maximum:
        raise ValueError(f"{what} must be between 1 and {maximum}, not {value}")
    return value


def due_ms(moment: object, what: str = "run_at") -> int:
    """Turn a moment, such as the ``run_at`` option, into milliseconds since the epoch.

    Raises:
        TypeError: Not a datetime.
        ValueError: It has no time zone.
    """
    if not isinstance(moment, datetime):
        raise TypeError(f"{what} must be a datetime, not {moment!r}")
    if moment.utcoffset() is None:
        raise ValueError(f"{what} must have a time zone: use datetime.now(UTC), not {moment!r}")
    return max(1, _ceil_ms(moment.timestamp()))
