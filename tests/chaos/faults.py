"""What is done to workers and servers. Each fault is a coroutine that ends with the run, at last.

What is counted happens at drawn moments of the run's progress, not of time: so a run of any size,
on a machine of any speed, meets all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeAlias

from tests.chaos.stage import Stage

Fault: TypeAlias = Callable[[Stage], Awaitable[None]]


async def _moments(stage: Stage, name: str) -> AsyncGenerator[int]:
    """The drawn moments of a fault: its number, when that many jobs have been accepted."""
    dice = stage.dice(name)
    for number in range(stage.size.times):
        # One in each part of the run, so that none is over when the next one comes.
        moment = (0.02 + 0.86 * (number + dice.random()) / stage.size.times) * stage.size.jobs
        await stage.until(lambda moment=moment: len(stage.ledger.accepted) >= moment)
        yield number


# -- workers ---------------------------------------------------------------------------------------


async def kill_workers(stage: Stage) -> None:
    """SIGKILL a worker; another one starts in its place."""
    dice = stage.dice("victims")
    async for _ in _moments(stage, "kills"):
        stage.fleet.kill(dice.randrange(len(stage.fleet.workers)))
        stage.happened("workers killed")


async def kill_working_workers(stage: Stage) -> None:
    """SIGKILL a worker that has jobs in its hands, when all its predecessors work again."""
    dice = stage.dice("victims")
    fleet, ledger = stage.fleet, stage.ledger
    for _ in range(stage.size.times):
        await stage.until(lambda: {worker.pid for worker in fleet.workers} <= ledger.ready)
        await asyncio.sleep(dice.uniform(0.05, 0.35))
        fleet.kill(dice.randrange(len(fleet.workers)))
        stage.happened("workers killed")


async def freeze_workers(stage: Stage) -> None:
    """SIGSTOP half of the workers for three leases, again and again."""
    dice = stage.dice("frozen")
    numbers = range(len(stage.fleet.workers))
    while stage.is_busy:
        frozen = dice.sample(numbers, len(numbers) // 2)
        for number in frozen:
            stage.fleet.freeze(number)
        await asyncio.sleep(3 * stage.size.lease)
        for number in frozen:
            stage.fleet.thaw(number)
        stage.happened("workers frozen", len(frozen))
        await asyncio.sleep(dice.uniform(0.2, 0.5) * stage.size.lease)


# -- the server ------------------------------------------------------------------------------------


async def restart_server(stage: Stage) -> None:
    """SIGKILL the server; it comes back a moment later, on its port and in its folder."""
    dice = stage.dice("pauses")
    async for _ in _moments(stage, "restarts"):
        stage.pen.note("server_down")
        await asyncio.to_thread(stage.server.kill)
        await asyncio.sleep(dice.uniform(0.0, 0.5))
        await asyncio.to_thread(stage.server.start)
        stage.pen.note("server_up")
        stage.happened("server killed")


async def run_out_of_memory(stage: Stage) -> None:
    """Let the server refuse what needs memory for some seconds, from a fifth of the run on."""
    await stage.until(lambda: len(stage.ledger.accepted) >= stage.size.jobs / 5)
    await stage.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    await stage.command("CONFIG", "SET", "maxmemory", "1")
    stage.pen.note("oom")
    await asyncio.sleep(stage.size.seconds)
    stage.pen.note("oom_over")
    await stage.command("CONFIG", "SET", "maxmemory", "0")
    stage.happened("seconds out of memory", round(stage.size.seconds))


def every(seconds: float, name: str, *commands: tuple[str, ...]) -> Fault:
    """Commands to the server, again and again while there is work."""

    async def fault(stage: Stage) -> None:
        while stage.is_busy:
            for command in commands:
                await stage.command(*command)
            stage.happened(name)
            await asyncio.sleep(seconds)

    return fault


def kill_connections(seconds: float) -> Fault:
    """Close the connections of all others, of every type."""
    commands = [("CLIENT", "KILL", "TYPE", kind) for kind in ("normal", "pubsub")]
    return every(seconds, "times all connections killed", *commands)


def kill_pubsub(seconds: float) -> Fault:
    """Close the connections that hear messages, and no other."""
    return every(seconds, "times pub/sub killed", ("CLIENT", "KILL", "TYPE", "pubsub"))


def flush_scripts(seconds: float) -> Fault:
    """Let the server forget all scripts."""
    return every(seconds, "times scripts flushed", ("SCRIPT", "FLUSH"))


def pause_clients(seconds: float, pause_ms: int) -> Fault:
    """Let the server answer nobody for a moment."""
    return every(seconds, "pauses", ("CLIENT", "PAUSE", str(pause_ms)))
