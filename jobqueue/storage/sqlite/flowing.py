"""Which jobs start, in a queue about whose jobs somebody has said when they may."""

from __future__ import annotations

from typing import Final

from jobqueue.flow import Control
from jobqueue.outcome import EXPIRED
from jobqueue.states import EventType, JobState
from jobqueue.storage.base import MAX_BATCH, MAX_CLAIM_BYTES
from jobqueue.storage.sqlite.connection import Transaction
from jobqueue.storage.sqlite.limiting import Lane, Lanes, first_to_wake
from jobqueue.storage.sqlite.lines import HIGH, LOW, NORMAL, Candidate, Lines, Turns
from jobqueue.storage.sqlite.outbox import Outbox
from jobqueue.storage.sqlite.rows import COLUMNS, JobRow, QueueRow, read_control
from jobqueue.storage.sqlite.settling import Ended, end_waiting

_MOST_ROUNDS: Final = 10
"""A claim ends so many times :data:`MAX_BATCH` jobs that have expired, and puts as many aside that
a limit holds back, to come to one that may start: a tenth of a second with the lock, at worst."""


def take(tx: Transaction, queue: QueueRow, count: int) -> list[int]:
    """Keys of up to ``count`` jobs that are to start now, in order; their limits know of them."""
    return _Taking(tx, queue, count, read_control(tx, queue)).run()


class _Taking:
    """One claim. It puts aside whom a limit does not let start, and goes on behind them."""

    def __init__(self, tx: Transaction, queue: QueueRow, count: int, control: Control) -> None:
        self._tx = tx
        self._queue = queue
        self._count = count
        self._control = control
        self._lanes = Lanes(tx, queue)
        self._lines = Lines(tx, queue)
        self._taken: list[int] = []
        self._spec_bytes = 0
        self._moves = MAX_BATCH
        self._to_hold_back = _MOST_ROUNDS * MAX_BATCH
        self._since_low: int = tx.sql.execute(
            "SELECT since_low FROM queues WHERE key = ?", (queue.key,)
        ).fetchone()[0]

    def run(self) -> list[int]:
        since_low = self._since_low
        self._lanes.wake()
        self._moves -= self._lanes.let_go(self._lines, self._moves)
        # Who is put aside may leave room in the lane that let it go: then another one comes back.
        while not self._control.paused and self._round():
            pass
        if self._since_low != since_low:
            self._tx.sql.execute(
                "UPDATE queues SET since_low = ? WHERE key = ?",
                (self._since_low, self._queue.key),
            )
        return self._taken

    def _round(self) -> bool:
        """Take from the lines as they are; say whether it is worth another look."""
        everything = self._lanes.of_queue()
        wanted = self._count - len(self._taken)
        if everything is not None:
            wanted = min(wanted, everything.room(self._tx.now_ms))
        if not wanted:
            return False
        turns = Turns(self._tx, self._queue, wanted, self._lanes.announce)
        started, held = self._read(turns, wanted)
        turns.save()
        self._taken += [job.key for job in started]
        self._tx.sql.executemany(
            "UPDATE jobs SET start_by_ms = 0 WHERE key = ?",
            [(job.key,) for job in started if job.start_by_ms],
        )
        self._lanes.release([job.key for job in started if job.held_by is not None])
        self._lanes.hold_back(held)
        self._to_hold_back -= len(held)
        moved = self._lanes.let_go(self._lines, self._moves)
        self._moves -= moved
        return moved > 0 and len(started) < wanted and self._spec_bytes <= MAX_CLAIM_BYTES

    def _read(
        self, turns: Turns, wanted: int
    ) -> tuple[list[Candidate], list[tuple[Candidate, Lane]]]:
        """Who starts, and who is held back, and by which lane."""
        started: list[Candidate] = []
        held: list[tuple[Candidate, Lane]] = []
        while len(started) < wanted:
            level, job = self._next(turns)
            if job is None:
                break
            if 0 < job.start_by_ms <= self._tx.now_ms:
                turns.pop(level)
                continue
            lanes = self._lanes.names(job.name, job.flow)
            refusing = self._lanes.refusing(lanes)
            if refusing is not None:
                if len(held) == self._to_hold_back:
                    break
                turns.pop(level)
                held.append((job, refusing))
                continue
            self._spec_bytes += job.spec_bytes
            if self._spec_bytes > MAX_CLAIM_BYTES and (started or self._taken):
                break
            turns.pop(level)
            self._lanes.start(lanes)
            started.append(job)
            if level == LOW:
                self._since_low = 0
            elif turns.peek(LOW) is not None:
                self._since_low += 1
        return started, held

    def _next(self, turns: Turns) -> tuple[int, Candidate | None]:
        """The level whose turn it is, and its first job."""
        low_every = self._control.low_every
        if low_every and self._since_low >= low_every - 1:
            job = turns.peek(LOW)
            if job is not None:
                return LOW, job
        for level in (HIGH, NORMAL):
            job = turns.peek(level)
            if job is not None:
                return level, job
        return LOW, turns.peek(LOW)


# -- what time alone brings ----------------------------------------------------------------------


def expire_all(tx: Transaction, queue: QueueRow) -> None:
    """End jobs that were not started in time, so that a claim need not pass over them."""
    for _ in range(_MOST_ROUNDS):
        if expire(tx, queue, MAX_BATCH) < MAX_BATCH:
            break


def expire(tx: Transaction, queue: QueueRow, limit: int) -> int:
    """End up to ``limit`` jobs that were not started in time; say how many."""
    found = tx.sql.execute(
        f"SELECT {COLUMNS} FROM jobs WHERE queue = ? AND start_by_ms > 0 AND start_by_ms <= ? "
        "ORDER BY start_by_ms LIMIT ?",
        (queue.key, tx.now_ms, limit),
    ).fetchall()
    if not found:
        return 0
    rows = [JobRow(*row) for row in found]
    outbox = Outbox(tx, queue)
    end_waiting(
        tx, queue, outbox, [Ended(row, JobState.CANCELLED, EXPIRED, row.ttl_ms) for row in rows]
    )
    for row in rows:
        outbox.event(EventType.CANCELLED, row.id, row.name, row.attempt, "")
    outbox.send()
    return len(rows)


def wake_lanes(tx: Transaction, queue: QueueRow) -> None:
    """Send back to their lines those whom a rate lets start now."""
    lanes = Lanes(tx, queue)
    lanes.wake()
    lanes.let_go(Lines(tx, queue), MAX_BATCH)


def next_claim_ms(tx: Transaction, queue: QueueRow, first_due_ms: int | None) -> int | None:
    """When a claim will have something to do: 0 for now, ``None`` for not by time alone."""
    return _first(first_due_ms, *_moments(tx, queue, ready_ms=0))


def next_change_ms(tx: Transaction, queue: QueueRow) -> int | None:
    """When a job will expire, or a rate will let one start that waits."""
    return _first(*_moments(tx, queue, ready_ms=None))


def _moments(tx: Transaction, queue: QueueRow, ready_ms: int | None) -> list[int | None]:
    """``ready_ms`` stands for a job that can start now."""
    start_ms: int | None = None
    if not read_control(tx, queue).paused and _is_ready(tx, queue):
        everything = Lanes(tx, queue).of_queue()
        if everything is None or everything.room(tx.now_ms):
            start_ms = ready_ms
        else:
            start_ms = everything.next_start_ms(tx.now_ms)
    return [start_ms, first_to_wake(tx, queue), _first_expiry(tx, queue)]


def _is_ready(tx: Transaction, queue: QueueRow) -> bool:
    return (
        tx.sql.execute(
            "SELECT 1 FROM jobs WHERE queue = ? AND state = 'queued' AND line >= 0 LIMIT 1",
            (queue.key,),
        ).fetchone()
        is not None
    )


def _first_expiry(tx: Transaction, queue: QueueRow) -> int | None:
    return tx.sql.execute(
        "SELECT min(start_by_ms) FROM jobs WHERE queue = ? AND start_by_ms > 0", (queue.key,)
    ).fetchone()[0]


def _first(*moments: int | None) -> int | None:
    return min((moment for moment in moments if moment is not None), default=None)
