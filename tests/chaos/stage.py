"""Where a run takes place: a home for its jobs, the fleet, the ledger, and the dice."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis

from tests.chaos.fleet import Fleet
from tests.chaos.homes import DiskHome, FileHome, Home, ServerHome
from tests.chaos.ledger import Ledger, Pen
from tests.support.servers import Server, ServerBinary, find_servers

_LOOK_EVERY: Final = 0.02


class Persistence(Enum):
    """What a server keeps: its options, and the seconds before a kill that may be lost."""

    NONE = (("--appendonly", "no"), float("inf"))
    EVERYSEC = (("--appendonly", "yes", "--appendfsync", "everysec"), 2.0)
    ALWAYS = (("--appendonly", "yes", "--appendfsync", "always"), 0.0)

    def __init__(self, options: tuple[str, ...], window: float) -> None:
        self.options = options
        self.window = window


class Where(Enum):
    """What keeps the jobs: a server, a SQLite file, or one on a disk that can be filled."""

    SERVER = "server"
    FILE = "file"
    SMALL_DISK = "small disk"


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a run is.

    Attributes:
        jobs: Jobs that are enqueued.
        times: How often a fault that is counted happens.
        workers: Worker processes.
        lease: The queue's, in seconds.
        seconds: How long a fault that has a length lasts.
    """

    jobs: int
    times: int
    workers: int
    lease: float
    seconds: float


class Stage:
    """What faults have in their hands.

    Args:
        home: It has started.
        folder: Of the ledger.
        pen: The driver's.
        size: Of the run.
        seed: Of all that is drawn.
    """

    def __init__(self, home: Home, folder: Path, pen: Pen, size: Size, seed: int) -> None:
        self.home = home
        self.ledger = Ledger(folder)
        self.pen = pen
        self.fleet = Fleet(self.ledger, pen)
        self.size = size
        self.seed = seed
        self.faults: Final[dict[str, int]] = {}

    @property
    def _server_home(self) -> ServerHome:
        assert isinstance(self.home, ServerHome), f"{self.home.label} is no server"
        return self.home

    @property
    def server(self) -> Server:
        """The server, where there is one."""
        return self._server_home.server

    def another_admin(self) -> Redis:
        """A client of the server beside that of :meth:`command`."""
        return self._server_home.another_admin()

    def dice(self, name: str) -> random.Random:
        """A source of chance for one fault, which others do not disturb."""
        return random.Random(f"{self.seed}/{name}")

    def happened(self, fault: str, times: int = 1) -> None:
        """Count a fault."""
        self.faults[fault] = self.faults.get(fault, 0) + times

    @property
    def is_busy(self) -> bool:
        """Whether jobs are still enqueued, or many of them not yet run."""
        done = len(self.ledger.ended) + len(self.ledger.merged)
        return self.fleet.producing or done < 0.98 * self.size.jobs

    async def until(self, predicate: Callable[[], bool]) -> None:
        """Wait for something that the ledger says."""
        while not predicate():
            await asyncio.sleep(_LOOK_EVERY)

    async def until_noted(self, words: Sequence[str]) -> None:
        """Wait until somebody notes one of these words from now on, or there is no more work."""
        looked_at = len(self.ledger.entries)

        def is_noted() -> bool:
            nonlocal looked_at
            new = self.ledger.entries[looked_at:]
            looked_at += len(new)
            return any(word in entry.about for entry in new for word in words)

        await self.until(lambda: is_noted() or not self.is_busy)

    async def until_works(self) -> None:
        """Wait until a job ends from now on, or there is no more work."""
        await self.until_counted("end")

    async def until_counted(self, kind: str) -> None:
        """Wait until an entry of this kind is added from now on, or there is no more work."""
        before = self.ledger.counts[kind]
        await self.until(lambda: self.ledger.counts[kind] > before or not self.is_busy)

    async def command(self, *command: Any) -> Any:
        """A command of the one who makes the faults; ``None`` while the server is away."""
        return await self._server_home.command(*command)


def _home(
    where: Where, binary: ServerBinary | None, persistence: Persistence, folder: Path
) -> Home:
    if where is Where.SERVER:
        return ServerHome(binary or find_servers()[0], persistence.options)
    return {Where.FILE: FileHome, Where.SMALL_DISK: DiskHome}[where](folder / "jobs")


@asynccontextmanager
async def stage(
    where: Where, binary: ServerBinary | None, persistence: Persistence, size: Size, seed: int
) -> AsyncGenerator[Stage]:
    """Set the stage; afterwards nothing is left of it."""
    with tempfile.TemporaryDirectory(prefix="jobqueue-chaos-") as folder:
        home = _home(where, binary, persistence, Path(folder))
        pen = Pen(Path(folder), at_once=True)
        try:
            await home.start()
            try:
                made = Stage(home, Path(folder), pen, size, seed)
                try:
                    yield made
                finally:
                    made.fleet.end()
            finally:
                await home.stop()
        finally:
            pen.close()
