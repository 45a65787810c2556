"""``MemoryStorage``: the port over plain dicts, shared by the threads of one process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final
from weakref import WeakValueDictionary

from jobqueue.errors import StorageError
from jobqueue.flow import Control, Limit, LimitInfo, LimitScope, Schedules, StoredSchedule
from jobqueue.states import CancelResult, JobState, RescheduleResult, TtlResult
from jobqueue.storage.base import Storage
from jobqueue.storage.clock import Clock, system_clock
from jobqueue.storage.memory import leasing, producing, reading, upkeep
from jobqueue.storage.memory.bus import MemorySubscription, Waiter
from jobqueue.storage.memory.queue import MemoryQueue
from jobqueue.storage.types import (
    Claim,
    ClaimRequest,
    Enqueued,
    HeartbeatAnswer,
    Held,
    NewJob,
    Offer,
    Settlement,
    Sink,
    StoredJob,
    StoredResult,
    Subscription,
)


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
            answer = producing.enqueue(place, jobs, self._clock())
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
                    claims = leasing.claim(place, request, now)
                    due_in_ms = place.next_ms(now)
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
        self,
        queue: str,
        worker: str,
        settlements: Sequence[Settlement],
        offer: Offer | None = None,
    ) -> list[bool]:
        """As the port says. Nobody is handed anything: a claim is as fast."""
        with self._space.lock:
            place = self._use(queue)
            answer = leasing.finish(place, worker, settlements, self._clock())
            place.bus.flush()
            return answer

    async def withdraw(self, queue: str, worker: str) -> None:
        self._use(queue)

    async def heartbeat(
        self, queue: str, worker: str, held: Sequence[Held], lease_ms: int
    ) -> HeartbeatAnswer:
        with self._space.lock:
            return leasing.heartbeat(self._use(queue), worker, held, lease_ms, self._clock())

    async def recover(
        self, queue: str, reaper: str, limit: int, lease_ms: int, token: str
    ) -> list[Claim]:
        with self._space.lock:
            place = self._use(queue)
            claims = leasing.recover(place, reaper, limit, lease_ms, token, self._clock())
            place.bus.flush()
            return claims

    async def promote(self, queue: str, limit: int) -> int | None:
        with self._space.lock:
            place = self._use(queue)
            answer = upkeep.promote(place, limit, self._clock())
            place.bus.flush()
            return answer

    async def prune(self, queue: str, limit: int) -> int:
        with self._space.lock:
            return upkeep.prune(self._use(queue), limit, self._clock())

    async def cancel(
        self, queue: str, ids: Sequence[str], ttl_ms: int, value: bytes, request: str
    ) -> list[CancelResult]:
        with self._space.lock:
            place = self._use(queue)
            answer = producing.cancel(place, ids, ttl_ms, value, request, self._clock())
            place.bus.flush()
            return answer

    async def get(self, queue: str, ids: Sequence[str]) -> list[StoredJob | None]:
        with self._space.lock:
            return reading.get(self._use(queue), ids, self._clock())

    async def results(
        self, queue: str, ids: Sequence[str], reply_to: str | None = None
    ) -> list[StoredResult | None]:
        with self._space.lock:
            return reading.results(self._use(queue), ids, reply_to, self._clock())

    async def set_result_ttl(self, queue: str, ids: Sequence[str], ttl_ms: int) -> list[TtlResult]:
        with self._space.lock:
            return upkeep.set_result_ttl(self._use(queue), ids, ttl_ms, self._clock())

    async def counts(self, queue: str) -> dict[JobState, int]:
        with self._space.lock:
            return reading.counts(self._use(queue), self._clock())

    async def reschedule(
        self, queue: str, ids: Sequence[str], due_ms: int
    ) -> list[RescheduleResult]:
        with self._space.lock:
            return producing.reschedule(self._use(queue), ids, due_ms, self._clock())

    async def delayed(
        self, queue: str, limit: int, after: tuple[int, str] | None = None
    ) -> list[StoredJob]:
        with self._space.lock:
            return reading.delayed(self._use(queue), limit, after, self._clock())

    async def control(self, queue: str, changes: Mapping[str, int] | None = None) -> Control:
        with self._space.lock:
            return upkeep.control(self._use(queue), changes)

    async def set_limit(self, queue: str, scope: LimitScope, limit: Limit | None) -> None:
        with self._space.lock:
            upkeep.set_limit(self._use(queue), scope, limit, self._clock())

    async def limits(self, queue: str) -> list[LimitInfo]:
        with self._space.lock:
            return self._use(queue).limits.infos()

    async def clear(self, queue: str, limit: int, ttl_ms: int, value: bytes) -> int:
        with self._space.lock:
            place = self._use(queue)
            cleared = producing.clear(place, limit, ttl_ms, value, self._clock())
            place.bus.flush()
            return cleared

    async def obliterate(self, queue: str, limit: int) -> int:
        with self._space.lock:
            return upkeep.obliterate(self._use(queue), limit, self._clock())

    async def schedules(
        self, queue: str, ids: Sequence[str] | None = None, *, due: int = 0
    ) -> Schedules:
        with self._space.lock:
            return self._use(queue).schedules.find(ids, due, self._clock())

    async def put_schedule(
        self, queue: str, schedule: StoredSchedule, jobs: Sequence[NewJob] = ()
    ) -> bool:
        with self._space.lock:
            place = self._use(queue)
            stored = producing.put_schedule(place, schedule, jobs, self._clock())
            place.bus.flush()
            return stored

    async def delete_schedule(self, queue: str, id: str) -> bool:
        with self._space.lock:
            return self._use(queue).schedules.delete(id)

    async def leave(self, queue: str, worker: str) -> None:
        with self._space.lock:
            leasing.leave(self._use(queue), worker)

    async def listen(self, queue: str, topic: str, sink: Sink) -> Subscription:
        with self._space.lock:
            return MemorySubscription(self._use(queue).bus, topic, sink)
