"""Keeps the mark by which the scripts know that somebody hears a queue's events."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from jobqueue.errors import StorageError
from jobqueue.ids import new_token
from jobqueue.storage.clock import Clock
from jobqueue.storage.redis.connections import Commands
from jobqueue.storage.redis.keys import QueueKeys
from jobqueue.storage.types import Subscription

_MARK_FOR_MS: Final = 30_000
_RENEW_EVERY: Final = 10.0


class EventListening:
    """A subscription to events: without a mark in ``listeners``, scripts publish none."""

    def __init__(
        self,
        commands: Commands,
        keys: QueueKeys,
        clock: Clock | None,
        subscription: Subscription,
    ) -> None:
        self._commands = commands
        self._keys = keys
        self._clock = clock
        self._subscription = subscription
        self._listener = new_token()
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls,
        commands: Commands,
        keys: QueueKeys,
        clock: Clock | None,
        subscription: Subscription,
    ) -> EventListening:
        """Set the mark and keep it."""
        self = cls(commands, keys, clock, subscription)
        await self._mark(_MARK_FOR_MS)
        self._task = asyncio.create_task(self._renew(), name="jobqueue-listening")
        return self

    async def _mark(self, for_ms: int) -> None:
        now = "" if self._clock is None else self._clock()
        await self._commands.call("listen", self._keys, [now, self._listener, for_ms])

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_EVERY)
            with contextlib.suppress(StorageError):  # the next round tries again
                await self._mark(_MARK_FOR_MS)

    async def close(self) -> None:
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        await self._subscription.close()
        with contextlib.suppress(StorageError):  # the mark ends by itself
            await self._mark(0)
