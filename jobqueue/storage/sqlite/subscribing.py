"""What a subscription keeps in the file, and how it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from jobqueue.errors import StorageError
from jobqueue.ids import new_token
from jobqueue.storage.sqlite.connection import Connection, Transaction
from jobqueue.storage.sqlite.outbox import machine_ms, newest_message
from jobqueue.storage.sqlite.rows import find_queue, make_queue
from jobqueue.storage.sqlite.watcher import Listener, Watcher
from jobqueue.storage.types import EVENTS, replies

_log: Final = logging.getLogger(__name__)

LISTED_MS: Final = 15_000
"""How long a listener that gave no sign of life is still written events for."""
_REFRESH_SECONDS: Final = LISTED_MS / 3 / 1000
_REPLY_TOPICS: Final = replies("")


class SQLiteSubscription:
    """A sink on a topic of a queue. For events it stands in ``listeners``, and is kept there."""

    def __init__(
        self,
        connection: Connection,
        watcher: Watcher,
        listener: Listener,
        forget: Callable[[SQLiteSubscription], None],
    ) -> None:
        self._connection = connection
        self._watcher = watcher
        self._listener = listener
        self._address = new_token()
        self._forget = forget
        self._refreshing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """From here on, everything that is published is delivered."""
        listener = self._listener
        if listener.topic == EVENTS:
            await self._connection.write(self._enlist)
            self._refreshing = asyncio.create_task(self._refresh())
        else:
            listener.seen = await self._connection.read(newest_message)
        self._watcher.add(listener)

    async def close(self) -> None:
        if self._listener.closed:
            return
        self.detach()
        self._forget(self)
        await self._connection.write(self.erase)

    def detach(self) -> None:
        """Stop the deliveries at once. On the loop."""
        self._listener.closed = True
        self._watcher.discard(self._listener)
        if self._refreshing is not None:
            self._refreshing.cancel()

    def erase(self, tx: Transaction) -> None:
        """Leave nothing in the file."""
        queue = find_queue(tx, self._listener.queue)
        if queue is None:
            return
        if self._listener.topic == EVENTS:
            tx.sql.execute(
                "DELETE FROM listeners WHERE queue = ? AND address = ?", (queue.key, self._address)
            )
        elif self._listener.topic.startswith(_REPLY_TOPICS):
            tx.sql.execute(
                "DELETE FROM messages WHERE queue = ? AND topic = ?",
                (queue.key, self._listener.topic),
            )

    def _enlist(self, tx: Transaction) -> bool:
        """Stand in the list for some more time; say whether events may have been missed."""
        queue = make_queue(tx, self._listener.queue)
        until_ms = tx.sql.execute(
            "SELECT until_ms FROM listeners WHERE queue = ? AND address = ?",
            (queue.key, self._address),
        ).fetchone()
        tx.sql.execute(
            "INSERT OR REPLACE INTO listeners (queue, address, until_ms) VALUES (?, ?, ?)",
            (queue.key, self._address, machine_ms() + LISTED_MS),
        )
        if until_ms is None and self._refreshing is None:
            self._listener.seen = newest_message(tx)
        return until_ms is None or until_ms[0] <= machine_ms()

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            try:
                missed = await self._connection.write(self._enlist)
            except StorageError as error:
                _log.warning("an events subscription is not kept alive: %s", error)
                continue
            if missed:
                self._listener.deliver(None)
