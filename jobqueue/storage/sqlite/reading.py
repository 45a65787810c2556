"""What is known about jobs: get, results, counts, and how long ended ones are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from jobqueue.states import TERMINAL, JobState, TtlResult
from jobqueue.storage.sqlite.connection import Transaction
from jobqueue.storage.sqlite.rows import (
    find_jobs,
    find_queue,
    remember,
    save_addresses,
    select_in,
    unpack_flow,
)
from jobqueue.storage.types import StoredJob, StoredResult

# Text of the statements rather than parameters, so that SQLite sees which partial index fits.
_ENDED: Final = "state IN ('completed', 'failed', 'cancelled')"
_COUNTS: Final = (
    "SELECT 'queued', count(*) FROM jobs WHERE queue = :queue AND state = 'queued'",
    "SELECT 'running', count(*) FROM jobs WHERE queue = :queue AND state = 'running'",
    "SELECT state, count(*) FROM jobs WHERE queue = :queue "
    "AND state IN ('scheduled', 'retrying') GROUP BY state",
    f"SELECT state, count(*) FROM jobs WHERE queue = :queue AND {_ENDED} AND expires_ms > :now "
    "GROUP BY state",
)


_JOBS: Final = (
    "SELECT id, name, spec, state, attempt, fence, enqueued_ms, due_ms, started_ms, "
    "finished_ms, expires_ms, ttl_ms, worker, cancel_value IS NOT NULL, value, flow "
    "FROM jobs JOIN specs ON job = key "
)


def get(tx: Transaction, name: str, ids: Sequence[str]) -> list[StoredJob | None]:
    queue = find_queue(tx, name)
    if queue is None:
        return [None] * len(ids)
    statement = _JOBS + "WHERE queue = ? AND id IN ({})"
    found: dict[str, StoredJob] = {}
    for row in select_in(tx, statement, (queue.key,), ids):
        job = _stored_job(row)
        if job.state not in TERMINAL or job.expires_ms > tx.now_ms:
            found[job.id] = job
    return [found.get(id) for id in ids]


def _stored_job(row: tuple[Any, ...]) -> StoredJob:
    return StoredJob(
        id=row[0],
        name=row[1],
        spec=row[2],
        state=JobState(row[3]),
        attempt=row[4],
        fence=row[5],
        enqueued_ms=row[6],
        due_ms=row[7],
        started_ms=row[8],
        finished_ms=row[9],
        expires_ms=row[10],
        ttl_ms=row[11],
        worker=row[12],
        cancel_requested=bool(row[13]),
        value=row[14],
        flow=unpack_flow(row[15]),
    )


def delayed(
    tx: Transaction, name: str, limit: int, after: tuple[int, str] | None
) -> list[StoredJob]:
    queue = find_queue(tx, name)
    if queue is None:
        return []
    found = tx.sql.execute(
        _JOBS + "WHERE queue = ? AND state IN ('scheduled', 'retrying') "
        "AND due_ms >= ? AND (due_ms, id) > (?, ?) ORDER BY due_ms, id LIMIT ?",
        (queue.key, 0 if after is None else after[0], *(after or (0, "")), limit),
    )
    return [_stored_job(row) for row in found]


def results(tx: Transaction, name: str, ids: Sequence[str]) -> list[StoredResult | None]:
    queue = find_queue(tx, name)
    if queue is None:
        return [None] * len(ids)
    statement = (
        f"SELECT id, state, expires_ms, CASE WHEN {_ENDED} THEN value END "
        "FROM jobs WHERE queue = ? AND id IN ({})"
    )
    found = {
        id: StoredResult(JobState(state), value)
        for id, state, expires_ms, value in select_in(tx, statement, (queue.key,), ids)
        if value is None or expires_ms > tx.now_ms
    }
    return [found.get(id) for id in ids]


def results_if_ended(
    tx: Transaction, name: str, ids: Sequence[str]
) -> list[StoredResult | None] | None:
    """The results, unless a job has not ended and so has an address to remember."""
    found = results(tx, name, ids)
    if any(result is not None and result.state not in TERMINAL for result in found):
        return None
    return found


def results_and_remember(
    tx: Transaction, name: str, ids: Sequence[str], reply_to: str
) -> list[StoredResult | None]:
    rows = find_jobs(tx, find_queue(tx, name), ids).values()
    save_addresses(tx, [row for row in rows if not row.has_ended and remember(row, reply_to)])
    return results(tx, name, ids)


def set_result_ttl(tx: Transaction, name: str, ids: Sequence[str], ttl_ms: int) -> list[TtlResult]:
    rows = find_jobs(tx, find_queue(tx, name), ids)
    tx.sql.executemany(
        "UPDATE jobs SET expires_ms = ? WHERE key = ?",
        [(tx.now_ms + ttl_ms, row.key) for row in rows.values() if row.has_ended],
    )
    answers: list[TtlResult] = []
    for id in ids:
        row = rows.get(id)
        if row is None:
            answers.append(TtlResult.NOT_FOUND)
        else:
            answers.append(TtlResult.UPDATED if row.has_ended else TtlResult.NOT_FINISHED)
    return answers


def counts(tx: Transaction, name: str) -> dict[JobState, int]:
    """Counts the entries of the partial indices; no row is read."""
    answer = dict.fromkeys(JobState, 0)
    queue = find_queue(tx, name)
    if queue is None:
        return answer
    for statement in _COUNTS:
        found = tx.sql.execute(statement, {"queue": queue.key, "now": tx.now_ms})
        answer.update((JobState(state), number) for state, number in found)
    return answer
