"""Which jobs start, in a queue about whose jobs somebody has said when they may."""

from __future__ import annotations

from typing import Final, NamedTuple

from jobqueue.outcome import EXPIRED
from jobqueue.states import EventType, JobState
from jobqueue.storage.sqlite.connection import Transaction
from jobqueue.storage.sqlite.lanes import Lane, Lanes
from jobqueue.storage.sqlite.lines import HIGH, LOW, NORMAL, Candidate, Lines, Turns
from jobqueue.storage.sqlite.outbox import Outbox
from jobqueue.storage.sqlite.rows import COLUMNS, JobRow, QueueRow, write_each
from jobqueue.storage.sqlite.settling import Ended, end_waiting
from jobqueue.storage.types import MAX_BATCH, MAX_CLAIM_BYTES

_MOST_ROUNDS: Final = 10
"""A claim ends so many times :data:`MAX_BATCH` jobs that have expired, and puts as many aside that
a limit holds back, to come to one that may start: a tenth of a second with the lock, at worst."""


class Standing(NamedTuple):
    """What a claim asks of a flowing queue first.

    Attributes:
        paused: Nothing is to start.
        low_every: As in :class:`~jobqueue.flow.Control`.
        since_low: Jobs that have started since the last ``low`` one, while one waited.
        first_expiry_ms: When the next job expires, or ``None``.
        first_wake_ms: When the next lane may let go of a job by time alone, or ``None``.
        is_ready: A job waits in a line.
        is_limited: There is a limit on the whole queue.
    """

    paused: int
    low_every: int
    since_low: int
    first_expiry_ms: int | None
    first_wake_ms: int | None
    is_ready: int
    is_limited: int


_STANDING: Final = (
    "SELECT paused, low_every, since_low, "
    "(SELECT min(start_by_ms) FROM jobs WHERE queue = :queue AND start_by_ms > 0), "
    "(SELECT min(wake_ms) FROM lanes WHERE queue = :queue AND wake_ms IS NOT NULL), "
    "EXISTS (SELECT 1 FROM jobs WHERE queue = :queue AND state = 'queued' AND line >= 0), "
    "EXISTS (SELECT 1 FROM limits WHERE queue = :queue AND kind = 'queue') "
    "FROM queues WHERE key = :queue"
)


def read_standing(tx: Transaction, queue: QueueRow) -> Standing:
    return Standing(*tx.sql.execute(_STANDING, {"queue": queue.key}).fetchone())


def take(tx: Transaction, queue: QueueRow, standing: Standing, count: int) -> list[Candidate]:
    """Up to ``count`` jobs that are to start now, in order; their limits know of them."""
    return _Taking(tx, queue, standing, count).run()


class _Taking:
    """One claim. It puts aside whom a limit does not let start, and goes on behind them."""

    def __init__(self, tx: Transaction, queue: QueueRow, standing: Standing, count: int) -> None:
        self._tx = tx
        self._queue = queue
        self._standing = standing
        self._since_low = standing.since_low
        self._count = count
        self._lanes = Lanes(tx, queue)
        self._lines = Lines(tx, queue)
        self._taken: list[Candidate] = []
        self._spec_bytes = 0
        self._moves = MAX_BATCH
        self._to_hold_back = _MOST_ROUNDS * MAX_BATCH

    def run(self) -> list[Candidate]:
        if has_come(self._tx, self._standing.first_wake_ms):
            self._lanes.wake()
            self._moves -= self._lanes.let_go(self._lines, self._moves)
        # Who is put aside may leave room in the lane that let it go: then another one comes back.
        while not self._standing.paused and self._round():
            pass
        if self._since_low != self._standing.since_low:
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
        self._taken += started
        write_each(
            self._tx,
            "UPDATE jobs SET start_by_ms = 0 WHERE key = ?",
            [(job.key,) for job in started if job.start_by_ms],
        )
        self._lanes.release([job.key for job in started if job.held_by is not None])
        self._lanes.hold_back(held)
        self._to_hold_back -= len(held)
        moved = self._lanes.let_go(self._lines, self._moves)
        self._moves -= moved
        again = moved > 0 and len(started) < wanted and self._spec_bytes <= MAX_CLAIM_BYTES
        if again:
            # Else the next look would find them in their lines, and take them once more.
            self._tx.sql.executemany(
                "UPDATE jobs SET state = 'running' WHERE key = ?", [(job.key,) for job in started]
            )
        return again

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
        low_every = self._standing.low_every
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


def has_come(tx: Transaction, moment_ms: int | None) -> bool:
    return moment_ms is not None and moment_ms <= tx.now_ms


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


def next_claim_ms(tx: Transaction, queue: QueueRow) -> int | None:
    """When a claim will have something to do with those who are not delayed: 0 for now, ``None``
    for not by time alone."""
    standing = read_standing(tx, queue)
    start_ms = _next_start_ms(tx, queue, standing, ready_ms=0)
    return _first(start_ms, standing.first_expiry_ms, standing.first_wake_ms)


def next_change_ms(tx: Transaction, queue: QueueRow) -> int | None:
    """When a job will expire, or a rate will let one start that waits."""
    standing = read_standing(tx, queue)
    start_ms = _next_start_ms(tx, queue, standing, ready_ms=None)
    return _first(start_ms, standing.first_expiry_ms, standing.first_wake_ms)


def _next_start_ms(
    tx: Transaction, queue: QueueRow, standing: Standing, *, ready_ms: int | None
) -> int | None:
    """When one of those that wait in lines may start; ``ready_ms`` if that is now."""
    if standing.paused or not standing.is_ready:
        return None
    everything = Lanes(tx, queue).of_queue() if standing.is_limited else None
    if everything is None or everything.room(tx.now_ms):
        return ready_ms
    return everything.next_start_ms(tx.now_ms)


def _first(*moments: int | None) -> int | None:
    return min((moment for moment in moments if moment is not None), default=None)
