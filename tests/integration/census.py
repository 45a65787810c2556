"""Counts what a process, and a storage, holds: so that a test can say that nothing is left."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections import Counter
from collections.abc import Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.backends import Backend, RedisBackend, SQLiteBackend
from tests.support.wait import wait_until


@dataclass
class Census:
    """What there is now."""

    tasks: set[str] = field(default_factory=lambda: set[str]())
    threads: set[str] = field(default_factory=lambda: set[str]())
    files: Counter[str] = field(default_factory=lambda: Counter[str]())
    clients: set[str] = field(default_factory=lambda: set[str]())


def take(backend: Backend) -> Census:
    """Count everything that a queue might leave behind."""
    gc.collect()
    return Census(
        tasks={task.get_name() for task in asyncio.all_tasks()},
        threads={f"{thread.name} {thread.ident}" for thread in threading.enumerate()},
        files=Counter(_open_files()),
        clients=_clients(backend),
    )


async def nothing_more_than(before: Census, backend: Backend) -> None:
    """Wait until there is nothing that was not there before.

    The server notices the end of a connection a moment later; tasks, threads and files must be
    gone at once.
    """
    after = take(backend)
    assert after.tasks <= before.tasks
    assert after.threads <= before.threads
    assert after.files - before.files == Counter()
    await wait_until(lambda: _clients(backend) <= before.clients, 2, "clients are gone")


def _open_files() -> list[str]:
    found: list[str] = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.append(os.readlink(entry).partition(":[")[0])
        except OSError:
            continue  # the one that lists them
    # A loop of uvloop keeps one from its first connection on, for when no descriptor is left.
    return [name for name in found if name != os.devnull]


def _clients(backend: Backend) -> set[str]:
    if not isinstance(backend, RedisBackend):
        return set()
    return {client["id"] for client in backend.admin.client_list()}


def stored_size(backend: Backend) -> dict[str, Any]:
    """How much room the jobs take; zero, or the same as before, when there are none."""
    if isinstance(backend, RedisBackend):
        # A key may expire between the two questions.
        keys = {key: backend.admin.memory_usage(key) or 0 for key in backend.admin.keys("*")}
        return {"keys": set(keys), "bytes": sum(keys.values())}
    if isinstance(backend, SQLiteBackend):
        return _sqlite_size(backend.path)
    return _memory_size(backend)


def _sqlite_size(path: Path) -> dict[str, Any]:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(path)) as connection:
        tables = [
            name
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            )
        ]
        rows = {
            name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]
            for name in tables
        }
    return {
        "rows": rows,
        "bytes": sum(file.stat().st_size for file in path.parent.glob("jobs.db*")),
    }


def _memory_size(backend: Backend) -> dict[str, Any]:
    storage: Any = backend.handle()
    place = storage._space.queue("q")
    sizes = {name: len(part) for name, part in vars(place).items() if isinstance(part, Sized)}
    return sizes | {
        "states": place.states.total(),
        "lines": sum(len(groups) for groups in place.lines._levels),
        "sinks": len(place.bus.sinks),
        "waiters": len(place.bus.waiters),
    }
