"""``Scheduler``: enqueues the jobs of schedules that are due."""

from __future__ import annotations

import logging
import random
from typing import Final

from jobqueue.flow import StoredSchedule
from jobqueue.ids import new_token
from jobqueue.maintenance.periodic import Periodic
from jobqueue.outcome import cancellation, encode_error
from jobqueue.schedules.firing import due, jobs_of, without_overlap
from jobqueue.schedules.record import Overlap, RecordError, decode_record
from jobqueue.states import TERMINAL
from jobqueue.storage.base import Storage

logger = logging.getLogger("jobqueue")

LIMIT: Final = 500
"""Schedules that one step fires."""
LONGEST: Final = 1.0
"""Seconds between two looks at most: a schedule that is due earlier may have come meanwhile."""


class Scheduler:
    """Fires schedules. Any number may run at once, on machines whose clocks differ.

    What is due, and at which instants, follows from what is stored and the storage's time. A step
    of a schedule and its jobs are stored at once, by whoever comes first: each instant makes one
    job.

    Args:
        storage: An open storage.
        queue: The queue's name.
        cancelled_ttl_ms: Milliseconds for which a job that was cancelled for its successor is kept,
            if it does not say so itself.
    """

    def __init__(self, storage: Storage, queue: str, cancelled_ttl_ms: int) -> None:
        self._storage = storage
        self._queue = queue
        self._cancelled_ttl_ms = cancelled_ttl_ms
        self._periodic = Periodic(f"scheduler-{queue}", self.run_once)
        self._complained: set[tuple[str, int]] = set()

    def start(self) -> None:
        self._periodic.start()

    async def stop(self) -> None:
        await self._periodic.stop()

    async def run_once(self) -> float:
        """Fire what is due; seconds until the next look."""
        seen = await self._storage.schedules(self._queue, due=LIMIT)
        next_ms = seen.next_ms
        if seen.found:
            # All schedulers see the same: let them not all begin with the same one.
            random.shuffle(seen.found)
            fired = [await self._fire(stored, seen.now_ms) for stored in seen.found]
            if any(fired):
                return 0.0
            next_ms = 0  # of those that cannot be read, nobody knows when to look again
        if not next_ms:
            return LONGEST
        return max(0.0, min(LONGEST, (next_ms - seen.now_ms) / 1000))

    async def _fire(self, stored: StoredSchedule, now_ms: int) -> bool:
        """Take a step of one schedule; whether somebody did."""
        try:
            schedule = decode_record(stored.record)
        except RecordError as error:
            self._complain(stored, error)
            return False
        instants, next_ms = due(schedule, stored.next_ms, now_ms)
        ended = schedule.overlap is not Overlap.SKIP or await self._has_ended(stored.last_id)
        instants = without_overlap(schedule.overlap, instants, ended)
        token = new_token()
        jobs = jobs_of(stored.id, schedule, instants, token)
        if schedule.overlap is Overlap.REPLACE and jobs and stored.last_id:
            # First: if this process dies in between, the next one does both.
            await self._cancel(stored)
        changed = stored._replace(version=stored.version + 1, token=token, next_ms=next_ms)
        if jobs:
            changed = changed._replace(last_ms=instants[-1], last_id=jobs[-1].id)
        await self._storage.put_schedule(self._queue, changed, jobs)
        return True

    async def _has_ended(self, id: str) -> bool:
        if not id:
            return True
        (last,) = await self._storage.results(self._queue, [id])
        return last is None or last.state in TERMINAL

    async def _cancel(self, stored: StoredSchedule) -> None:
        reason = f"replaced by the next job of schedule {stored.id!r}"
        value = encode_error(cancellation(reason))
        # The same token for all who fire this step: they mean the same cancel.
        request = f"{stored.token}-{stored.version}"
        await self._storage.cancel(
            self._queue, [stored.last_id], self._cancelled_ttl_ms, value, request
        )

    def _complain(self, stored: StoredSchedule, error: RecordError) -> None:
        if (stored.id, stored.version) not in self._complained:
            self._complained.add((stored.id, stored.version))
            logger.error("schedule %r is not fired here: %s", stored.id, error)
