"""The producer's side: enqueue and cancel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from jobqueue.states import CancelResult, EnqueueStatus, EventType, JobState
from jobqueue.storage.sqlite.admitting import Admission, answer_known, save_uniques
from jobqueue.storage.sqlite.connection import Transaction
from jobqueue.storage.sqlite.lines import Lines
from jobqueue.storage.sqlite.outbox import Outbox
from jobqueue.storage.sqlite.rows import (
    JobRow,
    QueueRow,
    find_jobs,
    find_queue,
    make_queue,
    pack_flow,
    remember,
    save_addresses,
    stored_jobs,
)
from jobqueue.storage.sqlite.settling import Ended, end_waiting
from jobqueue.storage.types import Enqueued, NewJob

_COLUMNS: Final = (
    "key, queue, id, name, state, place, due_ms, enqueued_ms, ttl_ms, request, cancel_request, "
    "reply_to"
)
_INSERT: Final = f"INSERT INTO jobs ({_COLUMNS}) VALUES ({', '.join('?' * 12)})"
_INSERT_FLOWING: Final = (
    f"INSERT INTO jobs ({_COLUMNS}, line, start_by_ms, flow) VALUES ({', '.join('?' * 15)})"
)


@dataclass(slots=True)
class _Fresh:
    """A job that is about to be stored. Its key is given when it is."""

    row: JobRow
    job: NewJob
    due_ms: int


def enqueue(tx: Transaction, name: str, jobs: Sequence[NewJob]) -> list[Enqueued]:
    queue = make_queue(tx, name)
    if queue.flowing or any(job.flow is not None for job in jobs):
        return enqueue_flowing(tx, queue, jobs, Admission(tx, queue))
    return _enqueue(tx, queue, jobs, None)


def enqueue_flowing(
    tx: Transaction, queue: QueueRow, jobs: Sequence[NewJob], admission: Admission
) -> list[Enqueued]:
    """Enqueue jobs that say when they may start, or in a queue that does."""
    if any(job.flow is not None for job in jobs):
        queue.flow(tx)
    if any(job.flow is not None and job.flow.unique is not None for job in jobs):
        # Each must find those before it.
        return [answer for job in jobs for answer in _enqueue(tx, queue, [job], admission)]
    return _enqueue(tx, queue, jobs, admission)


def _enqueue(
    tx: Transaction, queue: QueueRow, jobs: Sequence[NewJob], admission: Admission | None
) -> list[Enqueued]:
    rows = stored_jobs(tx, queue, (job.id for job in jobs))
    fresh: list[_Fresh] = []
    gone: list[JobRow] = []
    told: list[JobRow] = []
    answers: list[Enqueued] = []
    for job in jobs:
        row = rows.get(job.id)
        if row is None or _gives_way(row, job, tx.now_ms):
            other = None if admission is None else admission.answer(job)
            if other is not None:
                answers.append(other)
                continue
            if row is not None:
                gone.append(row)
            new = _new(job, tx.now_ms)
            if row is not None and not row.is_over(tx.now_ms):
                # The cancel of the last one may come once more; it is not this job's.
                new.row.cancel_request = row.cancel_request
            fresh.append(new)
            row = rows[job.id] = new.row
            answers.append(Enqueued(EnqueueStatus.QUEUED, JobState(row.state), None))
            continue
        answers.append(_known(tx, row, job))
        waits = answers[-1].status is EnqueueStatus.DUPLICATE and not row.has_ended
        # An earlier job of this call has no key yet; its address is stored along with it.
        if waits and remember(row, job.reply_to) and row.key:
            told.append(row)
    tx.sql.executemany("DELETE FROM jobs WHERE key = ?", [(row.key,) for row in gone])
    save_addresses(tx, told)
    if fresh:
        _store(tx, queue, fresh)
    return answers


def _gives_way(row: JobRow, job: NewJob, now_ms: int) -> bool:
    cancelled = row.state == JobState.CANCELLED
    return row.is_over(now_ms) or (cancelled and row.request != job.request)


def _known(tx: Transaction, row: JobRow, job: NewJob) -> Enqueued:
    state = JobState(row.state)
    if row.request == job.request:
        return Enqueued(EnqueueStatus.QUEUED, state, None)
    return answer_known(tx, row)


def _new(job: NewJob, now_ms: int) -> _Fresh:
    due_ms = job.due_ms or now_ms + job.delay_ms
    state = JobState.SCHEDULED if due_ms > now_ms else JobState.QUEUED
    row = JobRow(
        key=0,
        id=job.id,
        name=job.name,
        state=state.value,
        fence=0,
        settled_fence=0,
        attempt=0,
        ttl_ms=job.ttl_ms,
        expires_ms=0,
        request=job.request,
        reply_to=None,
        cancel_value=None,
        cancel_request="",
        flow=None if job.flow is None else pack_flow(job.flow),
    )
    remember(row, job.reply_to)
    return _Fresh(row, job, due_ms if state is JobState.SCHEDULED else 0)


def _store(tx: Transaction, queue: QueueRow, fresh: Sequence[_Fresh]) -> None:
    last_key = tx.sql.execute("SELECT coalesce(max(key), 0) FROM jobs").fetchone()[0]
    outbox = Outbox(tx, queue)
    for key, new in enumerate(fresh, last_key + 1):
        new.row.key = key
        outbox.event(EventType.ENQUEUED, new.row.id, new.row.name, 0, "")
    rows: list[tuple[object, ...]] = [
        (
            row.key,
            queue.key,
            row.id,
            row.name,
            row.state,
            queue.next_place(),
            due_ms,
            tx.now_ms,
            row.ttl_ms,
            row.request,
            row.cancel_request,
            row.reply_to,
        )
        for row, due_ms in ((new.row, new.due_ms) for new in fresh)
    ]
    if queue.flowing:
        save_uniques(tx, queue, [(new.job, new.row.key) for new in fresh])
        flows = _flows(tx, queue, fresh)
        rows = [(*row, *flow) for row, flow in zip(rows, flows, strict=True)]
    tx.sql.executemany(_INSERT_FLOWING if queue.flowing else _INSERT, rows)
    tx.sql.executemany(
        "INSERT INTO specs (job, spec) VALUES (?, ?)",
        [(new.row.key, new.job.spec) for new in fresh],
    )
    queue.save(tx)
    outbox.send()


def _flows(
    tx: Transaction, queue: QueueRow, fresh: Sequence[_Fresh]
) -> list[tuple[int, int, bytes | None]]:
    """For each job: its line, when it expires, and what it says about when it may start."""
    lines = Lines(tx, queue)
    found: list[tuple[int, int, bytes | None]] = []
    for new in fresh:
        line = 0 if new.due_ms else lines.join(new.row.flow)
        expires_ms = 0 if new.job.flow is None else new.job.flow.expires_ms
        found.append((line, tx.now_ms + expires_ms if expires_ms else 0, new.row.flow))
    return found


def cancel(
    tx: Transaction, name: str, ids: Sequence[str], ttl_ms: int, value: bytes, request: str
) -> list[CancelResult]:
    queue = find_queue(tx, name)
    if queue is None:
        return [CancelResult.NOT_FOUND] * len(ids)
    rows = find_jobs(tx, queue, ids)
    outbox = Outbox(tx, queue)
    ended: list[Ended] = []
    requested: list[JobRow] = []
    answers: list[CancelResult] = []
    for id in ids:
        row = rows.get(id)
        if row is None:
            answers.append(CancelResult.NOT_FOUND)
        elif row.cancel_request == request:
            was_running = row.cancel_value is not None
            answers.append(CancelResult.RUNNING if was_running else CancelResult.CANCELLED)
        elif row.has_ended:
            answers.append(CancelResult.FINISHED)
        elif row.state == JobState.RUNNING:
            answers.append(CancelResult.RUNNING)
            if row.cancel_value is None:
                row.cancel_value, row.cancel_request = value, request
                row.ttl_ms = row.ttl_ms or ttl_ms
                requested.append(row)
            outbox.cancel_requested(id)
        else:
            answers.append(CancelResult.CANCELLED)
            row.state, row.cancel_request = JobState.CANCELLED.value, request
            row.ttl_ms = row.ttl_ms or ttl_ms
            ended.append(Ended(row, JobState.CANCELLED, value, row.ttl_ms))
            outbox.event(EventType.CANCELLED, id, row.name, row.attempt, "")
    tx.sql.executemany(
        "UPDATE jobs SET ttl_ms = ?, cancel_value = ?, cancel_request = ? WHERE key = ?",
        [
            (row.ttl_ms, row.cancel_value, row.cancel_request, row.key)
            for row in (*requested, *(end.row for end in ended))
        ],
    )
    end_waiting(tx, queue, outbox, ended)
    outbox.send()
    return answers
