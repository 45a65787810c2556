"""How much memory is taken while the server is away, under a load that does not let up.

A ``jobqueue worker`` and a producer; callers by the hundred enqueue or call, each anew as soon as
it has an answer, an error or lost its patience. Then the server is away: frozen, so that nothing
is answered, or killed, so that nobody may connect. What is held meanwhile is bounded by what
holds it: for the producer its callers, for the worker its slots and the outcomes that wait.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable
from typing import Final

from tests.chaos import usage
from tests.chaos.finding import Course, Finding
from tests.chaos.processes import START_SECONDS, Program, program, worker
from tests.support.servers import Server
from tests.support.wait import wait_until

AWAY: Final = 20.0
"""Seconds."""
SETTLED: Final = 8.0
"""Seconds of ordinary load before, in which the processes reach the size they have under it."""
MAY_GROW: Final = 8 * 2**20
"""Bytes that each may take on top of that: some kilobytes for each caller and each slot."""
_LOOK_EVERY: Final = 0.05
_BACK_WITHIN: Final = 5.0


async def take(course: Course) -> Finding:
    """Let the server be away in both ways, and watch the processes' resident memory."""
    finding = Finding()
    seconds = max(2.0, AWAY * course.scale)
    assert course.entry.server is not None
    server = course.servers.get(course.entry.server)
    with (
        worker("tests.chaos.besieged:queue", server.url, course.folder) as works,
        program(["-m", "tests.chaos.besieged"], server.url, course.folder) as calls,
    ):
        await _served(calls, START_SECONDS)
        for name, away in (("frozen", _frozen), ("killed", _killed)):
            usual = await _peaks(works, calls, asyncio.sleep(SETTLED))
            await calls.ask("", 10)
            peaks = await _peaks(works, calls, away(server, seconds))
            told = await calls.ask("", 10)
            began = time.monotonic()
            await _served(calls, 60)
            back = time.monotonic() - began
            _judge(finding, name, seconds, told, usual, peaks, back)
    return finding


async def _served(calls: Program, seconds: float) -> None:
    """Wait until the callers have answers."""

    async def some_have_answers() -> bool:
        return bool((await calls.ask("", 10)).get("answered"))

    await wait_until(some_have_answers, seconds, "the callers have answers")


async def _frozen(server: Server, seconds: float) -> None:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        os.kill(server.pid, signal.SIGCONT)


async def _killed(server: Server, seconds: float) -> None:
    await asyncio.to_thread(server.kill)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(server.start)


async def _peaks(works: Program, calls: Program, meanwhile: Awaitable[None]) -> dict[str, int]:
    """The largest resident memory of both while something goes on."""
    peaks = {"worker": 0, "producer": 0}
    task = asyncio.ensure_future(meanwhile)
    while not task.done():
        for name, each in (("worker", works), ("producer", calls)):
            assert each.process.poll() is None, each.last_words()
            peaks[name] = max(peaks[name], usage.resident(each.pid))
        await asyncio.wait([task], timeout=_LOOK_EVERY)
    await task
    return peaks


def _judge(
    finding: Finding,
    name: str,
    seconds: float,
    told: dict[str, int],
    usual: dict[str, int],
    peaks: dict[str, int],
    back: float,
) -> None:
    words = ", ".join(f"{number:,} {what}" for what, number in sorted(told.items()))
    finding.add(f"{name}_told", told, f"{name} for {seconds:g} s: callers {words}")
    for side in ("worker", "producer"):
        first, last = usual[side], peaks[side]
        words = f"{side} at most {first / 2**20:.1f} MiB before, {last / 2**20:.1f} MiB meanwhile"
        finding.add(f"{name}_{side}_resident", [first, last], words)
        if last - first > MAY_GROW:
            finding.problems.append(f"{name}: {words}")
    finding.add(f"{name}_back", round(back, 2), f"served again after {back:.1f} s")
    if back > _BACK_WITHIN:
        finding.problems.append(f"{name}: served again only after {back:.1f} s")
