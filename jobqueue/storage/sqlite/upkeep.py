"""Throwing away: jobs whose time is over, old messages, and the space that they took."""

from __future__ import annotations

from typing import Final

from jobqueue.storage.sqlite.connection import Transaction
from jobqueue.storage.sqlite.lanes import drop_idle_lanes
from jobqueue.storage.sqlite.outbox import KEEP_MS, drop_old_messages, machine_ms
from jobqueue.storage.sqlite.rows import find_queue

_FREE_PAGES: Final = 256
"""Unused pages that are kept: the next jobs will want them."""
_VACUUM_PAGES: Final = 1000
"""Pages given back in one transaction: some milliseconds, so that nobody waits long."""


def nothing_to_prune(tx: Transaction, name: str) -> int | None:
    queue = find_queue(tx, name)
    key = 0 if queue is None else queue.key
    now_ms = machine_ms()
    found = tx.sql.execute(
        "SELECT EXISTS (SELECT 1 FROM jobs WHERE queue = ? "
        "AND state IN ('completed', 'failed', 'cancelled') AND expires_ms <= ?) "
        "OR EXISTS (SELECT 1 FROM lanes WHERE queue = ? AND running = 0 AND forget_ms <= ? "
        "AND NOT EXISTS (SELECT 1 FROM held WHERE lane = lanes.key)) "
        "OR EXISTS (SELECT 1 FROM listeners WHERE until_ms <= ?) "
        "OR EXISTS (SELECT 1 FROM (SELECT at_ms FROM messages ORDER BY seq LIMIT 1) "
        "WHERE at_ms <= ?)",
        (key, tx.now_ms, key, tx.now_ms, now_ms, now_ms - KEEP_MS),
    ).fetchone()[0]
    return None if found else 0


def prune(tx: Transaction, name: str, limit: int) -> int:
    tx.sql.execute("DELETE FROM listeners WHERE until_ms <= ?", (machine_ms(),))
    drop_old_messages(tx)
    queue = find_queue(tx, name)
    if queue is None:
        return 0
    if queue.flowing:
        drop_idle_lanes(tx, queue, limit)
    return tx.sql.execute(
        "DELETE FROM jobs WHERE key IN (SELECT key FROM jobs WHERE queue = ? "
        "AND state IN ('completed', 'failed', 'cancelled') AND expires_ms <= ? "
        "ORDER BY expires_ms LIMIT ?)",
        (queue.key, tx.now_ms, limit),
    ).rowcount


def has_much_free_space(tx: Transaction) -> bool:
    """More than half of the file is unused. A busy queue's file is never that empty for long."""
    free = tx.sql.execute("PRAGMA freelist_count").fetchone()[0]
    return free > _FREE_PAGES and 2 * free > tx.sql.execute("PRAGMA page_count").fetchone()[0]


def pages_to_give_back(tx: Transaction) -> int:
    """How many unused pages to cut off the file next."""
    free = tx.sql.execute("PRAGMA freelist_count").fetchone()[0]
    return min(_VACUUM_PAGES, max(0, free - _FREE_PAGES))
