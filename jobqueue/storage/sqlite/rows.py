"""Rows as the verbs see them: a queue with its counters, and jobs found by id."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Final, cast

from jobqueue.flow import LEVELS, Control, Flow, Priority, Unique, UniqueUntil, check_flow
from jobqueue.packing import pack, unpack
from jobqueue.states import TERMINAL, JobState
from jobqueue.storage.sqlite.connection import Transaction

_CHUNKS: Final = (1, 8, 64, 500)
"""Lengths of ``IN (...)``: few, so that their statements stay compiled."""


@dataclass(slots=True)
class QueueRow:
    """A queue's key and counters. ``head`` counts down, ``tail`` and ``fence`` up.

    ``flowing``: once anybody has said when its jobs may start; before, all of them wait in one line
    and nothing else is looked at.
    """

    key: int
    fence: int = 0
    head: int = 0
    tail: int = 0
    flowing: int = 0

    def next_fence(self) -> int:
        self.fence += 1
        return self.fence

    def next_place(self) -> int:
        self.tail += 1
        return self.tail

    def next_heads(self, number: int, apart: int = 1) -> range:
        """Places before all others, for so many jobs in their order; and so far apart that there is
        room for others between them."""
        self.head -= number * apart
        return range(self.head, self.head + number * apart, apart)

    def flow(self, tx: Transaction) -> None:
        if not self.flowing:
            self.flowing = 1
            tx.sql.execute("UPDATE queues SET flowing = 1 WHERE key = ?", (self.key,))

    def save(self, tx: Transaction) -> None:
        tx.sql.execute(
            "UPDATE queues SET fence = ?, head = ?, tail = ? WHERE key = ?",
            (self.fence, self.head, self.tail, self.key),
        )


@dataclass(slots=True)
class JobRow:
    """What the verbs ask about a stored job. They change it along with the table."""

    key: int
    id: str
    name: str
    state: str
    fence: int
    settled_fence: int
    attempt: int
    ttl_ms: int
    expires_ms: int
    request: str
    reply_to: bytes | None
    cancel_value: bytes | None
    cancel_request: str
    flow: bytes | None

    @property
    def has_ended(self) -> bool:
        return self.state in TERMINAL

    def is_over(self, now_ms: int) -> bool:
        """Its time to live is over: it does not exist, whether pruned or not."""
        return self.expires_ms <= now_ms and self.has_ended

    def held_under(self, fence: int) -> bool:
        return self.state == JobState.RUNNING and self.fence == fence


COLUMNS: Final = (
    "key, id, name, state, fence, settled_fence, attempt, ttl_ms, expires_ms, request, reply_to, "
    "cancel_value, cancel_request, flow"
)


CLAIMED: Final = (
    "key, id, name, spec, fence, attempt, enqueued_ms, ttl_ms, cancel_value IS NOT NULL, worker, "
    "flow"
)
"""What a claim reads of a job."""


def find_queue(tx: Transaction, name: str) -> QueueRow | None:
    """The queue, or ``None`` when nothing was ever written to it."""
    found = tx.sql.execute(
        "SELECT key, fence, head, tail, flowing FROM queues WHERE name = ?", (name,)
    ).fetchone()
    return None if found is None else QueueRow(*found)


def make_queue(tx: Transaction, name: str) -> QueueRow:
    """The queue, in a transaction that writes."""
    found = find_queue(tx, name)
    if found is not None:
        return found
    key = tx.sql.execute("INSERT INTO queues (name) VALUES (?)", (name,)).lastrowid
    return QueueRow(cast("int", key))


def select_in(
    tx: Transaction, statement: str, before: Sequence[Any], values: Iterable[Any]
) -> Iterator[tuple[Any, ...]]:
    """Rows of a statement with ``IN ({})``, for any number of values.

    Args:
        tx: The transaction.
        statement: Constant text; ``{}`` is replaced by question marks alone.
        before: Parameters that come first.
        values: What the column is in.
    """
    rest = iter(values)
    while chunk := list(islice(rest, _CHUNKS[-1])):
        length = next(length for length in _CHUNKS if length >= len(chunk))
        # A repeated value changes nothing about the answer.
        chunk.extend(chunk[-1:] * (length - len(chunk)))
        marks = ",".join("?" * length)
        yield from tx.sql.execute(statement.format(marks), (*before, *chunk))


def write_each(tx: Transaction, statement: str, rows: Sequence[Sequence[Any]]) -> None:
    """Run a statement for each of these parameters; for none costs nothing."""
    if rows:
        tx.sql.executemany(statement, rows)


def stored_jobs(tx: Transaction, queue: QueueRow | None, ids: Iterable[str]) -> dict[str, JobRow]:
    """Stored jobs by id, those whose time to live is over included."""
    if queue is None:
        return {}
    statement = f"SELECT {COLUMNS} FROM jobs WHERE queue = ? AND id IN ({{}})"
    rows = (JobRow(*found) for found in select_in(tx, statement, (queue.key,), ids))
    return {row.id: row for row in rows}


def find_jobs(tx: Transaction, queue: QueueRow | None, ids: Iterable[str]) -> dict[str, JobRow]:
    """Jobs that exist, by id."""
    stored = stored_jobs(tx, queue, ids)
    return {id: row for id, row in stored.items() if not row.is_over(tx.now_ms)}


def read_control(tx: Transaction, queue: QueueRow) -> Control:
    """What holds for the queue."""
    paused, draining, max_waiting, low_every = tx.sql.execute(
        "SELECT paused, draining, max_waiting, low_every FROM queues WHERE key = ?", (queue.key,)
    ).fetchone()
    return Control(
        paused=bool(paused), draining=bool(draining), max_waiting=max_waiting, low_every=low_every
    )


_NORMAL: Final = LEVELS.index(Priority.NORMAL)
_RANKS: Final = range(len(LEVELS))
_FLOWS_KEPT: Final = 4096
"""Read once each, as far as jobs come again that say the same: a claim and a finish each ask."""


def pack_flow(flow: Flow) -> bytes:
    unique = None
    if flow.unique is not None:
        key, until, *rest = flow.unique
        unique = [key, until.value, *rest]
    level = LEVELS.index(flow.priority)
    return pack([level, flow.expires_ms, flow.group, flow.limit, flow.key, flow.alone, unique])


@lru_cache(maxsize=_FLOWS_KEPT)
def unpack_flow(packed: bytes | None) -> Flow | None:
    """What a job says; ``None`` also for what cannot be read."""
    if packed is None:
        return None
    try:
        level, expires_ms, group, limit, key, alone, unique = unpack(packed)
        if unique is not None:
            unique_key, until, *rest = unique
            unique = Unique(unique_key, UniqueUntil(until), *rest)
        return check_flow(Flow(LEVELS[level], expires_ms, group, limit, key, alone, unique))
    except Exception:  # some other program may have written anything at all
        return None


def level_and_group(packed: bytes | None) -> tuple[int, str]:
    """The level, 0 for the one that is served first, and the group."""
    if packed is None:
        return _NORMAL, ""
    with suppress(Exception):
        level, _, group, *_ = unpack(packed)
        if level in _RANKS and isinstance(group, str):
            return level, group
    return _NORMAL, ""


@lru_cache(maxsize=_FLOWS_KEPT)
def limit_names(packed: bytes) -> tuple[str, str, str]:
    """The limit by key under which a job falls, its key there, and its ``alone``."""
    with suppress(Exception):
        limit, key, alone = unpack(packed)[3:6]
        if isinstance(limit, str) and isinstance(key, str) and isinstance(alone, str):
            return limit, key, alone
    return "", "", ""


def addresses(row: JobRow) -> list[str]:
    """Whom to tell when the job ends."""
    return [] if row.reply_to is None else unpack(row.reply_to)


def remember(row: JobRow, reply_to: str | None) -> bool:
    """Add an address in memory, and say whether it is new."""
    known = addresses(row)
    if reply_to is None or reply_to in known:
        return False
    row.reply_to = pack([*known, reply_to])
    return True


def save_addresses(tx: Transaction, rows: Iterable[JobRow]) -> None:
    tx.sql.executemany(
        "UPDATE jobs SET reply_to = ? WHERE key = ?", [(row.reply_to, row.key) for row in rows]
    )
