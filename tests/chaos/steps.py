"""Random steps on a storage and on the model: see ``tests/property``."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Final

from tests.chaos.finding import Course, Finding
from tests.property.running import compare
from tests.support.backends import Backend

STEPS: Final = 10_000
_OF_A_RUN: Final = 50


async def take(course: Course) -> Finding:
    """Do 10,000 steps; the figure is how many were taken and answered alike."""
    wanted = max(100, round(STEPS * course.scale))
    numbers = count()

    def make_place() -> Backend:
        folder = course.folder / f"{next(numbers)}"
        folder.mkdir()
        return course.entry.make(folder, course.servers)

    # In a thread, since the machine has an event loop of its own.
    done = await asyncio.to_thread(
        compare, make_place, steps=wanted, of_a_run=_OF_A_RUN, start=course.seed
    )
    finding = Finding()
    steps, runs = done.pop("steps"), done.pop("runs")
    finding.add("steps", steps, f"{steps:,} steps agree with the model")
    finding.add("runs", runs, f"{runs:,} runs")
    calls = {verb: number for verb, number in sorted(done.items()) if verb not in _NOT_CALLS}
    finding.add("calls", calls, f"{sum(calls.values()):,} calls of {len(calls)} verbs")
    return finding


_NOT_CALLS: Final = ("advance", "crash")
