"""The places that the storage tests run on: one for each storage and each server found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from jobqueue.storage.base import Storage
from tests.support import acl
from tests.support.keys import find_faults
from tests.support.servers import ServerBinary, ServerPool, find_servers
from tests.support.variants import VARIANT

Clock: TypeAlias = Callable[[], int]
MakeStorage: TypeAlias = Callable[[], Awaitable[Storage]]
"""What the fixture ``make_storage`` gives."""


class Backend(ABC):
    """One empty place for jobs. Storages are imported when they are used.

    Attributes:
        url: Where it is; usable in another process if ``shared_between_processes``.
    """

    kind: str
    url: str
    shared_between_processes: bool = True

    @abstractmethod
    def handle(self, clock: Clock | None = None) -> Storage:
        """A new, closed handle on this place, as another process would have one."""

    def age(self, ms: int) -> None:
        """Let the place's own time pass, where it has one beside the injected clock."""
        return

    def faults(self, allowed: Sequence[str]) -> list[str]:
        """What a test left behind that must not be there, in words."""
        return []

    def close(self) -> None:
        """Let go of what the backend itself holds."""
        return


class MemoryBackend(Backend):
    kind = "memory"
    url = "memory://"
    shared_between_processes = False

    def __init__(self) -> None:
        self._first: Storage | None = None

    def handle(self, clock: Clock | None = None) -> Storage:
        from jobqueue.storage.memory import MemoryStorage

        if self._first is None:
            self._first = MemoryStorage(clock=clock)
            return self._first
        return self._first.twin()


class SQLiteBackend(Backend):
    kind = "sqlite"

    def __init__(self, folder: Path) -> None:
        self.path = folder / "jobs.db"
        self.url = f"sqlite:///{self.path}"

    def handle(self, clock: Clock | None = None) -> Storage:
        from jobqueue.storage.sqlite import SQLiteStorage

        return SQLiteStorage(self.path, clock=clock)


class RedisBackend(Backend):
    """The first database of a server that nobody else uses; emptied first.

    In the variant ``acl``, jobs are handled by the user of the documentation's recipe.

    Attributes:
        address: The URL without a user: of one that may do everything.
    """

    kind = "redis"

    def __init__(self, url: str) -> None:
        import redis

        self.address = self.url = url
        self.admin = redis.Redis.from_url(url)
        self.admin.flushall()
        if "acl" in VARIANT:
            acl.make_user(self.admin, "jobqueue")
            self.url = acl.url_of(url, "jobqueue")

    def handle(self, clock: Clock | None = None) -> Storage:
        from jobqueue.storage.redis import RedisStorage

        return RedisStorage(self.url, clock=clock)

    def age(self, ms: int) -> None:
        """Times to live run on the server's own clock: shorten each by what has passed."""
        self.admin.eval(_AGE, 0, ms)

    def faults(self, allowed: Sequence[str]) -> list[str]:
        return find_faults(self.admin, allowed)

    def close(self) -> None:
        self.admin.close()


_AGE: Final = """
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  if left >= 0 then
    left = left - tonumber(ARGV[1])
    if left > 0 then redis.call('PEXPIRE', key, left) else redis.call('DEL', key) end
  end
end
"""


@dataclass(frozen=True, slots=True)
class BackendEntry:
    """A column of the matrix: how to make the backend, without making it yet."""

    label: str
    kind: str
    make: Callable[[Path, ServerPool], Backend]
    server: ServerBinary | None = None


def entries() -> list[BackendEntry]:
    """Every column, in order: the storages without a server, then each server of this machine."""
    return [
        BackendEntry("memory", "memory", lambda folder, servers: MemoryBackend()),
        BackendEntry("sqlite", "sqlite", lambda folder, servers: SQLiteBackend(folder)),
        *(server_entry(binary) for binary in find_servers()),
    ]


def server_entry(binary: ServerBinary) -> BackendEntry:
    """The column of one server."""
    return BackendEntry(
        binary.label, "redis", lambda folder, servers: RedisBackend(servers.get(binary).url), binary
    )
