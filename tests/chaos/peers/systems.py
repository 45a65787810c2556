"""The queues that are compared: their environments, their times, and what they still hold."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from redis.asyncio import Redis

from benchmarks import envs
from jobqueue import Queue
from jobqueue.storage.types import MAX_BATCH
from tests.chaos.orders import QUEUE

Census: TypeAlias = Callable[[Redis, set[str]], Awaitable[set[str]]]
"""Of these ids, those that the queue still has as neither completed nor failed."""

LEASE: Final = 2.0
"""Seconds: what each queue is given as its lease, or as what it has in the place of one."""


@dataclass(frozen=True, kw_only=True)
class System:
    """One queue.

    Attributes:
        name: In the tables, and of its programs' module.
        env: Its environment; ``None`` is the driver's own.
        packages: Whose versions are told.
        recovery: Seconds until it takes a job from a worker that is silent, with the shortest
            settings that it has: what "a lease" is for it.
        settings: These settings, in words.
        held: Its census.
    """

    name: str
    env: str | None
    packages: tuple[str, ...]
    recovery: float
    settings: str
    held: Census

    @property
    def programs(self) -> list[str]:
        """The command of its programs; its environment is made if it is missing.

        Raises:
            benchmarks.envs.NotInstalled: It cannot be made.
        """
        module = f"tests.chaos.peers.{'ours' if self.env is None else self.name}"
        return [*self._python, "-m", module]

    @property
    def versions(self) -> str:
        """Its packages with their versions."""
        code = "import importlib.metadata as m, sys, json;"
        code += "print(json.dumps([m.version(p) for p in sys.argv[1:]]))"
        answer = subprocess.run(
            [*self._python, "-c", code, *self.packages],
            check=True,
            capture_output=True,
            timeout=60,
        ).stdout
        versions = zip(self.packages, json.loads(answer), strict=True)
        return ", ".join(f"{package} {version}" for package, version in versions)

    @property
    def _python(self) -> list[str]:
        return [sys.executable] if self.env is None else envs.command(self.env, ())[:1]


async def _held_by_ours(redis: Redis, ids: set[str]) -> set[str]:
    ordered, held = sorted(ids), set[str]()
    where = redis.connection_pool.connection_kwargs
    async with Queue(QUEUE, f"redis://{where['host']}:{where['port']}") as queue:
        for start in range(0, len(ordered), MAX_BATCH):
            batch = ordered[start : start + MAX_BATCH]
            answers = await queue.storage.results(QUEUE, batch)
            for id, answer in zip(batch, answers, strict=True):
                if answer is not None and answer.state not in ("completed", "failed", "cancelled"):
                    held.add(id)
    return held


async def _held_by_saq(redis: Redis, ids: set[str]) -> set[str]:
    keys: set[bytes] = set()
    for name in ("queued", "active"):
        keys |= set(await redis.lrange(f"saq:{QUEUE}:{name}", 0, -1))
    keys |= set(await redis.zrange(f"saq:{QUEUE}:incomplete", 0, -1))
    return {key.decode().rpartition(":")[2] for key in keys} & ids


async def _held_by_streaq(redis: Redis, ids: set[str]) -> set[str]:
    entries = await redis.xrange(f"streaq:{QUEUE}:queues:normal")
    waiting = await redis.zrange(f"streaq:{QUEUE}:queues:delayed:normal", 0, -1)
    tasks = {fields[b"task_id"] for _, fields in entries} | set(waiting)
    return {id.decode() for id in tasks} & ids


async def _held_by_arq(redis: Redis, ids: set[str]) -> set[str]:
    return {id.decode() for id in await redis.zrange(QUEUE, 0, -1)} & ids


async def _held_by_taskiq(redis: Redis, ids: set[str]) -> set[str]:
    """What is pending, and what nobody has read; acknowledged messages stay in the stream."""
    (group,) = await redis.xinfo_groups(QUEUE)
    pending = await redis.xpending_range(QUEUE, "taskiq", "-", "+", 1_000_000)
    numbers = {each["message_id"] for each in pending}
    unread = await redis.xrange(QUEUE, min=f"({group['last-delivered-id'].decode()}")
    numbers |= {number for number, _ in unread}
    entries = await redis.xrange(QUEUE) if numbers else []
    return {
        json.loads(fields[b"data"])["task_id"] for number, fields in entries if number in numbers
    } & ids


SYSTEMS: Final = {
    system.name: system
    for system in (
        System(
            name="jobqueue",
            env=None,
            packages=("jobqueue",),
            recovery=LEASE,
            settings="`lease=2`, `max_attempts=100`",
            held=_held_by_ours,
        ),
        System(
            name="saq",
            env="saq",
            packages=("saq",),
            recovery=8.0,
            settings="`retries=100`, `heartbeat=2`, `timers={'sweep': 1}`",
            held=_held_by_saq,
        ),
        System(
            name="streaq",
            env="streaq",
            packages=("streaq", "coredis"),
            recovery=2 * LEASE,
            settings="`idle_timeout=2`, `max_tries=None`",
            held=_held_by_streaq,
        ),
        System(
            name="arq",
            env="arq",
            packages=("arq",),
            recovery=LEASE + 10,
            settings="`job_timeout=2`, `max_tries=1000000`, `poll_delay=0.05`, "
            "`RedisSettings(retry=..., retry_on_error=..., retry_on_timeout=True, "
            "conn_retries=100)`",
            held=_held_by_arq,
        ),
        System(
            name="taskiq",
            env="taskiq",
            packages=("taskiq", "taskiq-redis"),
            recovery=LEASE,
            settings="`RedisStreamBroker(idle_timeout=2000, unacknowledged_lock_timeout=2, "
            "xread_block=500, xread_count=5, consumer_id='0')`",
            held=_held_by_taskiq,
        ),
    )
}
