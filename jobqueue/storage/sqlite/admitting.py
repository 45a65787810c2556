"""What stands before a new job: others of its unique key, and the state of the queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from jobqueue.flow import Refusal, Unique, UniqueUntil
from jobqueue.packing import pack, unpack
from jobqueue.states import EnqueueStatus, JobState
from jobqueue.storage.sqlite.connection import Transaction
from jobqueue.storage.sqlite.lines import Lines
from jobqueue.storage.sqlite.rows import (
    COLUMNS,
    JobRow,
    QueueRow,
    read_control,
    remember,
    save_addresses,
)
from jobqueue.storage.types import INLINE_BYTES, Enqueued, NewJob

_TOKENS_KEPT: Final = 16
_WAITING: Final = (JobState.SCHEDULED, JobState.QUEUED)


def answer_known(tx: Transaction, row: JobRow, other_id: str = "") -> Enqueued:
    """The answer about a job that is there already."""
    state = JobState(row.state)
    value = None
    if row.has_ended:
        value = tx.sql.execute(
            "SELECT value FROM jobs WHERE key = ? AND length(value) <= ?", (row.key, INLINE_BYTES)
        ).fetchone()
    completed = state is JobState.COMPLETED
    return Enqueued(
        EnqueueStatus.COMPLETED if completed else EnqueueStatus.DUPLICATE,
        state,
        None if value is None else value[0],
        other_id,
    )


def save_uniques(tx: Transaction, queue: QueueRow, stored: Sequence[tuple[NewJob, int]]) -> None:
    """From now on these jobs (with their keys) are the ones that are there."""
    tx.sql.executemany(
        "INSERT OR REPLACE INTO uniques (queue, text, job) VALUES (?, ?, ?)",
        [
            (queue.key, job.flow.unique.key, key)
            for job, key in stored
            if job.flow is not None and job.flow.unique is not None
        ],
    )


class Admission:
    """Decides about the new jobs of one call, one after the other.

    Args:
        tx: The transaction.
        queue: The queue.
        always: Whatever the state of the queue.
    """

    def __init__(self, tx: Transaction, queue: QueueRow, *, always: bool = False) -> None:
        self._tx = tx
        self._queue = queue
        control = read_control(tx, queue)
        self._draining = control.draining and not always
        self._max_waiting = 0 if always else control.max_waiting
        self._waiting = _count_waiting(tx, queue, self._max_waiting) if self._max_waiting else 0

    def answer(self, job: NewJob) -> Enqueued | None:
        """The answer to a job that is not stored, or ``None`` for one that then is."""
        unique = None if job.flow is None else job.flow.unique
        answer = None if unique is None else self._answer_unique(job, unique)
        if answer is not None:
            return answer
        if self._draining:
            return Enqueued(Refusal.DRAINING, JobState.QUEUED, None)
        if self._max_waiting and self._waiting >= self._max_waiting:
            return Enqueued(Refusal.FULL, JobState.QUEUED, None)
        self._waiting += 1
        return None

    def _answer_unique(self, job: NewJob, unique: Unique) -> Enqueued | None:
        found = self._tx.sql.execute(
            f"SELECT replaced_by, enqueued_ms, {COLUMNS} FROM uniques "
            "JOIN jobs ON key = job WHERE uniques.queue = ? AND text = ?",
            (self._queue.key, unique.key),
        ).fetchone()
        if found is None:
            return None
        replaced_by, enqueued_ms, *columns = found
        row = JobRow(*columns)
        if row.is_over(self._tx.now_ms):
            return None
        tokens: list[str] = [] if replaced_by is None else unpack(replaced_by)
        token = job.request or job.id
        if unique.replace and token in tokens:
            return Enqueued(EnqueueStatus.REPLACED, JobState(row.state), None, row.id)
        if not _counts(unique, row, enqueued_ms, self._tx.now_ms):
            return None
        if remember(row, None if row.has_ended else job.reply_to):
            save_addresses(self._tx, [row])
        if not unique.replace:
            return answer_known(self._tx, row, "" if row.id == job.id else row.id)
        self._tx.sql.execute(
            "UPDATE uniques SET replaced_by = ? WHERE queue = ? AND text = ?",
            (pack([*tokens, token][-_TOKENS_KEPT:]), self._queue.key, unique.key),
        )
        return self._replace(row, enqueued_ms, job, unique)

    def _replace(self, row: JobRow, enqueued_ms: int, job: NewJob, unique: Unique) -> Enqueued:
        """Give a job that waits what a later one brings."""
        self._tx.sql.execute("UPDATE specs SET spec = ? WHERE job = ?", (job.spec, row.key))
        self._tx.sql.execute("UPDATE jobs SET ttl_ms = ? WHERE key = ?", (job.ttl_ms, row.key))
        if row.state == JobState.SCHEDULED:
            due_ms = job.due_ms or self._tx.now_ms + job.delay_ms
            if unique.max_wait_ms:
                due_ms = min(due_ms, enqueued_ms + unique.max_wait_ms)
            if due_ms > self._tx.now_ms:
                self._tx.sql.execute("UPDATE jobs SET due_ms = ? WHERE key = ?", (due_ms, row.key))
            else:
                Lines(self._tx, self._queue).to_tail([(row.key, row.flow)])
                self._queue.save(self._tx)
                row.state = JobState.QUEUED.value
        return Enqueued(EnqueueStatus.REPLACED, JobState(row.state), None, row.id)


def _counts(unique: Unique, row: JobRow, enqueued_ms: int, now_ms: int) -> bool:
    """Whether a job that is there keeps a new one away that says ``unique``."""
    match unique.until:
        case UniqueUntil.STARTED:
            return row.state in _WAITING and not row.fence
        case UniqueUntil.FINISHED:
            return not row.has_ended
        case UniqueUntil.ELAPSED:
            return now_ms < enqueued_ms + unique.window_ms


def _count_waiting(tx: Transaction, queue: QueueRow, enough: int) -> int:
    """Jobs that are scheduled or queued; counted no further than is enough to know."""
    queued = "SELECT 1 FROM jobs WHERE queue = :queue AND state = 'queued' LIMIT :enough"
    # Retrying ones stand among the scheduled; they do not count, but do not make it long either.
    delayed = (
        "SELECT 1 FROM jobs WHERE queue = :queue AND state IN ('scheduled', 'retrying') "
        "AND state = 'scheduled' LIMIT :enough"
    )
    return tx.sql.execute(
        f"SELECT (SELECT count(*) FROM ({queued})) + (SELECT count(*) FROM ({delayed}))",
        {"queue": queue.key, "enough": enough},
    ).fetchone()[0]
