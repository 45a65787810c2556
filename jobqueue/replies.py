"""Who waits for which job: one subscription a process, however many calls are waiting.

A message is a hint. The stored state is the truth: it is asked for after a reconnect, when a
message carries no value, and every second for whatever still waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from jobqueue.errors import JobNotFound, JobQueueError, StorageError, WaitTimeout
from jobqueue.ids import new_token
from jobqueue.states import TERMINAL
from jobqueue.storage.base import Storage
from jobqueue.storage.types import Message, Reply, StoredResult, Subscription, replies

logger = logging.getLogger("jobqueue")

RECHECK_EVERY: Final = 1.0
"""Seconds; the longest that a lost message can hold up a caller."""
_RECHECK_AT_ONCE: Final = 100


class Wait:
    """One caller that waits for one job, while in its context; see :meth:`Replies.waiting`.

    Attributes:
        id: The job.
        stored: The job is known to be stored, so that not finding it means that it is gone.
        since: By the loop's clock.
        ending: How the job has ended.
    """

    __slots__ = ("_replies", "ending", "id", "since", "stored")

    def __init__(self, replies: Replies, id: str) -> None:
        loop = asyncio.get_running_loop()
        self.id = id
        self.stored = False
        self.since = loop.time()
        self._replies = replies
        self.ending: asyncio.Future[StoredResult] = loop.create_future()

    def __enter__(self) -> Wait:
        self._replies.enter(self)
        return self

    def __exit__(self, *exc: object) -> None:
        self._replies.leave(self)
        if not self.ending.done():
            self.ending.cancel()
        elif not self.ending.cancelled():
            self.ending.exception()  # seen, even if the caller has left by another way

    async def within(self, seconds: float | None) -> StoredResult:
        """How the job has ended.

        Raises:
            WaitTimeout: It has not, within that many seconds.
            JobNotFound: It is gone.
            StorageError: The queue was closed.
        """
        if seconds is None:
            return await self.ending
        timer = self.ending.get_loop().call_later(seconds, self._time_is_over, seconds)
        try:
            return await self.ending
        finally:
            timer.cancel()

    def _time_is_over(self, seconds: float) -> None:
        self.fail(WaitTimeout(self.id, seconds))

    def end(self, ending: StoredResult) -> None:
        if not self.ending.done():
            self.ending.set_result(ending)

    def fail(self, error: Exception) -> None:
        if not self.ending.done():
            self.ending.set_exception(error)


class Replies:
    """The callers of this process that wait for jobs of one queue."""

    def __init__(self, storage: Storage, queue: str) -> None:
        self.address: Final = new_token()
        self._storage = storage
        self._queue = queue
        self._waits: dict[str, set[Wait]] = {}
        self._subscription: Subscription | None = None
        self._lock = asyncio.Lock()
        self._rechecker: asyncio.Task[None] | None = None
        self._fetchers: set[asyncio.Task[None]] = set()

    @property
    def are_heard(self) -> bool:
        return self._subscription is not None

    async def subscribe(self) -> None:
        """Make sure that replies are heard, before the first job carries this address.

        Raises:
            StorageUnavailable: They cannot be.
        """
        async with self._lock:
            if self._subscription is None:
                topic = replies(self.address)
                self._subscription = await self._storage.listen(self._queue, topic, self._hear)

    def waiting(self, id: str) -> Wait:
        """A context in which to wait for a job."""
        return Wait(self, id)

    def enter(self, wait: Wait) -> None:
        """From here on it is told how its job ends."""
        self._waits.setdefault(wait.id, set()).add(wait)
        if self._rechecker is None:
            self._rechecker = asyncio.create_task(self._recheck(), name="jobqueue-recheck")

    def leave(self, wait: Wait) -> None:
        """It waits no longer; this takes nothing from others who wait for the same job."""
        others = self._waits.get(wait.id)
        if others is not None:
            others.discard(wait)
            if not others:
                del self._waits[wait.id]

    def _hear(self, messages: Sequence[Message] | None) -> None:
        if messages is None:
            self._fetch(list(self._waits))
            return
        large: list[str] = []
        for message in messages:
            if isinstance(message, Reply) and message.id in self._waits:
                if message.value is None:
                    large.append(message.id)
                else:
                    self._end(message.id, StoredResult(message.state, message.value))
        if large:
            self._fetch(large)

    def _end(self, id: str, ending: StoredResult | None) -> None:
        for wait in self._waits.get(id, ()):
            if ending is not None:
                wait.end(ending)
            elif wait.stored:
                wait.fail(JobNotFound(id))

    def _fetch(self, ids: list[str]) -> None:
        task = asyncio.create_task(self.look(ids), name="jobqueue-fetch")
        self._fetchers.add(task)
        task.add_done_callback(self._fetchers.discard)

    async def look(self, ids: Iterable[str]) -> None:
        """Ask the storage; what it cannot say now, the next round asks again."""
        remaining = iter(ids)
        with contextlib.suppress(JobQueueError):
            while batch := list(islice(remaining, _RECHECK_AT_ONCE)):
                answers = await self._storage.results(self._queue, batch, self.address)
                for id, answer in zip(batch, answers, strict=True):
                    if answer is None or answer.state in TERMINAL:
                        self._end(id, answer)

    async def _recheck(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waits:
            await asyncio.sleep(RECHECK_EVERY)
            before = loop.time() - RECHECK_EVERY / 2
            old = [
                id
                for id, waits in self._waits.items()
                if any(wait.stored and wait.since < before for wait in waits)
            ]
            await self.look(old)
        self._rechecker = None

    async def close(self) -> None:
        """Stop listening. Callers that still wait get a ``StorageError``."""
        tasks = [*self._fetchers, *([self._rechecker] if self._rechecker else [])]
        self._rechecker = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for waits in self._waits.values():
            for wait in waits:
                text = f"the queue was closed while job {wait.id!r} was awaited"
                wait.fail(StorageError(text))
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await subscription.close()
