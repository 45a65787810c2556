"""The worker's side: claim, heartbeat, recover, promote, leave."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any, Final

from jobqueue.packing import pack, unpack
from jobqueue.states import EventType
from jobqueue.storage.sqlite.connection import Transaction
from jobqueue.storage.sqlite.flowing import (
    expire,
    expire_all,
    has_come,
    next_change_ms,
    next_claim_ms,
    read_standing,
    take,
    wake_lanes,
)
from jobqueue.storage.sqlite.lines import Lines
from jobqueue.storage.sqlite.outbox import Outbox
from jobqueue.storage.sqlite.rows import (
    CLAIMED,
    QueueRow,
    find_jobs,
    find_queue,
    make_queue,
    select_in,
    unpack_flow,
)
from jobqueue.storage.types import (
    MAX_BATCH,
    MAX_CLAIM_BYTES,
    Claim,
    ClaimRequest,
    HeartbeatAnswer,
    Held,
)

_CLAIM: Final = f"SELECT {CLAIMED} FROM jobs JOIN specs ON job = key "


def next_due(tx: Transaction, name: str) -> int | None:
    """When there will be something to claim: 0 for now, ``None`` when nothing waits."""
    queue = find_queue(tx, name)
    if queue is None:
        return None
    return _next_due(tx, queue)


def _next_due(tx: Transaction, queue: QueueRow) -> int | None:
    if queue.flowing:
        claim_ms = next_claim_ms(tx, queue)
        if claim_ms == 0:
            return 0
        moments = (claim_ms, _first_due(tx, queue))
        return min((ms for ms in moments if ms is not None), default=None)
    ready = tx.sql.execute(
        "SELECT 1 FROM jobs WHERE queue = ? AND state = 'queued' LIMIT 1", (queue.key,)
    ).fetchone()
    return 0 if ready else _first_due(tx, queue)


def _first_due(tx: Transaction, queue: QueueRow) -> int | None:
    return tx.sql.execute(
        "SELECT min(due_ms) FROM jobs WHERE queue = ? AND state IN ('scheduled', 'retrying')",
        (queue.key,),
    ).fetchone()[0]


def claim_without_writing(
    tx: Transaction, name: str, request: ClaimRequest, *, sign_of_life: bool
) -> list[Claim] | None:
    """The answer to a claim, when a look is enough: a replay, or nothing there.

    Args:
        tx: The transaction.
        name: The queue.
        request: As for :func:`claim`.
        sign_of_life: Also leave it to :func:`claim` when the worker's last sign of life is older
            than half a lease.
    """
    queue = find_queue(tx, name)
    if queue is None:
        return None if sign_of_life else []
    replay = _replay(tx, queue, request.worker, request.token)
    if replay is not None:
        return replay
    due_ms = _next_due(tx, queue)
    if due_ms is not None and due_ms <= tx.now_ms:
        return None
    return None if sign_of_life and not _seems_alive(tx, queue, request) else []


def claim(tx: Transaction, name: str, request: ClaimRequest) -> list[Claim]:
    queue = make_queue(tx, name)
    replay = _replay(tx, queue, request.worker, request.token)
    if replay is not None:
        return replay
    found: list[tuple[Any, ...]]
    if queue.flowing:
        found = _take(tx, queue, request.count)
    else:
        _promote_due(tx, queue, MAX_BATCH)
        found = _within_bytes(
            tx,
            _CLAIM + "WHERE queue = ? AND state = 'queued' AND line = 0 ORDER BY place LIMIT ?",
            (queue.key, request.count),
        )
    if not found:
        if queue.flowing:
            queue.save(tx)
        _sign_of_life(tx, queue, request.worker, request.lease_ms)
        return []
    keys = [row[0] for row in found]
    claims = [_claim_of(row, queue.next_fence(), row[5] + 1, request.worker) for row in found]
    until_ms = tx.now_ms + request.lease_ms
    tx.sql.executemany(
        "UPDATE jobs SET state = 'running', fence = ?, attempt = ?, worker = ?, "
        "leased_until_ms = ?, started_ms = ? WHERE key = ?",
        [
            (claim.fence, claim.attempt, claim.worker, until_ms, tx.now_ms, key)
            for claim, key in zip(claims, keys, strict=True)
        ],
    )
    note = pack([claims[0].fence, keys])
    _note_claim(tx, queue, request.worker, request.lease_ms, request.token, note)
    queue.save(tx)
    outbox = Outbox(tx, queue)
    for claim in claims:
        outbox.event(EventType.STARTED, claim.id, claim.name, claim.attempt, claim.worker)
    outbox.send()
    return claims


def _take(tx: Transaction, queue: QueueRow, count: int) -> list[tuple[Any, ...]]:
    """Rows of jobs that are to start, in a flowing queue; its row is to be saved."""
    standing = read_standing(tx, queue)
    if has_come(tx, standing.first_expiry_ms):
        expire_all(tx, queue)
    _promote_due(tx, queue, MAX_BATCH)
    jobs = take(tx, queue, standing, count)
    large = [job.key for job in jobs if job.row[3] is None]
    specs = dict(select_in(tx, "SELECT job, spec FROM specs WHERE job IN ({})", (), large))
    return [
        (*job.row[:3], specs[job.key], *job.row[4:]) if job.key in specs else job.row
        for job in jobs
    ]


def _within_bytes(
    tx: Transaction, statement: str, parameters: tuple[int, ...]
) -> list[tuple[Any, ...]]:
    """Rows with a spec, up to :data:`MAX_CLAIM_BYTES` of them but at least one."""
    taken: list[tuple[Any, ...]] = []
    size = 0
    cursor = tx.sql.execute(statement, parameters)
    for row in cursor:
        size += len(row[3])
        if taken and size > MAX_CLAIM_BYTES:
            break
        taken.append(row)
    cursor.close()
    return taken


def _replay(tx: Transaction, queue: QueueRow, worker: str, token: str) -> list[Claim] | None:
    """What is still held of a name's last claim or recovery, if that is its token."""
    last = tx.sql.execute(
        "SELECT taken FROM workers WHERE queue = ? AND worker = ? AND token = ?",
        (queue.key, worker, token),
    ).fetchone()
    if last is None or not last[0]:
        return None
    first_fence, keys, *recovered = unpack(last[0])
    names: list[str] = recovered[0] if recovered else [worker] * len(keys)
    statement = _CLAIM + "WHERE state = 'running' AND queue = ? AND key IN ({})"
    rows = {row[0]: row for row in select_in(tx, statement, (queue.key,), keys)}
    claims = [
        _claim_of(row, row[4], row[5], name)
        for fence, key, name in zip(count(first_fence), keys, names, strict=False)
        if (row := rows.get(key)) is not None and row[4] == fence
    ]
    return claims if recovered else [claim._replace(cancel_requested=False) for claim in claims]


def _claim_of(row: Sequence[Any], fence: int, attempt: int, worker: str) -> Claim:
    _, id, name, spec, _, _, enqueued_ms, ttl_ms, cancel_requested, _, flow = row
    if flow is not None and unpack_flow(flow) is None:
        spec = b""
    return Claim(
        id=id,
        name=name,
        spec=spec,
        fence=fence,
        attempt=attempt,
        enqueued_ms=enqueued_ms,
        ttl_ms=ttl_ms,
        cancel_requested=bool(cancel_requested),
        worker=worker,
    )


def _note_claim(
    tx: Transaction, queue: QueueRow, worker: str, lease_ms: int, token: str, taken: bytes
) -> None:
    tx.sql.execute(
        "INSERT OR REPLACE INTO workers (queue, worker, alive_until_ms, token, taken) "
        "VALUES (?, ?, ?, ?, ?)",
        (queue.key, worker, tx.now_ms + lease_ms, token, taken),
    )


def _sign_of_life(tx: Transaction, queue: QueueRow, worker: str, lease_ms: int) -> None:
    tx.sql.execute(
        "INSERT INTO workers (queue, worker, alive_until_ms) VALUES (?, ?, ?) "
        "ON CONFLICT (queue, worker) DO UPDATE SET alive_until_ms = excluded.alive_until_ms",
        (queue.key, worker, tx.now_ms + lease_ms),
    )


def _seems_alive(tx: Transaction, queue: QueueRow, request: ClaimRequest) -> bool:
    return (
        tx.sql.execute(
            "SELECT 1 FROM workers WHERE queue = ? AND worker = ? AND alive_until_ms > ?",
            (queue.key, request.worker, tx.now_ms + request.lease_ms // 2),
        ).fetchone()
        is not None
    )


def heartbeat(
    tx: Transaction, name: str, worker: str, held: Sequence[Held], lease_ms: int
) -> HeartbeatAnswer:
    queue = make_queue(tx, name)
    _sign_of_life(tx, queue, worker, lease_ms)
    rows = find_jobs(tx, queue, (lease.id for lease in held))
    answer = HeartbeatAnswer([], [])
    kept: list[tuple[int, int]] = []
    for id, fence in held:
        row = rows.get(id)
        if row is None or not row.held_under(fence):
            answer.lost.append(id)
            continue
        kept.append((tx.now_ms + lease_ms, row.key))
        if row.cancel_value is not None:
            answer.cancel_requested.append(id)
    tx.sql.executemany(
        "UPDATE jobs SET leased_until_ms = max(leased_until_ms, ?) WHERE key = ?", kept
    )
    return answer


def recover_without_writing(
    tx: Transaction, name: str, reaper: str, token: str
) -> list[Claim] | None:
    """The answer to a recovery, when a look is enough: a replay, or nothing to recover."""
    queue = find_queue(tx, name)
    if queue is None:
        return []
    replay = _replay(tx, queue, reaper, token)
    if replay is not None:
        return replay
    found = tx.sql.execute(
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM jobs "
        "WHERE queue = :queue AND state = 'running' AND leased_until_ms <= :now) OR EXISTS "
        "(SELECT 1 FROM workers WHERE queue = :queue AND alive_until_ms <= :now)",
        {"queue": queue.key, "now": tx.now_ms},
    ).fetchone()
    return None if found else []


def recover(
    tx: Transaction, name: str, reaper: str, limit: int, lease_ms: int, token: str
) -> list[Claim]:
    """As the port says. A claim is one transaction here, so a dead worker leaves nothing behind
    that was handed to it but not leased: forgetting it is enough."""
    queue = make_queue(tx, name)
    replay = _replay(tx, queue, reaper, token)
    if replay is not None:
        return replay
    tx.sql.execute(
        "DELETE FROM workers WHERE queue = ? AND alive_until_ms <= ?", (queue.key, tx.now_ms)
    )
    found = _within_bytes(
        tx,
        _CLAIM + "WHERE queue = ? AND state = 'running' AND leased_until_ms <= ? "
        "ORDER BY leased_until_ms, fence LIMIT ?",
        (queue.key, tx.now_ms, limit),
    )
    outbox = Outbox(tx, queue)
    claims: list[Claim] = []
    changes: list[tuple[object, ...]] = []
    for row in found:
        key, attempt, lost_by = row[0], row[5], row[9]
        claim = _claim_of(row, queue.next_fence(), attempt, lost_by)
        claims.append(claim)
        changes.append((claim.fence, reaper, tx.now_ms + lease_ms, key))
        outbox.event(EventType.STALLED, claim.id, claim.name, attempt, lost_by)
    tx.sql.executemany(
        "UPDATE jobs SET fence = ?, worker = ?, leased_until_ms = ? WHERE key = ?", changes
    )
    if claims:
        # With the names of those who lost the jobs, which is part of the answer.
        taken = pack([claims[0].fence, [row[0] for row in found], [row[9] for row in found]])
        _note_claim(tx, queue, reaper, lease_ms, token, taken)
    queue.save(tx)
    outbox.send()
    return claims


def promote_without_writing(tx: Transaction, name: str) -> tuple[int | None] | None:
    """The answer to a promote when nothing is due, in a tuple of its own: it may be ``None``."""
    queue = find_queue(tx, name)
    next_ms = None if queue is None else _next_change(tx, queue)
    if next_ms is not None and next_ms <= tx.now_ms:
        return None
    return (None if next_ms is None else next_ms - tx.now_ms,)


def promote(tx: Transaction, name: str, limit: int) -> tuple[int | None]:
    queue = make_queue(tx, name)
    if queue.flowing:
        expire(tx, queue, limit)
        wake_lanes(tx, queue)
    _promote_due(tx, queue, limit)
    queue.save(tx)
    next_ms = _next_change(tx, queue)
    return (None if next_ms is None else max(0, next_ms - tx.now_ms),)


def _next_change(tx: Transaction, queue: QueueRow) -> int | None:
    due_ms = _first_due(tx, queue)
    change_ms = next_change_ms(tx, queue) if queue.flowing else None
    return min((ms for ms in (due_ms, change_ms) if ms is not None), default=None)


def _promote_due(tx: Transaction, queue: QueueRow, limit: int) -> None:
    due = tx.sql.execute(
        "SELECT key, flow FROM jobs WHERE queue = ? AND state IN ('scheduled', 'retrying') "
        "AND due_ms <= ? ORDER BY due_ms, place LIMIT ?",
        (queue.key, tx.now_ms, limit),
    ).fetchall()
    if due:
        Lines(tx, queue).to_tail(due)


def leave(tx: Transaction, name: str, worker: str) -> None:
    queue = find_queue(tx, name)
    if queue is not None:
        tx.sql.execute("DELETE FROM workers WHERE queue = ? AND worker = ?", (queue.key, worker))
