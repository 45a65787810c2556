"""Notices what any process wrote, for claims and subscriptions that wait for it."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from typing import Final, TypeVar

from jobqueue.storage.forking import Handle
from jobqueue.storage.sqlite.connection import Transaction
from jobqueue.storage.sqlite.leasing import next_due
from jobqueue.storage.sqlite.outbox import decode, newest_message
from jobqueue.storage.sqlite.rows import find_queue
from jobqueue.storage.sqlite.schema import connect
from jobqueue.storage.types import Message, Sink

_T = TypeVar("_T")
_log: Final = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.005
"""Between two looks while somebody waits. Costs about 80 microseconds, mostly of waking up."""
_BUSY_LOOK_SECONDS: Final = 0.002
"""The same while there was a commit in the last :data:`_BUSY_SECONDS`: more will follow."""
_BUSY_SECONDS: Final = 1.0
_FAILED_SECONDS: Final = 0.2


class Waiter:
    """A claim that waits. Its event is only touched on the loop."""

    def __init__(self, queue: str, worker: str) -> None:
        self.queue = queue
        self.worker = worker
        self.unblocked = False
        self.event = asyncio.Event()

    def unblock(self) -> None:
        self.unblocked = True
        self.event.set()


class Listener:
    """A sink on a topic. ``seen``, how far it has read, is the watcher's once it has been added."""

    def __init__(self, queue: str, topic: str, sink: Sink) -> None:
        self.queue = queue
        self.topic = topic
        self.seen = 0
        self.closed = False
        self._sink = sink

    def deliver(self, messages: Sequence[Message] | None) -> None:
        if not self.closed:
            self._sink(messages)


class Watcher:
    """A daemon thread with a reading connection of its own; it sleeps while nobody waits.

    SQLite tells nobody of a commit, but ``PRAGMA data_version`` says for next to nothing whether
    there was one. What waits is looked up here, so that a commit that concerns nobody costs the
    event loop nothing, and a claim takes the write lock only when there is something to take.
    """

    def __init__(self, path: str, clock: Callable[[], int]) -> None:
        self._path = path
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._waiters: set[Waiter] = set()
        self._listeners: set[Listener] = set()
        self._look_at_once = threading.Event()
        self._joined_since = False
        self._stopping = False
        self._thread: threading.Thread | None = None
        # Of one connection. -1 differs from all: the next look takes everything for changed.
        self._version = -1
        self._due: dict[str, int | None] = {}
        self._handle = Handle(self._open)
        self._sql: sqlite3.Connection

    async def wait(self, waiter: Waiter, seconds: float) -> None:
        """Return when there is something to claim, when the waiter is unblocked, or in time."""
        self._join(self._waiters, waiter)
        try:
            async with asyncio.timeout(seconds):
                await waiter.event.wait()
        except TimeoutError:
            return
        finally:
            with self._lock:
                self._waiters.discard(waiter)
        waiter.event.clear()

    def add(self, listener: Listener) -> None:
        """Start to deliver what is younger than ``listener.seen``."""
        self._join(self._listeners, listener)

    def discard(self, listener: Listener) -> None:
        with self._lock:
            self._listeners.discard(listener)

    def poke(self) -> None:
        """Look now rather than soon. From any thread."""
        if self._waiters or self._listeners:
            self._look_at_once.set()

    def stop(self) -> None:
        """End the thread and wait until it has. Not from the event loop."""
        self._stopping = True
        self._look_at_once.set()
        if self._thread is not None:
            self._thread.join()

    def _join(self, group: set[_T], member: _T) -> None:
        with self._lock:
            group.add(member)
            self._joined_since = True
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="jobqueue-sqlite-watcher", daemon=True
            )
            self._thread.start()
        self._look_at_once.set()

    def _open(self) -> ExitStack:
        with ExitStack() as opened:
            self._sql = opened.enter_context(closing(connect(self._path)))
            self._version = -1
            return opened.pop_all()

    def _run(self) -> None:
        changed_at = time.monotonic()
        try:
            while not self._stopping:
                try:
                    with self._handle:
                        changed = self._look()
                    if changed:
                        changed_at = time.monotonic()
                    busy = time.monotonic() - changed_at < _BUSY_SECONDS
                    seconds = _BUSY_LOOK_SECONDS if busy else _LOOK_SECONDS
                except sqlite3.Error as error:
                    # The verbs will say it to their callers; here it is only a delay.
                    _log.warning("cannot watch %s: %s", self._path, error)
                    self._version = -1
                    seconds = _FAILED_SECONDS
                except RuntimeError:
                    # The loop was closed without closing the storage: nobody is left to be told.
                    return
                waiting = bool(self._waiters or self._listeners)
                self._look_at_once.wait(seconds if waiting else None)
                self._look_at_once.clear()
        finally:
            self._handle.close()

    def _look(self) -> bool:
        """Wake whom the file has something for; say whether there was a commit."""
        with self._lock:
            waiters, listeners = list(self._waiters), list(self._listeners)
            joined, self._joined_since = self._joined_since, False
        # The version first: a commit after it makes the next look find another one.
        version = self._sql.execute("PRAGMA data_version").fetchone()[0]
        changed = version != self._version
        self._version = version
        tx = Transaction(self._sql, self._clock())
        if changed:
            self._due.clear()
        for queue in {waiter.queue for waiter in waiters} - self._due.keys():
            self._due[queue] = next_due(tx, queue)
        for waiter in waiters:
            due_ms = self._due[waiter.queue]
            if due_ms is not None and due_ms <= tx.now_ms:
                self._wake(waiter)
        if (changed or joined) and listeners:
            self._read(tx, listeners)
        return changed

    def _wake(self, waiter: Waiter) -> None:
        with self._lock:
            self._waiters.discard(waiter)
        self._loop.call_soon_threadsafe(waiter.event.set)

    def _read(self, tx: Transaction, listeners: Sequence[Listener]) -> None:
        tx.sql.execute("BEGIN")
        try:
            newest = newest_message(tx)
            oldest = tx.sql.execute("SELECT min(seq) FROM messages").fetchone()[0] or newest + 1
            for listener in listeners:
                if listener.seen < newest:
                    self._deliver(tx, listener, oldest)
                    listener.seen = newest
        finally:
            tx.sql.execute("COMMIT")

    def _deliver(self, tx: Transaction, listener: Listener, oldest: int) -> None:
        # Numbers have no holes, so what lies before the oldest was deleted unread.
        if listener.seen + 1 < oldest:
            self._loop.call_soon_threadsafe(listener.deliver, None)
        queue = find_queue(tx, listener.queue)
        bodies = tx.sql.execute(
            "SELECT body FROM messages WHERE queue = ? AND topic = ? AND seq > ? ORDER BY seq",
            (0 if queue is None else queue.key, listener.topic, listener.seen),
        )
        messages: list[Message] = []
        for (body,) in bodies:
            try:
                messages += decode(listener.topic, body)
            except Exception as error:
                # That this thread goes on is what counts.
                _log.warning(
                    "a message on %r cannot be read; passed over: %s",
                    listener.topic,
                    type(error).__name__,
                )
        if messages:
            self._loop.call_soon_threadsafe(listener.deliver, messages)
