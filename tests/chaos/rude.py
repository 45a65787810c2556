"""A queue whose handlers do not behave; ``jobqueue worker`` loads it. A payload is a folder, where
each run is noted, and seconds."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from jobqueue import Job, Queue
from tests.chaos.ledger import Pen

LEASE: Final = 2.0

queue = Queue("rude", lease=LEASE, concurrency=2)


@cache
def _pen(folder: str) -> Pen:
    return Pen(Path(folder))


def _begins(job: Job) -> float:
    folder, seconds = job.payload
    _pen(folder).note("start", job.id, job.attempt)
    return float(seconds)


@queue.handler("block")
async def block(job: Job) -> None:
    """Nothing else gets a turn of the event loop."""
    time.sleep(_begins(job))


@queue.handler("spin")
async def spin(job: Job) -> None:
    """Nor a processor; only the interpreter's switching lets other threads in."""
    ends_at = time.monotonic() + _begins(job)
    while time.monotonic() < ends_at:
        pass


@queue.handler("swallow")
async def swallow(job: Job) -> None:
    """Whoever cancels it is not heard."""
    _begins(job)
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)


@queue.handler("stick")
def stick(job: Job) -> None:
    """A thread that nobody can stop."""
    time.sleep(_begins(job))
