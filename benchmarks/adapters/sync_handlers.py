"""The handlers of systems with threads or without any concurrency."""

from __future__ import annotations

import time
from typing import Any

from adapters.base import ANSWER, clock


def noop(data: str) -> None:
    """What the queue itself costs."""
    clock.begin()
    clock.end()


def sleep(data: str, ms: float) -> None:
    """A job that waits for something."""
    clock.begin()
    time.sleep(ms / 1000)
    clock.end()


def stamp(data: str, enqueued_ns: int) -> None:
    """How long it took from the enqueue to here."""
    clock.stamp(enqueued_ns)


def echo(data: str) -> dict[str, Any]:
    """An answer to a call."""
    return ANSWER


HANDLERS = (noop, sleep, stamp, echo)
