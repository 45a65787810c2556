"""Schedules: stored, read, and made to enqueue their jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from jobqueue.flow import Schedules, StoredSchedule
from jobqueue.storage.sqlite.admitting import Admission
from jobqueue.storage.sqlite.connection import Transaction
from jobqueue.storage.sqlite.producing import enqueue_flowing
from jobqueue.storage.sqlite.rows import find_queue, make_queue, select_in
from jobqueue.storage.types import NewJob

_SCHEDULES: Final = (
    "SELECT id, record, version, token, next_ms, last_ms, last_id FROM schedules WHERE queue = ? "
)


def schedules(tx: Transaction, name: str, ids: Sequence[str] | None, due: int) -> Schedules:
    queue = find_queue(tx, name)
    if queue is None:
        return Schedules(tx.now_ms, 0, [])
    if ids is not None:
        rows = {
            row[0]: row for row in select_in(tx, _SCHEDULES + "AND id IN ({})", (queue.key,), ids)
        }
        found = [rows[id] for id in ids if id in rows]
    elif due:
        found = tx.sql.execute(
            _SCHEDULES + "AND next_ms > 0 AND next_ms <= ? ORDER BY next_ms, id LIMIT ?",
            (queue.key, tx.now_ms, due),
        ).fetchall()
    else:
        found = tx.sql.execute(_SCHEDULES + "ORDER BY id", (queue.key,)).fetchall()
    first_ms = tx.sql.execute(
        "SELECT min(next_ms) FROM schedules WHERE queue = ? AND next_ms > 0", (queue.key,)
    ).fetchone()[0]
    next_ms = 0 if first_ms is None else max(first_ms, tx.now_ms)
    return Schedules(tx.now_ms, next_ms, [StoredSchedule(*row) for row in found])


def put_schedule(
    tx: Transaction, name: str, schedule: StoredSchedule, jobs: Sequence[NewJob]
) -> bool:
    queue = make_queue(tx, name)
    found = tx.sql.execute(
        "SELECT version, token FROM schedules WHERE queue = ? AND id = ?", (queue.key, schedule.id)
    ).fetchone()
    version, token = (0, "") if found is None else found
    if version == schedule.version and token == schedule.token:
        return True
    if version != schedule.version - 1:
        return False
    tx.sql.execute(
        "INSERT OR REPLACE INTO schedules "
        "(id, record, version, token, next_ms, last_ms, last_id, queue) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (*schedule, queue.key),
    )
    if jobs:
        enqueue_flowing(tx, queue, jobs, Admission(tx, queue, always=True))
    return True


def delete_schedule(tx: Transaction, name: str, id: str) -> bool:
    queue = find_queue(tx, name)
    return queue is not None and bool(
        tx.sql.execute("DELETE FROM schedules WHERE queue = ? AND id = ?", (queue.key, id)).rowcount
    )
