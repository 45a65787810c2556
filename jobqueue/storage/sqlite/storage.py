"""``SQLiteStorage``: the port over one file."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, TypeVar

from jobqueue.errors import ConfigurationError, StorageError
from jobqueue.flow import Control, Limit, LimitInfo, LimitScope, Schedules, StoredSchedule
from jobqueue.states import CancelResult, JobState, RescheduleResult, TtlResult
from jobqueue.storage.base import Storage
from jobqueue.storage.clock import Clock, system_clock
from jobqueue.storage.sqlite import (
    controlling,
    leasing,
    limiting,
    producing,
    reading,
    scheduling,
    settling,
    upkeep,
)
from jobqueue.storage.sqlite.connection import Connection, Work
from jobqueue.storage.sqlite.subscribing import SQLiteSubscription
from jobqueue.storage.sqlite.watcher import Listener, Waiter, Watcher
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

_T = TypeVar("_T")

_TRIM_BYTES: Final = 256 * 1024
_TRIM_SECONDS: Final = 30.0


class SQLiteStorage(Storage):
    """Jobs in one SQLite file, for all processes of one machine.

    Each verb is one transaction, on disk when it returns (``synchronous=FULL``): a job survives
    ``kill -9`` of any process, and a power cut. Statements run in one thread per handle; a second
    one watches the file while a claim or a subscription waits.

    Args:
        path: The file; it is created, with access for this user alone, in a folder that exists.
        clock: Gives milliseconds since the epoch, asked from several threads; for tests.

    Raises:
        ConfigurationError: The path cannot be a file's.
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: Clock | None = None) -> None:
        super().__init__()
        name = os.fspath(path)
        if not name or name == ":memory:" or "\0" in name:
            raise ConfigurationError(
                f"{name!r} names no file: give a path, or use memory:// for jobs in memory"
            )
        # Absolute, so that a later change of the working directory does not lead elsewhere.
        self._path = os.path.abspath(name)
        self._clock = clock or system_clock
        self._parts: tuple[Connection, Watcher] | None = None
        self._claims: set[Waiter] = set()
        self._subscriptions: set[SQLiteSubscription] = set()
        self._trimmed_at = -_TRIM_SECONDS

    @property
    def url(self) -> str:
        return f"sqlite:///{self._path}"

    def twin(self) -> SQLiteStorage:
        return SQLiteStorage(self._path, clock=self._clock)

    async def _open(self) -> None:
        watcher = Watcher(self._path, self._clock)
        connection = Connection(self._path, self._clock, watcher.poke)
        await connection.open()
        self._parts = connection, watcher

    async def _close(self) -> None:
        connection, watcher = self._use()
        self._parts = None
        for waiter in self._claims:
            waiter.unblock()
        subscriptions, self._subscriptions = self._subscriptions, set()
        for subscription in subscriptions:
            subscription.detach()
        await connection.close(watcher.stop, [each.erase for each in subscriptions])

    def _use(self) -> tuple[Connection, Watcher]:
        if self._parts is None:
            raise StorageError(f"the storage {self.url} is closed: open it first")
        return self._parts

    async def _read(self, work: Work[_T]) -> _T:
        return await self._use()[0].read(work)

    async def _write(self, work: Work[_T], *, unless: Work[_T | None] | None = None) -> _T:
        return await self._use()[0].write(work, unless=unless)

    async def enqueue(self, queue: str, jobs: Sequence[NewJob]) -> list[Enqueued]:
        return await self._write(lambda tx: producing.enqueue(tx, queue, jobs))

    async def claim(self, queue: str, request: ClaimRequest) -> list[Claim]:
        """As the port says. While it waits, no lock is held and nothing is written; the sign of
        life is written once a call, and only when the last one is older than half a lease."""
        connection, watcher = self._use()
        give_up_at = time.monotonic() + request.block_ms / 1000
        waiter = Waiter(queue, request.worker)
        self._claims.add(waiter)
        try:
            sign_of_life = True
            while True:
                claims = await connection.write(
                    lambda tx: leasing.claim(tx, queue, request),
                    unless=partial(
                        leasing.claim_without_writing,
                        name=queue,
                        request=request,
                        sign_of_life=sign_of_life,
                    ),
                )
                sign_of_life = False
                seconds = give_up_at - time.monotonic()
                if claims or seconds <= 0 or waiter.unblocked:
                    return claims
                await watcher.wait(waiter, seconds)
                if self._parts is None:
                    return []
        finally:
            self._claims.discard(waiter)

    async def unblock(self, queue: str, worker: str) -> None:
        self._use()
        for waiter in self._claims:
            if (waiter.queue, waiter.worker) == (queue, worker):
                waiter.unblock()

    async def finish(
        self,
        queue: str,
        worker: str,
        settlements: Sequence[Settlement],
        offer: Offer | None = None,
    ) -> list[bool]:
        """As the port says. Nobody is handed anything: another process is told no faster."""
        return await self._write(lambda tx: settling.finish(tx, queue, worker, settlements))

    async def withdraw(self, queue: str, worker: str) -> None:
        self._use()

    async def heartbeat(
        self, queue: str, worker: str, held: Sequence[Held], lease_ms: int
    ) -> HeartbeatAnswer:
        return await self._write(lambda tx: leasing.heartbeat(tx, queue, worker, held, lease_ms))

    async def recover(
        self, queue: str, reaper: str, limit: int, lease_ms: int, token: str
    ) -> list[Claim]:
        return await self._write(
            lambda tx: leasing.recover(tx, queue, reaper, limit, lease_ms, token),
            unless=lambda tx: leasing.recover_without_writing(tx, queue, reaper, token),
        )

    async def promote(self, queue: str, limit: int) -> int | None:
        (wait_ms,) = await self._write(
            lambda tx: leasing.promote(tx, queue, limit),
            unless=lambda tx: leasing.promote_without_writing(tx, queue),
        )
        return wait_ms

    async def prune(self, queue: str, limit: int) -> int:
        """As the port says; also drops old messages, and gives the file's unused space back."""
        pruned = await self._write(
            lambda tx: upkeep.prune(tx, queue, limit),
            unless=lambda tx: upkeep.nothing_to_prune(tx, queue),
        )
        await self._give_space_back(idle=pruned == 0)
        return pruned

    async def _give_space_back(self, *, idle: bool) -> None:
        connection, _ = self._use()
        shrunk = False
        if await connection.read(upkeep.has_much_free_space):
            # A little at a time, so that verbs come in between.
            while pages := await connection.read(upkeep.pages_to_give_back):
                await connection.run(partial(connection.vacuum, pages))
                shrunk = True
        rested = time.monotonic() - self._trimmed_at > _TRIM_SECONDS
        if shrunk or (idle and rested and connection.wal_bytes() > _TRIM_BYTES):
            self._trimmed_at = time.monotonic()
            await connection.run(connection.trim_log)

    async def cancel(
        self, queue: str, ids: Sequence[str], ttl_ms: int, value: bytes, request: str
    ) -> list[CancelResult]:
        return await self._write(
            lambda tx: producing.cancel(tx, queue, ids, ttl_ms, value, request)
        )

    async def get(self, queue: str, ids: Sequence[str]) -> list[StoredJob | None]:
        return await self._read(lambda tx: reading.get(tx, queue, ids))

    async def results(
        self, queue: str, ids: Sequence[str], reply_to: str | None = None
    ) -> list[StoredResult | None]:
        if reply_to is None:
            return await self._read(lambda tx: reading.results(tx, queue, ids))
        return await self._write(
            lambda tx: reading.results_and_remember(tx, queue, ids, reply_to),
            unless=lambda tx: reading.results_if_ended(tx, queue, ids),
        )

    async def set_result_ttl(self, queue: str, ids: Sequence[str], ttl_ms: int) -> list[TtlResult]:
        return await self._write(lambda tx: reading.set_result_ttl(tx, queue, ids, ttl_ms))

    async def counts(self, queue: str) -> dict[JobState, int]:
        return await self._read(lambda tx: reading.counts(tx, queue))

    async def reschedule(
        self, queue: str, ids: Sequence[str], due_ms: int
    ) -> list[RescheduleResult]:
        return await self._write(lambda tx: controlling.reschedule(tx, queue, ids, due_ms))

    async def delayed(
        self, queue: str, limit: int, after: tuple[int, str] | None = None
    ) -> list[StoredJob]:
        return await self._read(lambda tx: reading.delayed(tx, queue, limit, after))

    async def control(self, queue: str, changes: Mapping[str, int] | None = None) -> Control:
        if not changes:
            return await self._read(lambda tx: controlling.read(tx, queue))
        return await self._write(lambda tx: controlling.change(tx, queue, changes))

    async def set_limit(self, queue: str, scope: LimitScope, limit: Limit | None) -> None:
        await self._write(lambda tx: limiting.set_limit(tx, queue, scope, limit))

    async def limits(self, queue: str) -> list[LimitInfo]:
        return await self._read(lambda tx: limiting.limits(tx, queue))

    async def clear(self, queue: str, limit: int, ttl_ms: int, value: bytes) -> int:
        return await self._write(lambda tx: controlling.clear(tx, queue, limit, ttl_ms, value))

    async def obliterate(self, queue: str, limit: int) -> int:
        return await self._write(lambda tx: controlling.obliterate(tx, queue, limit))

    async def schedules(
        self, queue: str, ids: Sequence[str] | None = None, *, due: int = 0
    ) -> Schedules:
        return await self._read(lambda tx: scheduling.schedules(tx, queue, ids, due))

    async def put_schedule(
        self, queue: str, schedule: StoredSchedule, jobs: Sequence[NewJob] = ()
    ) -> bool:
        return await self._write(lambda tx: scheduling.put_schedule(tx, queue, schedule, jobs))

    async def delete_schedule(self, queue: str, id: str) -> bool:
        return await self._write(lambda tx: scheduling.delete_schedule(tx, queue, id))

    async def leave(self, queue: str, worker: str) -> None:
        """As the port says. Nothing is ever handed over here that is not leased."""
        await self._write(lambda tx: leasing.leave(tx, queue, worker))

    async def listen(self, queue: str, topic: str, sink: Sink) -> Subscription:
        connection, watcher = self._use()
        listener = Listener(queue, topic, sink)
        subscription = SQLiteSubscription(
            connection, watcher, listener, self._subscriptions.discard
        )
        await subscription.start()
        self._subscriptions.add(subscription)
        return subscription
