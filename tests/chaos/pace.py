"""How many of some moments lie in a window of time, wherever it is put."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple


class Pace(NamedTuple):
    """The fewest and the most in any window that lies between the first moment and the last."""

    least: int
    most: int


def pace_of(moments: Sequence[float], window: float) -> Pace | None:
    """The pace of sorted moments; ``None`` if no window lies between them."""
    if not moments or moments[-1] - moments[0] < window:
        return None
    # There are the most in one that begins at a moment, and the fewest in one right behind it.
    most = max(bisect_left(moments, at + window) - number for number, at in enumerate(moments))
    least = min(
        bisect_right(moments, at + window) - bisect_right(moments, at)
        for at in moments
        if at + window <= moments[-1]
    )
    return Pace(least, most)
