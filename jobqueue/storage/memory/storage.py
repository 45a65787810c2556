"""``MemoryStorage``: the port over plain dicts, shared by the threads of one process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Final
from weakref import WeakValueDictionary

from jobqueue.errors import StorageError
from jobqueue.states import CancelResult, JobState, TtlResult
from jobqueue.storage.base import (
    Claim,
    ClaimRequest,
    Enqueued,
    HeartbeatAnswer,
    Held,
    NewJob,
    Settlement,
    Sink,
    Storage,
    StoredJob,
    StoredResult,
    Subscription,
)
from jobqueue.storage.clock import Clock, system_clock
from jobqueue.storage.memory.bus import MemorySubscription, Waiter
from jobqueue.storage.memory.queue import MemoryQueue


class _Space:
    """The queues of one place, and the lock that makes each verb atomic."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._queues: dict[str, MemoryQueue] = {}

    def queue(self, name: str) -> MemoryQueue:
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = MemoryQueue()
        return queue


# A place with a name lives as long as a handle on it does: what one queue of the process stores,
# another one finds.
_named: Final[WeakValueDictionary[str, _Space]] = WeakValueDictionary()


class MemoryStorage(Storage):
    """Jobs in the memory of this process; they end with it.

    Args:
        name: Handles with the same name share their jobs. Default: a place of its own.
        clock: Gives milliseconds since the epoch; for tests.
    """

    def __init__(self, name: str | None = None, *, clock: Clock | None = None) -> None:
        super().__init__()
        self._name = name
        self._clock = clock or system_clock
        self._open_now = False
        self._space = _Space() if name is None else _named.setdefault(name, _Space())

    @property
    def url(self) -> str:
        return f"memory://{self._name or ''}"

    def twin(self) -> MemoryStorage:
        other = MemoryStorage(self._name, clock=self._clock)
        other._space = self._space
        return other

    async def _open(self) -> None:
        self._open_now = True

    async def _close(self) -> None:
        self._open_now = False

    def _use(self, queue: str) -> MemoryQueue:
        if not self._open_now:
            raise StorageError(f"the storage {self.url} is closed: open it first")
        return self._space.queue(queue)

    async def enqueue(self, queue: str, jobs: Sequence[NewJob]) -> list[Enqueued]:
        # As with storages that are elsewhere, others have their turn: a loop of enqueues must not
        # keep a worker in the same process from its work.
        await asyncio.sleep(0)
        with self._space.lock:
            place = self._use(queue)
            answer = place.enqueue(jobs, self._clock())
            place.bus.flush()
            return answer

    async def claim(self, queue: str, request: ClaimRequest) -> list[Claim]:
        give_up_at = time.monotonic() + request.block_ms / 1000
        waiter = Waiter(request.worker)
        with self._space.lock:
            place = self._use(queue)
            place.bus.waiters.add(waiter)
        try:
            while True:
                with self._space.lock:
                    now = self._clock()
                    claims = place.claim(request, now)
                    due_in_ms = place.promote(now, 0)
                    place.bus.flush()
                seconds = give_up_at - time.monotonic()
                if claims or seconds <= 0 or waiter.unblocked:
                    return claims
                if due_in_ms is not None:
                    seconds = min(seconds, due_in_ms / 1000)
                await waiter.wait(seconds)
        finally:
            with self._space.lock:
                place.bus.waiters.discard(waiter)

    async def unblock(self, queue: str, worker: str) -> None:
        with self._space.lock:
            for waiter in self._use(queue).bus.waiters:
                if waiter.worker == worker:
                    waiter.unblocked = True
                    waiter.wake()

    async def finish(
        self, queue: str, worker: str, settlements: Sequence[Settlement]
    ) -> list[bool]:
        with self._space.lock:
            place = self._use(queue)
            answer = place.finish(worker, settlements, self._clock())
            place.bus.flush()
            return answer

    async def heartbeat(
        self, queue: str, worker: str, held: Sequence[Held], lease_ms: int
    ) -> HeartbeatAnswer:
        with self._space.lock:
            return self._use(queue).heartbeat(worker, held, lease_ms, self._clock())

    async def recover(
        self, queue: str, reaper: str, limit: int, lease_ms: int, token: str
    ) -> list[Claim]:
        with self._space.lock:
            place = self._use(queue)
            claims = place.recover(reaper, limit, lease_ms, token, self._clock())
            place.bus.flush()
            return claims

    async def promote(self, queue: str, limit: int) -> int | None:
        with self._space.lock:
            return self._use(queue).promote(self._clock(), limit)

    async def prune(self, queue: str, limit: int) -> int:
        with self._space.lock:
            return self._use(queue).prune(self._clock(), limit)

    async def cancel(
        self, queue: str, ids: Sequence[str], ttl_ms: int, value: bytes, request: str
    ) -> list[CancelResult]:
        with self._space.lock:
            place = self._use(queue)
            answer = place.cancel(ids, ttl_ms, value, request, self._clock())
            place.bus.flush()
            return answer

    async def get(self, queue: str, ids: Sequence[str]) -> list[StoredJob | None]:
        with self._space.lock:
            return self._use(queue).get(ids, self._clock())

    async def results(
        self, queue: str, ids: Sequence[str], reply_to: str | None = None
    ) -> list[StoredResult | None]:
        with self._space.lock:
            return self._use(queue).results(ids, reply_to, self._clock())

    async def set_result_ttl(self, queue: str, ids: Sequence[str], ttl_ms: int) -> list[TtlResult]:
        with self._space.lock:
            return self._use(queue).set_result_ttl(ids, ttl_ms, self._clock())

    async def counts(self, queue: str) -> dict[JobState, int]:
        with self._space.lock:
            return self._use(queue).counts(self._clock())

    async def leave(self, queue: str, worker: str) -> None:
        with self._space.lock:
            self._use(queue).leave(worker)

    async def listen(self, queue: str, topic: str, sink: Sink) -> Subscription:
        with self._space.lock:
            return MemorySubscription(self._use(queue).bus, topic, sink)
