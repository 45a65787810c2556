"""Where the jobs of a run are: on a server of its own, or in a SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import redis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from tests.chaos.orders import QUEUE
from tests.support.disks import SmallDisk
from tests.support.keys import find_faults
from tests.support.servers import Server, ServerBinary

DISK_MIB: Final = 48


class Findings(NamedTuple):
    """What a home holds in the end: what must not be there, in words, and figures."""

    faults: list[str]
    figures: dict[str, Any]


class Home(ABC):
    """One empty place for jobs.

    Attributes:
        url: For queues.
        label: For people.
    """

    url: str
    label: str

    @abstractmethod
    async def start(self) -> None: ...

    @abstractmethod
    async def stop(self) -> None: ...

    @abstractmethod
    async def handed_over(self) -> bool:
        """Whether a worker has been given something that it has not leased yet."""

    @abstractmethod
    def examine(self) -> Findings:
        """Look for what breaks the storage's own rules. Nobody else is there any more."""


class ServerHome(Home):
    """A server of this run."""

    def __init__(self, binary: ServerBinary, options: Sequence[str]) -> None:
        self.label = binary.label
        self.server = Server(binary, options)

    async def start(self) -> None:
        await asyncio.to_thread(self.server.start)
        self.url = self.server.url
        self.admin = self.another_admin()

    def another_admin(self) -> Redis:
        """A client beside :attr:`admin`."""
        once_more = Retry(NoBackoff(), 1)  # its connection may be that to a killed server
        return Redis(host="127.0.0.1", port=self.server.port, socket_timeout=30, retry=once_more)

    async def stop(self) -> None:
        try:
            await self.admin.aclose()
        finally:
            self.server.stop()

    async def command(self, *command: Any) -> Any:
        """A command of the one who makes the faults; ``None`` while the server is away."""
        with suppress(RedisError, OSError):
            return await self.admin.execute_command(*command)
        return None

    async def handed_over(self) -> bool:
        return bool(await self.command("KEYS", f"jq:{{{QUEUE}}}:inbox:*"))

    def examine(self) -> Findings:
        with redis.Redis.from_url(self.url) as admin:
            faults = find_faults(admin, [])
        return Findings([f"left behind: {fault}" for fault in faults], {})


class FileHome(Home):
    """A SQLite file in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.label = f"sqlite-{sqlite3.sqlite_version}"
        self.path = folder / "jobs.db"
        self.url = f"sqlite:///{self.path}"

    async def start(self) -> None:
        self.path.parent.mkdir(exist_ok=True)

    async def stop(self) -> None:
        pass

    async def handed_over(self) -> bool:
        return False  # a claim leases all that it takes

    def examine(self) -> Findings:
        log = Path(f"{self.path}-wal")
        # The last one to close the file copies the log into it, and removes the log.
        faults = [f"{log} is still there"] if log.exists() else []
        with closing(sqlite3.connect(self.path)) as connection:
            integrity = [text for (text,) in connection.execute("PRAGMA integrity_check(5)")]
            faults += [f"integrity_check: {text}" for text in integrity if text != "ok"]
            faults += [f"left behind: {fault}" for fault in _half_written(connection)]
        size = self.path.stat().st_size / 1024 / 1024
        return Findings(faults, {"integrity_check": integrity[0], "file_mib": size})

    def stored(self) -> set[str]:
        """The ids of all jobs, as they are now."""
        with closing(sqlite3.connect(self.path)) as connection:
            return {id for (id,) in connection.execute("SELECT id FROM jobs")}


class DiskHome(FileHome):
    """A SQLite file on a small disk that can be filled."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.disk = SmallDisk(folder, DISK_MIB)

    async def start(self) -> None:
        await super().start()
        self.disk.mount()

    async def stop(self) -> None:
        self.disk.unmount()


_RULES: Final = {
    "jobs without a spec": "SELECT id FROM jobs WHERE key NOT IN (SELECT job FROM specs)",
    "specs without a job": "SELECT job FROM specs WHERE job NOT IN (SELECT key FROM jobs)",
    "jobs of no queue": "SELECT id FROM jobs WHERE queue NOT IN (SELECT key FROM queues)",
    "leases of jobs that do not run": (
        "SELECT id FROM jobs WHERE (state = 'running') != (leased_until_ms > 0)"
    ),
    "fences that the queue would give out again": (
        "SELECT id FROM jobs JOIN queues ON queues.key = queue WHERE jobs.fence > queues.fence"
    ),
    "two jobs under one fence": (
        "SELECT fence FROM jobs WHERE fence > 0 GROUP BY queue, fence HAVING count(*) > 1"
    ),
    "jobs that have ended and have no end": (
        "SELECT id FROM jobs WHERE state IN ('completed', 'failed', 'cancelled') "
        "AND (finished_ms = 0 OR expires_ms = 0)"
    ),
}
"""What each verb leaves true, so that a part of one would not. Each finds what breaks it."""


def _half_written(connection: sqlite3.Connection) -> Iterator[str]:
    for rule, statement in _RULES.items():
        if found := connection.execute(statement).fetchall():
            yield f"{len(found)} {rule}, such as {found[0][0]}"
