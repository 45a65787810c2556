"""Processes whose clock is wrong: by libfaketime where it is installed, else by a clock that the
process puts in the place of Python's own."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_LIBRARY: Final = os.environ.get("LIBFAKETIME") or next(
    (str(path) for path in Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), ""
)
_SKEW_MS: Final = "JOBQUEUE_CHAOS_SKEW_MS"

KIND: Final = "libfaketime" if _LIBRARY else "injected"
"""How clocks are made wrong on this machine."""


def environment(seed: int, number: int, most_ms: int) -> Mapping[str, str]:
    """What makes the clock of a process wrong by up to so much; the monotonic clock stays right.

    Args:
        seed: Of the run.
        number: Of the process.
        most_ms: 0 for a clock that is right.
    """
    if not most_ms:
        return {}
    skew_ms = random.Random(f"{seed}/{number}").randint(-most_ms, most_ms)
    if not _LIBRARY:
        return {_SKEW_MS: str(skew_ms)}
    return {
        "LD_PRELOAD": _LIBRARY,
        "FAKETIME": f"{skew_ms / 1000:+.3f}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def obey() -> None:
    """Make this process's clock wrong, if that is to be done from within."""
    skew_ms = int(os.environ.get(_SKEW_MS, "0"))
    if skew_ms:
        right, right_ns = time.time, time.time_ns
        time.time = lambda: right() + skew_ms / 1000
        time.time_ns = lambda: right_ns() + skew_ms * 1_000_000
