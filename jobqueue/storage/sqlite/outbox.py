"""What a transaction publishes: gathered while it runs, written into it once."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

from jobqueue.packing import pack, unpack
from jobqueue.states import EventType, JobState
from jobqueue.storage.messages import cancel_requested, reply, storage_event
from jobqueue.storage.sqlite.connection import Transaction
from jobqueue.storage.sqlite.rows import QueueRow
from jobqueue.storage.types import CONTROL, EVENTS, INLINE_BYTES, Message, replies

KEEP_MS: Final = 10_000
"""How long a message waits for its readers, who look every few milliseconds."""
_BODY_BYTES: Final = 256 * 1024
_TIDY_EVERY: Final = 256
"""Each so many messages, the writer deletes old ones."""


def machine_ms() -> int:
    """The machine's time. Readers and writers of messages share a machine, and a clock that is
    injected for the jobs' sake must not make a listener look dead."""
    return time.time_ns() // 1_000_000


class Outbox:
    """The messages of one transaction, one row for each topic (more when it grows large)."""

    def __init__(self, tx: Transaction, queue: QueueRow) -> None:
        self._tx = tx
        self._queue = queue.key
        self._bodies: defaultdict[str, list[list[Any]]] = defaultdict(list)
        self._sizes: defaultdict[str, int] = defaultdict(int)
        # Events are many and mostly nobody listens: asked once, before any is written.
        self._events = (
            tx.sql.execute(
                "SELECT 1 FROM listeners WHERE queue = ? AND until_ms > ? LIMIT 1",
                (self._queue, machine_ms()),
            ).fetchone()
            is not None
        )

    def event(self, type: EventType, id: str, name: str, attempt: int, worker: str) -> None:
        if self._events:
            self._bodies[EVENTS].append([type.value, id, name, self._tx.now_ms, attempt, worker])

    def reply(self, addresses: Iterable[str], id: str, state: JobState, value: bytes) -> None:
        inline = value if len(value) <= INLINE_BYTES else None
        for address in addresses:
            topic = replies(address)
            self._bodies[topic].append([id, state.value, inline])
            self._sizes[topic] += len(inline or b"")
            if self._sizes[topic] > _BODY_BYTES:
                self._send(topic)

    def cancel_requested(self, id: str) -> None:
        self._bodies[CONTROL].append([id])

    def send(self) -> None:
        for topic in list(self._bodies):
            self._send(topic)

    def _send(self, topic: str) -> None:
        self._sizes.pop(topic, None)
        number = self._tx.sql.execute(
            "INSERT INTO messages (queue, topic, at_ms, body) VALUES (?, ?, ?, ?)",
            (self._queue, topic, machine_ms(), pack(self._bodies.pop(topic))),
        ).lastrowid
        if number is not None and number % _TIDY_EVERY == 0:
            drop_old_messages(self._tx)


def drop_old_messages(tx: Transaction) -> None:
    """Delete what every reader has had time for. Stops at the first message that is young."""
    before_ms = machine_ms() - KEEP_MS
    young = tx.sql.execute(
        "SELECT seq FROM messages WHERE at_ms > ? ORDER BY seq LIMIT 1", (before_ms,)
    ).fetchone()
    if young is None:
        tx.sql.execute("DELETE FROM messages")
    else:
        tx.sql.execute("DELETE FROM messages WHERE seq < ?", young)


def newest_message(tx: Transaction) -> int:
    """The number of the last message that was ever written."""
    found = tx.sql.execute("SELECT seq FROM sqlite_sequence WHERE name = 'messages'").fetchone()
    return 0 if found is None else found[0]


def decode(topic: str, body: bytes) -> list[Message]:
    """The messages of one row.

    Raises:
        Exception: Of any kind; nobody of ours has written it.
    """
    fields: list[list[Any]] = unpack(body)
    if topic == EVENTS:
        return [storage_event(*event) for event in fields]
    if topic == CONTROL:
        return [cancel_requested(*only) for only in fields]
    return [reply(*each) for each in fields]
