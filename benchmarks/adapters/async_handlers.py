"""The handlers of systems on asyncio that pass a job's arguments as they are."""

from __future__ import annotations

import asyncio
from typing import Any

from adapters.base import ANSWER, clock


async def noop(data: str) -> None:
    """What the queue itself costs."""
    clock.begin()
    clock.end()


async def sleep(data: str, ms: float) -> None:
    """A job that waits for something."""
    clock.begin()
    await asyncio.sleep(ms / 1000)
    clock.end()


async def stamp(data: str, enqueued_ns: int) -> None:
    """How long it took from the enqueue to here."""
    clock.stamp(enqueued_ns)


async def echo(data: str) -> dict[str, Any]:
    """An answer to a call."""
    return ANSWER


HANDLERS = (noop, sleep, stamp, echo)
