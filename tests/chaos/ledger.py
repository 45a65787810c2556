"""The oracle: what really happened, in append-only files that the queue knows nothing of.

One file a process, one line an entry, each written by a single ``write`` before the work goes on:
what a process noted before it was killed is in its file. Before anything follows from it, such as a
job's outcome from its end, it is on the disk. Moments are those of the machine's monotonic clock,
which all its processes share.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple


class Entry(NamedTuple):
    """One line.

    Attributes:
        kind: ``ready``, ``waits`` (all); ``accepted``, ``merged`` (another job is there in
            its place), ``refused``, ``known``, ``called``, ``answered``, ``gone`` (producers);
            ``handed``, ``fetched`` (what it was handed, as it heard or was told when it asked),
            ``start``, ``end``, ``settled``, ``dropped`` (ended cancelled), ``unheard``,
            ``cut`` (its handler was cancelled), ``stopped``, ``stalled``, ``left`` (workers);
            ``warning``, ``error`` (what either logged); ``kill``, ``killed``, ``died``,
            ``producer_died``, ``freeze``, ``thaw``, ``server_down``, ``server_up``, ``away``,
            ``back`` (the server lives, and serves nobody), ``forget``, ``forgot`` (all that it
            holds), ``oom``, ``oom_over``, ``full``, ``room``, ``declared`` (limits and schedules),
            ``hurried`` (the driver).
        at: Seconds of the monotonic clock.
        process: Who wrote it.
        attempt: Of a job, else 0.
        about: The id of a job or a process, or a text; of ``merged`` the ids of both jobs.
    """

    kind: str
    at: float
    process: int
    attempt: int
    about: str


class Pen:
    """What one process writes with.

    Args:
        folder: Of the ledger.
        at_once: Each entry is on the disk when :meth:`note` returns.
    """

    def __init__(self, folder: Path, *, at_once: bool = False) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | (os.O_DSYNC if at_once else 0)
        self._file = os.open(folder / f"{os.getpid()}.ledger", flags, 0o600)
        self._keeping: asyncio.Future[None] | None = None

    def note(self, kind: str, about: object = "", attempt: int = 0) -> None:
        """Add an entry; it outlives this process when this returns."""
        text = str(about).replace("\n", " | ")
        os.write(self._file, f"{kind} {time.monotonic():.6f} {attempt} {text}\n".encode())

    async def kept(self) -> None:
        """Wait until what has been noted is on the disk. All who ask in one turn of the loop share
        one fsync."""
        if self._keeping is None:
            loop = asyncio.get_running_loop()
            self._keeping = loop.create_future()
            loop.call_soon(self._keep, self._keeping)
        await asyncio.shield(self._keeping)

    def _keep(self, keeping: asyncio.Future[None]) -> None:
        self._keeping = None
        os.fsync(self._file)
        keeping.set_result(None)

    def close(self) -> None:
        os.fsync(self._file)
        os.close(self._file)


class Ledger:
    """All files of a folder, read on as they grow."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries: list[Entry] = []
        self.counts: Counter[str] = Counter()
        self.accepted: dict[str, float] = {}
        """When each id was first accepted."""
        self.merged: dict[str, tuple[str, float]] = {}
        """The job in whose place another one is, that one, and when this was said."""
        self.ended: set[str] = set()
        self.ready: set[int] = set()
        self._read_up_to: dict[Path, int] = {}

    def refresh(self) -> bool:
        """Read what is new; whether there was something."""
        before = len(self.entries)
        for path in self.folder.glob("*.ledger"):
            self._read(path)
        return len(self.entries) > before

    def _read(self, path: Path) -> None:
        start = self._read_up_to.get(path, 0)
        if path.stat().st_size == start:
            return
        with path.open("rb") as file:
            file.seek(start)
            # A killed process may leave the beginning of a line; it never said so.
            whole, newline, _ = file.read().rpartition(b"\n")
        self._read_up_to[path] = start + len(whole) + len(newline)
        process = int(path.stem)
        for line in whole.decode().splitlines():
            kind, at, attempt, about = line.split(" ", 3)
            self._add(Entry(kind, float(at), process, int(attempt), about))

    def _add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.counts[entry.kind] += 1
        if entry.kind == "accepted":
            self.accepted.setdefault(entry.about, entry.at)
        elif entry.kind == "merged":
            id, other = entry.about.split()
            self.merged.setdefault(id, (other, entry.at))
        elif entry.kind == "end":
            self.ended.add(entry.about)
        elif entry.kind == "ready":
            self.ready.add(entry.process)

    @property
    def answered(self) -> int:
        """Jobs whose enqueue was answered."""
        return len(self.accepted) + len(self.merged)

    def of(self, *kinds: str) -> list[Entry]:
        """The entries of some kinds, by their moment."""
        return sorted((each for each in self.entries if each.kind in kinds), key=lambda e: e.at)
