"""Limits: put in force, ended, and told."""

from __future__ import annotations

from collections import Counter

from jobqueue.flow import Limit, LimitInfo, LimitKind, LimitScope
from jobqueue.storage.sqlite.connection import Transaction
from jobqueue.storage.sqlite.lanes import Lanes, pack_limit, unpack_limit
from jobqueue.storage.sqlite.lines import Lines
from jobqueue.storage.sqlite.rows import QueueRow, find_queue, make_queue, unpack_flow, write_each
from jobqueue.storage.types import MAX_BATCH


def set_limit(tx: Transaction, name: str, scope: LimitScope, limit: Limit | None) -> None:
    """As the port says. A limit that is already in force keeps its starts: a repeat, or the next
    worker that declares it, changes nothing."""
    queue = make_queue(tx, name)
    if limit is not None:
        queue.flow(tx)
    here = (queue.key, scope.kind.value, scope.name)
    found = tx.sql.execute(
        "SELECT body FROM limits WHERE queue = ? AND kind = ? AND name = ?", here
    ).fetchone()
    was = None if found is None else unpack_limit(found[0])
    if limit is None:
        tx.sql.execute("DELETE FROM limits WHERE queue = ? AND kind = ? AND name = ?", here)
    else:
        tx.sql.execute(
            "INSERT OR REPLACE INTO limits (queue, kind, name, body) VALUES (?, ?, ?, ?)",
            (*here, pack_limit(limit)),
        )
    if _what_holds(was) == _what_holds(limit):
        return
    tx.sql.execute(
        "DELETE FROM lanes WHERE queue = ? AND kind = ? AND name = ? "
        "AND NOT EXISTS (SELECT 1 FROM held WHERE lane = key)",
        here,
    )
    tx.sql.execute(
        "UPDATE lanes SET running = 0, starts = NULL, forget_ms = 0, wake_ms = ? "
        "WHERE queue = ? AND kind = ? AND name = ?",
        (tx.now_ms, *here),
    )
    if limit is not None:
        _count_running(tx, queue, scope)
    lanes = Lanes(tx, queue)
    lanes.wake()
    lanes.let_go(Lines(tx, queue), MAX_BATCH)
    queue.save(tx)


def _what_holds(limit: Limit | None) -> Limit | None:
    return None if limit is None else limit._replace(pinned=False)


def _count_running(tx: Transaction, queue: QueueRow, scope: LimitScope) -> None:
    running = tx.sql.execute(
        "SELECT name, flow FROM jobs WHERE queue = ? AND state = 'running'", (queue.key,)
    )
    texts: Counter[str] = Counter()
    for name, packed in running:
        flow = unpack_flow(packed)
        if scope.kind is LimitKind.QUEUE or (scope.kind is LimitKind.TYPE and name == scope.name):
            texts[""] += 1
        elif scope.kind is LimitKind.KEY and flow is not None and flow.limit == scope.name:
            texts[flow.key] += 1
    write_each(
        tx,
        "INSERT INTO lanes (queue, kind, name, text, running) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (queue, kind, name, text) DO UPDATE SET running = excluded.running",
        [(queue.key, scope.kind.value, scope.name, text, n) for text, n in texts.items()],
    )


def limits(tx: Transaction, name: str) -> list[LimitInfo]:
    queue = find_queue(tx, name)
    if queue is None:
        return []
    found = tx.sql.execute(
        "SELECT kind, name, body, "
        "(SELECT coalesce(sum(running), 0) FROM lanes WHERE lanes.queue = limits.queue "
        "AND lanes.kind = limits.kind AND lanes.name = limits.name), "
        "(SELECT count(*) FROM lanes JOIN held ON lane = lanes.key WHERE back = 0 "
        "AND lanes.queue = limits.queue AND lanes.kind = limits.kind AND lanes.name = limits.name) "
        "FROM limits WHERE queue = ?",
        (queue.key,),
    )
    answer = [
        LimitInfo(LimitScope(LimitKind(kind), scope), unpack_limit(body), running, held)
        for kind, scope, body, running, held in found
    ]
    order = list(LimitKind)
    return sorted(answer, key=lambda info: (order.index(info.scope.kind), info.scope.name))
