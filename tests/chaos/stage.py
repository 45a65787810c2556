"""Where a run takes place: a server of its own, the fleet, the ledger, and the dice."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from tests.chaos.fleet import Fleet
from tests.chaos.ledger import Ledger, Pen
from tests.support.servers import Server, ServerBinary

_LOOK_EVERY: Final = 0.02


class Persistence(Enum):
    """What a server keeps: its options, and the seconds before a kill that may be lost."""

    NONE = (("--appendonly", "no"), float("inf"))
    EVERYSEC = (("--appendonly", "yes", "--appendfsync", "everysec"), 2.0)
    ALWAYS = (("--appendonly", "yes", "--appendfsync", "always"), 0.0)

    def __init__(self, options: tuple[str, ...], window: float) -> None:
        self.options = options
        self.window = window


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
        server: It runs.
        folder: Of the ledger.
        pen: The driver's.
        size: Of the run.
        seed: Of all that is drawn.
    """

    def __init__(self, server: Server, folder: Path, pen: Pen, size: Size, seed: int) -> None:
        self.server = server
        self.ledger = Ledger(folder)
        self.pen = pen
        self.fleet = Fleet(self.ledger, pen)
        self.size = size
        self.seed = seed
        self.faults: Final[dict[str, int]] = {}
        self.admin = Redis(
            host="127.0.0.1",
            port=server.port,
            socket_timeout=30,
            retry=Retry(NoBackoff(), 0),
        )

    def dice(self, name: str) -> random.Random:
        """A source of chance for one fault, which others do not disturb."""
        return random.Random(f"{self.seed}/{name}")

    def happened(self, fault: str, times: int = 1) -> None:
        """Count a fault."""
        self.faults[fault] = self.faults.get(fault, 0) + times

    @property
    def is_busy(self) -> bool:
        """Whether jobs are still enqueued, or many of them not yet run."""
        return self.fleet.producing or len(self.ledger.ended) < 0.98 * self.size.jobs

    async def until(self, predicate: Callable[[], bool]) -> None:
        """Wait for something that the ledger says."""
        while not predicate():
            await asyncio.sleep(_LOOK_EVERY)

    async def command(self, *command: Any) -> Any:
        """A command of the one who makes the faults; ``None`` while the server is away."""
        with suppress(RedisError, OSError):
            return await self.admin.execute_command(*command)
        return None


@asynccontextmanager
async def stage(
    binary: ServerBinary | None, persistence: Persistence, size: Size, seed: int
) -> AsyncGenerator[Stage]:
    """Set the stage; afterwards nothing is left of it."""
    server = Server(binary, persistence.options)
    with tempfile.TemporaryDirectory(prefix="jobqueue-chaos-") as folder:
        pen = Pen(Path(folder))
        try:
            await asyncio.to_thread(server.start)
            made = Stage(server, Path(folder), pen, size, seed)
            try:
                yield made
            finally:
                made.fleet.end()
                await made.admin.aclose()
        finally:
            server.stop()
            pen.close()
