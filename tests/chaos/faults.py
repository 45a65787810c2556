"""What is done to workers and servers, and when.

A fault is a coroutine function that does one thing once. What is counted happens at drawn moments
of the run's progress, not of time: so a run of any size, on a machine of any speed, meets all of
them. What is not counted happens again and again while there is work.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

from tests.chaos.homes import DiskHome
from tests.chaos.stage import Stage

Fault: TypeAlias = Callable[[Stage, random.Random], Awaitable[None]]
"""Does one thing, with these dice."""
Plan: TypeAlias = Callable[[Stage], Awaitable[None]]
"""All that is done in a run; returns when it is over."""

LOADING: Final = "is loading the dataset"
READ_ONLY: Final = "a read only replica"
STALE: Final = "replica-serve-stale-data"
NO_REPLICA: Final = "Not enough good replicas"
BUSY: Final = "busy running a script"
"""What a server says when it refuses."""


# -- workers ---------------------------------------------------------------------------------------


async def kill_worker(stage: Stage, dice: random.Random) -> None:
    """SIGKILL a worker; another one starts in its place."""
    stage.fleet.kill(dice.randrange(len(stage.fleet.workers)))
    stage.happened("workers killed")


async def kill_working_worker(stage: Stage, dice: random.Random) -> None:
    """SIGKILL a worker that has had time to claim, when all its predecessors work again."""
    fleet, ledger = stage.fleet, stage.ledger
    await stage.until(lambda: {worker.pid for worker in fleet.workers} <= ledger.ready)
    await asyncio.sleep(dice.uniform(0.05, 0.35))
    await kill_worker(stage, dice)


async def freeze_workers(stage: Stage, dice: random.Random) -> None:
    """SIGSTOP half of the workers for three leases."""
    workers = stage.fleet.workers
    frozen = dice.sample(workers, max(1, len(workers) // 2))
    await _freeze(stage, frozen, 3 * stage.size.lease)
    stage.happened("workers frozen", len(frozen))
    await asyncio.sleep(dice.uniform(0.2, 0.5) * stage.size.lease)


async def kill_handed_worker(stage: Stage, dice: random.Random) -> None:
    """SIGKILL the worker that was handed a job last: it has that job, or offers to take another."""
    await stage.until_counted("handed")
    handed = stage.ledger.of("handed")
    pids = [worker.pid for worker in stage.fleet.workers]
    if handed and handed[-1].process in pids:
        stage.fleet.kill(pids.index(handed[-1].process))
        stage.happened("workers killed that were handed a job")


async def freeze_producers(stage: Stage, dice: random.Random) -> None:
    """SIGSTOP all producers, in whatever each is at."""
    frozen = [producer for producer in stage.fleet.producers if producer.poll() is None]
    await _freeze(stage, frozen, _some_time(stage, dice))
    stage.happened("producers frozen", len(frozen))


async def _freeze(
    stage: Stage, processes: Sequence[subprocess.Popen[bytes]], seconds: float
) -> None:
    for process in processes:
        stage.fleet.freeze(process)
    try:
        await asyncio.sleep(seconds)
    finally:
        for process in processes:
            stage.fleet.thaw(process)


def _some_time(stage: Stage, dice: random.Random) -> float:
    return dice.uniform(0.1, 1.0) * stage.size.seconds


async def kill_producer(stage: Stage, dice: random.Random) -> None:
    """SIGKILL a producer; its successor enqueues the same ids, those that are stored once more."""
    stage.fleet.kill_producer(dice.randrange(len(stage.fleet.producers)))
    stage.happened("producers killed")


async def kill_anyone(stage: Stage, dice: random.Random) -> None:
    """SIGKILL a worker or a producer, once all of them work; one time in ten all at once, so that
    the next one finds a storage that nobody has in use."""
    fleet, ledger = stage.fleet, stage.ledger
    await stage.until(lambda: {process.pid for process in fleet.alive} <= ledger.ready)
    await asyncio.sleep(dice.uniform(0.0, 0.2))
    victims = list(fleet.alive)
    if dice.random() < 0.9:
        victims = [dice.choice(victims)]
    fleet.kill_at_once(victims)
    stage.happened("processes killed", len(victims))


async def freeze_anyone(stage: Stage, dice: random.Random) -> None:
    """SIGSTOP a worker or a producer for three leases, with whatever lock it holds."""
    await _freeze(stage, [dice.choice(list(stage.fleet.alive))], 3 * stage.size.lease)
    stage.happened("processes frozen")
    await asyncio.sleep(dice.uniform(0.2, 0.5) * stage.size.lease)


# -- the server ------------------------------------------------------------------------------------


async def restart_server(stage: Stage, dice: random.Random) -> None:
    """SIGKILL the server; it comes back a moment later, on its port and in its folder."""
    stage.pen.note("server_down")
    await asyncio.to_thread(stage.server.kill)
    await asyncio.sleep(dice.uniform(0.0, 0.5))
    await asyncio.to_thread(stage.server.start)
    stage.pen.note("server_up")
    stage.happened("server killed")


async def restart_server_slowly(stage: Stage, dice: random.Random) -> None:
    """SIGKILL the server, and let it take its time to load its data."""
    await stage.command("BGREWRITEAOF")
    while (await stage.command("INFO", "persistence") or {}).get("aof_rewrite_in_progress"):
        await asyncio.sleep(0.02)
    keys = await stage.command("DBSIZE") or 1
    slowly = f"{max(1.0, _some_time(stage, dice)) * 1e6 / keys:.0f}"  # microseconds a key
    options = stage.server.options
    stage.server.options = (
        *(*options, "--key-load-delay", slowly),
        *("--loading-process-events-interval-bytes", "1024"),
    )
    try:
        await restart_server(stage, dice)
    finally:
        stage.server.options = options


async def freeze_server(stage: Stage, dice: random.Random) -> None:
    """SIGSTOP the server."""
    async with _away(stage, "server frozen"):
        os.kill(stage.server.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(_some_time(stage, dice))
        finally:
            os.kill(stage.server.pid, signal.SIGCONT)


async def pause_clients(stage: Stage, dice: random.Random) -> None:
    """Let the server answer nobody."""
    async with _away(stage, "pauses"):
        seconds = _some_time(stage, dice)
        await stage.command("CLIENT", "PAUSE", round(seconds * 1000))
        await asyncio.sleep(seconds)


async def make_read_only(stage: Stage, dice: random.Random) -> None:
    """Turn the server into a replica of a server that is not there."""
    async with _away(stage, "times read-only", ("REPLICAOF", "NO", "ONE")):
        await stage.command("REPLICAOF", "127.0.0.1", 1)
        await _refuse(stage, dice, READ_ONLY)


async def make_stale(stage: Stage, dice: random.Random) -> None:
    """The same, and it does not even let its data be read."""
    async with _away(stage, "times stale", ("REPLICAOF", "NO", "ONE")):
        await stage.command("CONFIG", "SET", "replica-serve-stale-data", "no")
        await stage.command("REPLICAOF", "127.0.0.1", 1)
        await _refuse(stage, dice, STALE, READ_ONLY)  # to writers, some servers say the latter


async def want_replicas(stage: Stage, dice: random.Random) -> None:
    """Let the server take no write while it has no replica."""
    want = ("CONFIG", "SET", "min-replicas-to-write")
    async with _away(stage, "times without a replica", (*want, 0)):
        await stage.command(*want, 1)
        await _refuse(stage, dice, NO_REPLICA)


async def run_busy_script(stage: Stage, dice: random.Random) -> None:
    """Keep the server busy with a script that does not end by itself."""
    await stage.command("CONFIG", "SET", "busy-reply-threshold", 20)
    async with stage.another_admin() as other:
        async with _away(stage, "times busy", ("SCRIPT", "KILL")):
            # Its end is an error, which nobody wants to hear of.
            script = asyncio.gather(
                other.execute_command("EVAL", "while true do end", 0), return_exceptions=True
            )
            await _refuse(stage, dice, BUSY)
        await script


@asynccontextmanager
async def _away(stage: Stage, fault: str, *undo: tuple[Any, ...]) -> AsyncIterator[None]:
    """The server lives, and does not serve; in the end, these commands make it serve again."""
    stage.pen.note("away", fault)
    try:
        yield
    finally:
        for command in undo:
            await stage.command(*command)
        stage.pen.note("back", fault)
    stage.happened(fault)
    # Who is refused without end notes it only once.
    await stage.until_works()


async def _refuse(stage: Stage, dice: random.Random, *words: str) -> None:
    """Let the server refuse for some time, and until somebody has met it."""
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(_some_time(stage, dice)))
        group.create_task(stage.until_noted(words))


async def flush_all(stage: Stage, dice: random.Random) -> None:
    """Let the server forget everything."""
    async with _away(stage, "times all forgotten"):
        stage.pen.note("forget")
        await stage.command("FLUSHALL")
        stage.pen.note("forgot")


async def kill_connections(stage: Stage, dice: random.Random) -> None:
    """Close the connections of all others, of every type."""
    await stage.command("CLIENT", "KILL", "TYPE", "normal")
    await stage.command("CLIENT", "KILL", "TYPE", "pubsub")
    stage.happened("times all connections killed")


async def kill_pubsub(stage: Stage, dice: random.Random) -> None:
    """Close the connections that hear messages, and no other."""
    await stage.command("CLIENT", "KILL", "TYPE", "pubsub")
    stage.happened("times pub/sub killed")


async def kill_some_connections(stage: Stage, dice: random.Random) -> None:
    """Close those that hear messages, and one time in four those that do not as well."""
    await (kill_connections if dice.random() < 0.25 else kill_pubsub)(stage, dice)


async def flush_scripts(stage: Stage, dice: random.Random) -> None:
    """Let the server forget all scripts."""
    await stage.command("SCRIPT", "FLUSH")
    stage.happened("times scripts flushed")


async def lose_what_is_sent(stage: Stage, dice: random.Random) -> None:
    """What meets a job whose sender hears no answer: cut connections, forgotten scripts."""
    await dice.choice((kill_connections, kill_pubsub, flush_scripts))(stage, dice)


async def run_out_of_memory(stage: Stage, dice: random.Random) -> None:
    """Let the server refuse what needs memory, for as long as the run says."""
    await stage.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    await stage.command("CONFIG", "SET", "maxmemory", "1")
    stage.pen.note("oom")
    await asyncio.sleep(stage.size.seconds)
    stage.pen.note("oom_over")
    await stage.command("CONFIG", "SET", "maxmemory", "0")
    stage.happened("times out of memory")


# -- the disk --------------------------------------------------------------------------------------


async def fill_disk(stage: Stage, dice: random.Random) -> None:
    """Leave no room on the disk, for as long as the run says, and until enqueues are refused.

    What is freed meanwhile is taken as well. One more producer comes, which waits for nobody, and a
    worker is killed; in the end, each call of each producer must be stored whole or not at all.
    """
    home, size = stage.home, stage.size
    assert isinstance(home, DiskHome)
    stage.fleet.start_hasty_producer(size.jobs, max(100, size.jobs // 5), batch=20)
    home.disk.fill()
    stage.pen.note("full")
    await kill_worker(stage, dice)
    try:
        until = time.monotonic() + size.seconds
        while time.monotonic() < until or not stage.ledger.counts["refused"]:
            await asyncio.sleep(0.05)
            home.disk.fill()
        stored = await asyncio.to_thread(home.stored)
    finally:
        stage.pen.note("room")
        home.disk.make_room()
    for ids in stage.fleet.batches:
        if 0 < len(stored.intersection(ids)) < len(ids):
            stage.pen.note("error", f"only a part of a call is stored: {ids[0]} to {ids[-1]}")
    stage.happened("times the disk was full")


ALL = (
    kill_worker,
    freeze_workers,
    kill_producer,
    freeze_producers,
    restart_server,
    restart_server_slowly,
    freeze_server,
    pause_clients,
    make_read_only,
    make_stale,
    want_replicas,
    run_busy_script,
    kill_connections,
    kill_pubsub,
    flush_scripts,
    run_out_of_memory,
)
"""All that loses nothing."""


# -- when ------------------------------------------------------------------------------------------


async def nothing(stage: Stage) -> None:
    """No harm is done."""


def at_moments(*faults: Fault) -> Plan:
    """One of the faults at each of the drawn moments; all of them, before one comes again."""

    async def plan(stage: Stage) -> None:
        moments, dice = stage.dice("moments"), stage.dice("faults")
        deck: list[Fault] = []
        for number in range(stage.size.times):
            # One in each part of the run, so that none is over when the next one comes.
            part = (number + moments.random()) / stage.size.times
            accepted = (0.02 + 0.86 * part) * stage.size.jobs
            await stage.until(lambda accepted=accepted: stage.ledger.answered >= accepted)
            deck = deck or dice.sample(faults, len(faults))
            await deck.pop()(stage, dice)

    return plan


def at(part: float, fault: Fault) -> Plan:
    """A fault once, when that part of the jobs has been accepted."""

    async def plan(stage: Stage) -> None:
        await stage.until(lambda: stage.ledger.answered >= part * stage.size.jobs)
        await fault(stage, stage.dice("faults"))

    return plan


def in_a_row(fault: Fault) -> Plan:
    """A fault as often as the run says, the next when the last one is over."""

    async def plan(stage: Stage) -> None:
        dice = stage.dice("faults")
        for _ in range(stage.size.times):
            await fault(stage, dice)

    return plan


def while_busy(fault: Fault, every: float = 0.0, most: float = math.inf) -> Plan:
    """A fault again and again while there is work, so many seconds from one to the next.

    On a machine that is too busy to get anything done in between, ``most`` faults a job are enough.
    """

    async def plan(stage: Stage) -> None:
        dice = stage.dice("faults")
        left = most * stage.size.jobs
        due = time.monotonic()
        while stage.is_busy and left > 0:
            await fault(stage, dice)
            # What the driver is late with is made up for, one at most.
            due = max(due, time.monotonic() - every) + every
            await asyncio.sleep(due - time.monotonic())
            left -= 1

    return plan
