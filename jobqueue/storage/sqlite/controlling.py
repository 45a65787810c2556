"""What an operator does with a whole queue or with jobs that wait: control, clear, obliterate,
reschedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from jobqueue.flow import OPEN, Control
from jobqueue.states import EventType, JobState, RescheduleResult
from jobqueue.storage.sqlite.connection import Transaction
from jobqueue.storage.sqlite.lanes import Lanes
from jobqueue.storage.sqlite.lines import Lines
from jobqueue.storage.sqlite.outbox import Outbox
from jobqueue.storage.sqlite.rows import (
    COLUMNS,
    JobRow,
    QueueRow,
    find_jobs,
    find_queue,
    make_queue,
    read_control,
)
from jobqueue.storage.sqlite.settling import Ended, end_waiting, leave_lines
from jobqueue.storage.types import MAX_BATCH

_FIELDS: Final = {
    "paused": "UPDATE queues SET paused = ? WHERE key = ?",
    "draining": "UPDATE queues SET draining = ? WHERE key = ?",
    "max_waiting": "UPDATE queues SET max_waiting = ? WHERE key = ?",
    "low_every": "UPDATE queues SET low_every = ? WHERE key = ?",
}
_FORGOTTEN: Final = tuple(
    f"DELETE FROM {table} WHERE queue = ?" for table in ("schedules", "limits", "lanes", "lines")
)
_RESCHEDULE_ANSWERS: Final = {
    JobState.QUEUED: RescheduleResult.QUEUED,
    JobState.RUNNING: RescheduleResult.RUNNING,
    JobState.SCHEDULED: RescheduleResult.UPDATED,
    JobState.RETRYING: RescheduleResult.UPDATED,
}


def read(tx: Transaction, name: str) -> Control:
    queue = find_queue(tx, name)
    return OPEN if queue is None else read_control(tx, queue)


def change(tx: Transaction, name: str, changes: Mapping[str, int]) -> Control:
    queue = make_queue(tx, name)
    for field, value in changes.items():
        tx.sql.execute(_FIELDS[field], (int(value), queue.key))
    control = read_control(tx, queue)
    if control != OPEN:
        queue.flow(tx)
    return control


def reschedule(
    tx: Transaction, name: str, ids: Sequence[str], due_ms: int
) -> list[RescheduleResult]:
    queue = make_queue(tx, name)
    rows = find_jobs(tx, queue, ids)
    answers: list[RescheduleResult] = []
    moved: dict[int, JobRow] = {}
    at_once = due_ms <= tx.now_ms
    for id in ids:
        row = rows.get(id)
        if row is None:
            answers.append(RescheduleResult.NOT_FOUND)
            continue
        answer = _RESCHEDULE_ANSWERS.get(JobState(row.state), RescheduleResult.FINISHED)
        answers.append(answer)
        if answer is RescheduleResult.UPDATED:
            moved[row.key] = row
            if at_once:
                row.state = JobState.QUEUED  # for an id that is named twice
    if at_once:
        Lines(tx, queue).to_tail([(row.key, row.flow) for row in moved.values()])
        queue.save(tx)
    else:
        tx.sql.executemany(
            "UPDATE jobs SET due_ms = ? WHERE key = ?", [(due_ms, key) for key in moved]
        )
    return answers


def clear(tx: Transaction, name: str, limit: int, ttl_ms: int, value: bytes) -> int:
    queue = find_queue(tx, name)
    if queue is None:
        return 0
    rows = [JobRow(*found) for found in _waiting(tx, queue, limit)]
    outbox = Outbox(tx, queue)
    ended: list[Ended] = []
    for row in rows:
        row.ttl_ms = row.ttl_ms or ttl_ms
        ended.append(Ended(row, JobState.CANCELLED, value, row.ttl_ms))
        outbox.event(EventType.CANCELLED, row.id, row.name, row.attempt, "")
    tx.sql.executemany(
        "UPDATE jobs SET ttl_ms = ? WHERE key = ?", [(row.ttl_ms, row.key) for row in rows]
    )
    end_waiting(tx, queue, outbox, ended)
    outbox.send()
    return len(rows)


def _waiting(tx: Transaction, queue: QueueRow, limit: int) -> list[tuple[Any, ...]]:
    # Text of the states rather than parameters, so that SQLite sees which partial index fits.
    found: list[tuple[Any, ...]] = []
    for states in ("state = 'queued'", "state IN ('scheduled', 'retrying')"):
        found += tx.sql.execute(
            f"SELECT {COLUMNS} FROM jobs WHERE queue = ? AND {states} LIMIT ?",
            (queue.key, limit - len(found)),
        ).fetchall()
    return found


def obliterate(tx: Transaction, name: str, limit: int) -> int:
    queue = find_queue(tx, name)
    if queue is None:
        return 0
    found = tx.sql.execute(
        f"SELECT {COLUMNS} FROM jobs WHERE queue = ? AND NOT "
        "(state IN ('completed', 'failed', 'cancelled') AND expires_ms <= ?) LIMIT ?",
        (queue.key, tx.now_ms, limit),
    ).fetchall()
    rows = [JobRow(*each) for each in found]
    if queue.flowing:
        lanes = Lanes(tx, queue)
        lanes.stop(row for row in rows if row.state == JobState.RUNNING)
        lanes.let_go(Lines(tx, queue), MAX_BATCH)
        leave_lines(tx, queue, [row.key for row in rows if row.state == JobState.QUEUED])
    tx.sql.executemany("DELETE FROM jobs WHERE key = ?", [(row.key,) for row in rows])
    if not rows:
        _forget(tx, queue)
    return len(rows)


def _forget(tx: Transaction, queue: QueueRow) -> None:
    for statement in _FORGOTTEN:
        tx.sql.execute(statement, (queue.key,))
    tx.sql.execute(
        "UPDATE queues SET flowing = 0, paused = 0, draining = 0, max_waiting = 0, low_every = 0, "
        "since_low = 0 WHERE key = ?",
        (queue.key,),
    )
