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
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from tests.chaos.homes import DiskHome
from tests.chaos.stage import Stage

Fault: TypeAlias = Callable[[Stage, random.Random], Awaitable[None]]
"""Does one thing, with these dice."""
Plan: TypeAlias = Callable[[Stage], Awaitable[None]]
"""All that is done in a run; returns when it is over."""


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
    numbers = range(len(stage.fleet.workers))
    frozen = dice.sample(numbers, max(1, len(numbers) // 2))
    for number in frozen:
        stage.fleet.freeze(stage.fleet.workers[number])
    await asyncio.sleep(3 * stage.size.lease)
    for number in frozen:
        stage.fleet.thaw(stage.fleet.workers[number])
    stage.happened("workers frozen", len(frozen))
    await asyncio.sleep(dice.uniform(0.2, 0.5) * stage.size.lease)


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
    fleet = stage.fleet
    process = dice.choice(list(fleet.alive))
    fleet.freeze(process)
    try:
        await asyncio.sleep(3 * stage.size.lease)
    finally:
        fleet.thaw(process)
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


async def freeze_server(stage: Stage, dice: random.Random) -> None:
    """SIGSTOP the server, for up to two leases."""
    os.kill(stage.server.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(dice.uniform(0.2, 2.0) * stage.size.lease)
    finally:
        os.kill(stage.server.pid, signal.SIGCONT)
    stage.happened("server frozen")


async def kill_connections(stage: Stage, dice: random.Random) -> None:
    """Close the connections of all others, of every type."""
    await stage.command("CLIENT", "KILL", "TYPE", "normal")
    await stage.command("CLIENT", "KILL", "TYPE", "pubsub")
    stage.happened("times all connections killed")


async def kill_pubsub(stage: Stage, dice: random.Random) -> None:
    """Close the connections that hear messages, and no other."""
    await stage.command("CLIENT", "KILL", "TYPE", "pubsub")
    stage.happened("times pub/sub killed")


async def flush_scripts(stage: Stage, dice: random.Random) -> None:
    """Let the server forget all scripts."""
    await stage.command("SCRIPT", "FLUSH")
    stage.happened("times scripts flushed")


async def pause_clients(stage: Stage, dice: random.Random) -> None:
    """Let the server answer nobody for a moment."""
    await stage.command("CLIENT", "PAUSE", str(dice.randrange(50, 500)))
    stage.happened("pauses")


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
    restart_server,
    freeze_server,
    kill_connections,
    kill_pubsub,
    flush_scripts,
    pause_clients,
    run_out_of_memory,
)


# -- when ------------------------------------------------------------------------------------------


def at_moments(*faults: Fault) -> Plan:
    """One of the faults at each of the drawn moments; all of them, before one comes again."""

    async def plan(stage: Stage) -> None:
        moments, dice = stage.dice("moments"), stage.dice("faults")
        deck: list[Fault] = []
        for number in range(stage.size.times):
            # One in each part of the run, so that none is over when the next one comes.
            part = (number + moments.random()) / stage.size.times
            accepted = (0.02 + 0.86 * part) * stage.size.jobs
            await stage.until(lambda accepted=accepted: len(stage.ledger.accepted) >= accepted)
            deck = deck or dice.sample(faults, len(faults))
            await deck.pop()(stage, dice)

    return plan


def at(part: float, fault: Fault) -> Plan:
    """A fault once, when that part of the jobs has been accepted."""

    async def plan(stage: Stage) -> None:
        await stage.until(lambda: len(stage.ledger.accepted) >= part * stage.size.jobs)
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
