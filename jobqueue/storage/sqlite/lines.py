"""Lines: where queued jobs wait, by level and group, and which group's turn it is.

A job's ``line`` is 0, 1 or 2 when it waits in no group, at its level; larger for a line of a group;
below 0 while a limit holds it back (see ``lanes``). Groups of a level stand in the table
``lines``, in the order of their turns, from the first job that joins them until a claim finds them
empty. The jobs without a group stand there too, but only beside others.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from jobqueue.storage.sqlite.connection import Transaction
from jobqueue.storage.sqlite.rows import CLAIMED, QueueRow, level_and_group, write_each

NORMAL: Final = 0
HIGH: Final = 1
LOW: Final = 2
_LINES: Final = (HIGH, NORMAL, LOW)
"""By level, of jobs in no group."""
_FIRST_GROUP: Final = 3
_FEW: Final = 2
_MANY: Final = 64


class Lines:
    """Joins jobs to the lines of a queue, in one transaction. Its caller saves the queue's row."""

    def __init__(self, tx: Transaction, queue: QueueRow) -> None:
        self._tx = tx
        self._queue = queue
        self._joined: dict[tuple[int, str], int] = {}

    def join(self, flow: bytes | None) -> int:
        """The line for a job that is about to be put there."""
        if not self._queue.flowing:
            return NORMAL
        level, group = level_and_group(flow)
        line = self._joined.get((level, group))
        if line is None:
            line = self._joined[level, group] = self._join(_LINES[level], group)
        return line

    def to_head(self, jobs: Sequence[tuple[int, bytes | None]]) -> None:
        """Put jobs (key and flow), in their order, before all others of their lines."""
        places = self._queue.next_heads(len(jobs))
        self.put(
            (self.join(flow), place, key) for place, (key, flow) in zip(places, jobs, strict=True)
        )

    def to_tail(self, jobs: Iterable[tuple[int, bytes | None]]) -> None:
        """Put jobs (key and flow), in their order, behind all others of their lines."""
        self.put((self.join(flow), self._queue.next_place(), key) for key, flow in jobs)

    def put(self, changes: Iterable[tuple[int, int, int]]) -> None:
        """Put jobs in lines: line, place and key of each."""
        write_each(
            self._tx,
            "UPDATE jobs SET state = 'queued', due_ms = 0, line = ?, place = ? WHERE key = ?",
            list(changes),
        )

    def _join(self, level: int, group: str) -> int:
        found = self._tx.sql.execute(
            "SELECT line FROM lines WHERE queue = ? AND level = ? AND name = ?",
            (self._queue.key, level, group),
        ).fetchone()
        if found is not None:
            if not self._waits(found[0]):
                self._add(level, group, found[0])
            return found[0]
        alone = not self._tx.sql.execute(
            "SELECT 1 FROM lines WHERE queue = ? AND level = ? LIMIT 1", (self._queue.key, level)
        ).fetchone()
        if not group:
            if not alone:
                self._add(level, "", level)
            return level
        if alone and ((_LINES.index(level), "") in self._joined or self._waits(level)):
            self._add(level, "", level)
        line = _FIRST_GROUP + self._queue.next_place()
        self._add(level, group, line)
        return line

    def _waits(self, line: int) -> bool:
        return (
            self._tx.sql.execute(
                "SELECT 1 FROM jobs WHERE queue = ? AND state = 'queued' AND line = ? LIMIT 1",
                (self._queue.key, line),
            ).fetchone()
            is not None
        )

    def _add(self, level: int, group: str, line: int) -> None:
        self._tx.sql.execute(
            "INSERT OR REPLACE INTO lines (queue, level, name, line, turn) VALUES (?, ?, ?, ?, ?)",
            (self._queue.key, level, group, line, self._queue.next_place()),
        )


class Candidate(NamedTuple):
    """A job whose turn may have come.

    Attributes:
        row: What a claim reads of a job (:data:`~jobqueue.storage.sqlite.rows.CLAIMED`), but its
            spec is ``None`` when it is large: perhaps the job must wait.
        key: Its row's.
        name: Its job type.
        flow: When it may start.
        spec_bytes: Size of its spec.
        place: In its line.
        start_by_ms: When it expires; 0 for never.
        held_by: Key of the lane that last held it back since it last ran, or ``None``.
    """

    row: tuple[Any, ...]
    key: int
    name: str
    flow: bytes | None
    spec_bytes: int
    place: int
    start_by_ms: int
    held_by: int | None


_CLAIMED: Final = CLAIMED.count(",") + 1
_SMALL_BYTES: Final = 4096
_SPEC: Final = f"CASE WHEN length(spec) <= {_SMALL_BYTES} THEN spec END"
_CANDIDATES: Final = (
    f"SELECT {CLAIMED.replace('spec', _SPEC)}, "
    "key, name, flow, length(spec), place, start_by_ms, lane FROM jobs "
    "JOIN specs ON specs.job = key LEFT JOIN held ON held.job = key "
    "WHERE queue = ? AND state = 'queued' AND line = ? AND place > ? ORDER BY place LIMIT ?"
)
_BEFORE_ALL: Final = -(1 << 63)


_Read: TypeAlias = Callable[[int, int, int], Sequence[Candidate]]
"""Reads candidates of a line, after a place, so many."""


class _Line:
    """One line, read a few jobs at a time."""

    def __init__(self, read: _Read, line: int, name: str, few: int) -> None:
        self.name = name
        self._read_more = read
        self._line = line
        self._few = few
        self._after = _BEFORE_ALL
        self._read: deque[Candidate] = deque()

    def peek(self) -> Candidate | None:
        if not self._read and self._few:
            found = self._read_more(self._line, self._after, self._few)
            self._read.extend(found)
            if len(found) < self._few:
                self._few = 0
            else:
                self._few, self._after = _MANY, found[-1].place
        return self._read[0] if self._read else None

    def pop(self) -> None:
        self._read.popleft()


class _Level:
    """One level: a line, or groups that take turns.

    Args:
        tx: The transaction.
        queue: The queue.
        level: Line of its jobs without a group.
        turns: Lines of groups with their names, in the order of their turns; ``None`` when the
            level has no groups.
        read: Reads candidates.
        count: About so many are wanted.
    """

    def __init__(
        self,
        tx: Transaction,
        queue: QueueRow,
        level: int,
        turns: sqlite3.Cursor | None,
        read: _Read,
        count: int,
    ) -> None:
        self._tx = tx
        self._queue = queue
        self._level = level
        self._turns = turns
        self._read = read
        self._behind: deque[_Line] = deque()
        self._emptied: list[str] = []
        self._front = (
            _Line(read, level, "", min(count + 1, _MANY)) if turns is None else self._next()
        )

    def peek(self) -> Candidate | None:
        while self._front is not None:
            found = self._front.peek()
            if found is not None:
                return found
            self._emptied.append(self._front.name)
            self._front = self._next()
        return None

    def pop(self) -> None:
        """Take what :meth:`peek` showed."""
        assert self._front is not None
        self._front.pop()
        if self._turns is not None:
            self._behind.append(self._front)
            self._front = self._next()

    def close(self) -> None:
        if self._turns is not None:
            self._turns.close()

    def save(self) -> None:
        """Write down whose turn it is now. Groups that gave their last job may be left: the next
        claim, or who joins them, finds them empty."""
        if self._turns is None:
            return
        write_each(
            self._tx,
            "DELETE FROM lines WHERE queue = ? AND level = ? AND name = ?",
            [(self._queue.key, self._level, name) for name in self._emptied],
        )
        write_each(
            self._tx,
            "UPDATE lines SET turn = ? WHERE queue = ? AND level = ? AND name = ?",
            [
                (self._queue.next_place(), self._queue.key, self._level, line.name)
                for line in self._behind
            ],
        )

    def _next(self) -> _Line | None:
        found = None if self._turns is None else self._turns.fetchone()
        if found is not None:
            line, name = found
            return _Line(self._read, line, name, _FEW)
        return self._behind.popleft() if self._behind else None


_PRESENT: Final = "SELECT " + ", ".join(
    f"EXISTS (SELECT 1 FROM jobs WHERE queue = :queue AND state = 'queued' AND line = {level}), "
    f"EXISTS (SELECT 1 FROM lines WHERE queue = :queue AND level = {level})"
    for level in _LINES
)
_TURNS: Final = "SELECT line, name FROM lines WHERE queue = ? AND level = ? ORDER BY turn"


class Turns:
    """Who waits, in the order of turns, as of one moment: read before anything is written.

    Args:
        tx: The transaction.
        queue: The queue.
        count: About so many are wanted.
        announce: Told of those whose turn may come soon.
    """

    def __init__(
        self,
        tx: Transaction,
        queue: QueueRow,
        count: int,
        announce: Callable[[Sequence[Candidate]], None],
    ) -> None:
        self._tx = tx
        self._queue = queue.key
        self._announce = announce
        present = tx.sql.execute(_PRESENT, {"queue": queue.key}).fetchone()
        self._levels: dict[int, _Level] = {}
        for level, waits, takes_turns in zip(_LINES, present[::2], present[1::2], strict=True):
            if waits or takes_turns:
                turns = tx.sql.execute(_TURNS, (queue.key, level)) if takes_turns else None
                self._levels[level] = _Level(tx, queue, level, turns, self._read, count)

    def peek(self, level: int) -> Candidate | None:
        found = self._levels.get(level)
        return None if found is None else found.peek()

    def pop(self, level: int) -> None:
        self._levels[level].pop()

    def save(self) -> None:
        """To be called once nothing is read any more."""
        for level in self._levels.values():
            level.close()
        for level in self._levels.values():
            level.save()

    def _read(self, line: int, after: int, count: int) -> Sequence[Candidate]:
        rows = self._tx.sql.execute(_CANDIDATES, (self._queue, line, after, count))
        found = [Candidate(row[:_CLAIMED], *row[_CLAIMED:]) for row in rows]
        self._announce(found)
        return found
