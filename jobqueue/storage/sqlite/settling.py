"""How a claimed job goes on: finish, and the end of any job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from jobqueue.outcome import Outcome
from jobqueue.states import TERMINAL, EventType, JobState
from jobqueue.storage.sqlite.connection import Transaction
from jobqueue.storage.sqlite.lanes import Lanes
from jobqueue.storage.sqlite.lines import Lines
from jobqueue.storage.sqlite.outbox import Outbox
from jobqueue.storage.sqlite.rows import JobRow, QueueRow, addresses, find_jobs, find_queue
from jobqueue.storage.types import MAX_BATCH, Settlement


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that reaches a terminal state."""

    row: JobRow
    state: JobState
    value: bytes
    ttl_ms: int


@dataclass(slots=True)
class _Settled:
    """What one call does to the table, gathered by kind."""

    ended: list[Ended] = field(default_factory=lambda: list[Ended]())
    given_back: list[tuple[JobRow, Outcome]] = field(
        default_factory=lambda: list[tuple[JobRow, Outcome]]()
    )


def finish(
    tx: Transaction, name: str, worker: str, settlements: Sequence[Settlement]
) -> list[bool]:
    queue = find_queue(tx, name)
    if queue is None:
        return [False] * len(settlements)
    rows = find_jobs(tx, queue, (settlement.id for settlement in settlements))
    outbox = Outbox(tx, queue)
    settled = _Settled()
    answers: list[bool] = []
    for id, fence, outcome in settlements:
        row = rows.get(id)
        if row is None or not row.held_under(fence):
            answers.append(row is not None and row.settled_fence == fence)
            continue
        answers.append(True)
        event = _settle(row, outcome, settled)
        outbox.event(event, id, row.name, row.attempt, worker)
    save_ended(tx, outbox, settled.ended)
    if queue.flowing:
        given_back = [row for row, _ in settled.given_back]
        _leave_lanes(tx, queue, [*(end.row for end in settled.ended), *given_back])
    _save_given_back(tx, queue, settled.given_back)
    outbox.send()
    return answers


def _settle(row: JobRow, outcome: Outcome, settled: _Settled) -> EventType:
    row.settled_fence = row.fence
    if outcome.refund:
        row.attempt -= 1
    state, event = outcome.state, outcome.event
    if outcome.state in TERMINAL:
        settled.ended.append(Ended(row, state, outcome.value, outcome.ttl_ms))
    elif row.cancel_value is not None:
        state, event = JobState.CANCELLED, EventType.CANCELLED
        settled.ended.append(Ended(row, state, row.cancel_value, row.ttl_ms))
    else:
        settled.given_back.append((row, outcome))
    # Should the same call settle it again, that is a repeat.
    row.state = state.value
    return event


def save_ended(tx: Transaction, outbox: Outbox, ended: Sequence[Ended]) -> None:
    """Write jobs that end, and tell whoever waits for them."""
    tx.sql.executemany(
        "UPDATE jobs SET state = ?, value = ?, finished_ms = ?, expires_ms = ?, attempt = ?, "
        "settled_fence = ?, due_ms = 0, leased_until_ms = 0, reply_to = NULL WHERE key = ?",
        [
            (
                end.state.value,
                end.value,
                tx.now_ms,
                tx.now_ms + end.ttl_ms,
                end.row.attempt,
                end.row.settled_fence,
                end.row.key,
            )
            for end in ended
        ],
    )
    for end in ended:
        if end.row.reply_to is not None:
            outbox.reply(addresses(end.row), end.row.id, end.state, end.value)


def end_waiting(tx: Transaction, queue: QueueRow, outbox: Outbox, ended: Sequence[Ended]) -> None:
    """Like :func:`save_ended`, for jobs that did not run."""
    save_ended(tx, outbox, ended)
    if queue.flowing:
        leave_lines(tx, queue, [end.row.key for end in ended])


def leave_lines(tx: Transaction, queue: QueueRow, keys: Sequence[int]) -> None:
    """What a flowing queue is to know of jobs that wait no longer, and will not start."""
    tx.sql.executemany(
        "UPDATE jobs SET start_by_ms = 0 WHERE key = ? AND start_by_ms > 0",
        [(key,) for key in keys],
    )
    lanes = Lanes(tx, queue)
    lanes.release(keys)
    if lanes.let_go(Lines(tx, queue), MAX_BATCH):
        queue.save(tx)


def _leave_lanes(tx: Transaction, queue: QueueRow, rows: Sequence[JobRow]) -> None:
    lanes = Lanes(tx, queue)
    lanes.stop(rows)
    if lanes.let_go(Lines(tx, queue), MAX_BATCH):
        queue.save(tx)


def _save_given_back(
    tx: Transaction, queue: QueueRow, given_back: Sequence[tuple[JobRow, Outcome]]
) -> None:
    if not given_back:
        return
    lines = Lines(tx, queue) if queue.flowing else None
    released = sum(outcome.state is JobState.QUEUED for _, outcome in given_back)
    heads = iter(queue.next_heads(released))
    changes: list[tuple[object, ...]] = []
    for row, outcome in given_back:
        line = 0
        if outcome.state is JobState.QUEUED:
            place, due_ms = next(heads), 0
            line = 0 if lines is None else lines.join(row.flow)
        else:
            place, due_ms = queue.next_place(), tx.now_ms + outcome.delay_ms
        change = (outcome.state.value, line, place, due_ms, outcome.value, row.attempt)
        changes.append((*change, row.settled_fence, row.key))
    tx.sql.executemany(
        "UPDATE jobs SET state = ?, line = ?, place = ?, due_ms = ?, value = ?, "
        "attempt = ?, settled_fence = ?, worker = '', leased_until_ms = 0 WHERE key = ?",
        changes,
    )
    queue.save(tx)
