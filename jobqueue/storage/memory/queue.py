"""One queue in plain dicts: what it holds, and the steps that several verbs share.

The other storages are held against this one, so it favours being obviously right. The verbs are
functions in ``producing``, ``leasing``, ``reading`` and ``upkeep``; each is one atomic step when
called under one lock.
"""

from __future__ import annotations

import heapq
from collections import Counter
from itertools import count

from jobqueue.flow import OPEN
from jobqueue.outcome import EXPIRED
from jobqueue.states import TERMINAL, EventType, JobState
from jobqueue.storage.memory.bus import Bus
from jobqueue.storage.memory.limits import Limits
from jobqueue.storage.memory.lines import Lines
from jobqueue.storage.memory.rows import Row, inline
from jobqueue.storage.memory.schedules import ScheduleBook
from jobqueue.storage.types import EVENTS, Claim, NewJob, Reply, StorageEvent, replies

DELAYED = (JobState.SCHEDULED, JobState.RETRYING)


class MemoryQueue:
    """The jobs of one queue.

    Attributes:
        jobs: All of them, by id.
        states: How many are in each state.
        running: Ids of those that are leased.
        workers: Until when each counts as alive.
        claims: Token and answer of each worker's last claim.
    """

    def __init__(self) -> None:
        self.bus = Bus()
        self.control = OPEN
        self.jobs: dict[str, Row] = {}
        self.states: Counter[JobState] = Counter()
        self.lines = Lines()
        self.limits = Limits()
        self.schedules = ScheduleBook()
        self.running: set[str] = set()
        self.workers: dict[str, int] = {}
        self.claims: dict[str, tuple[str, list[Claim]]] = {}
        self._unique: dict[str, str] = {}
        self._delayed: list[tuple[int, int, str]] = []
        self._unstarted: list[tuple[int, str]] = []
        self._forgotten: list[tuple[int, str]] = []
        self._fence = 0
        self._order = count(1)

    # -- what is stored --------------------------------------------------------------------------

    def add(self, row: Row) -> None:
        """Store a new job, in place of one with the same id."""
        job = row.job
        if job.id in self.jobs:
            self.forget(self.jobs[job.id])
        self.jobs[job.id] = row
        self.states[job.state] += 1
        if job.flow is not None and job.flow.unique is not None:
            self._unique[job.flow.unique.key] = job.id
        if row.ends_unstarted_ms:
            heapq.heappush(self._unstarted, (row.ends_unstarted_ms, job.id))

    def forget(self, row: Row) -> None:
        """Nothing remains of a job that is in no line and does not run."""
        job = row.job
        del self.jobs[job.id]
        self.states[job.state] -= 1
        if job.flow is not None and job.flow.unique is not None:
            key = job.flow.unique.key
            if self._unique.get(key) == job.id:
                del self._unique[key]

    def under_key(self, key: str) -> Row | None:
        """The last job that was stored under a unique key, if it still exists."""
        id = self._unique.get(key)
        return None if id is None else self.jobs[id]

    def enter(self, row: Row, state: JobState, **changes: object) -> None:
        """Change a job's state."""
        self.states[row.job.state] -= 1
        self.states[state] += 1
        row.update(state=state, **changes)

    def next_fence(self) -> int:
        self._fence += 1
        return self._fence

    # -- waiting ---------------------------------------------------------------------------------

    def delay(self, row: Row, due: int) -> None:
        """A scheduled or retrying job waits for this moment."""
        row.update(due_ms=due)
        row.order = next(self._order)
        heapq.heappush(self._delayed, (due, row.order, row.job.id))
        self.bus.wake_all()

    def reschedule(self, row: Row, due: int, now: int) -> None:
        """A scheduled or retrying job gets another due time; one not in the future is "at once"."""
        if due > now:
            self.delay(row, due)
        else:
            self._promote(row)

    def _promote(self, row: Row) -> None:
        self.enter(row, JobState.QUEUED, due_ms=0)
        self.lines.to_tail(row)
        self.bus.wake_all()

    def withdraw(self, row: Row) -> None:
        """A job leaves the place where it waits."""
        if row.job.state is JobState.QUEUED:
            if row.held_by is None:
                self.lines.remove(row)
            self.limits.leave(row)

    def call_back(self, now: int) -> bool:
        """Who was held back and may go on goes to the head of his line; whether there was one."""
        called = self.limits.call(now)
        if called:
            self.lines.to_head(called)
            self.bus.wake_all()
        return bool(called)

    def advance(self, now: int, limit: int) -> None:
        """Do what time asks for: end up to ``limit`` that have expired, promote up to ``limit``
        that are due, let go on what a rate held back."""
        for _ in range(limit):
            row = self._next_unstarted()
            if row is None or row.ends_unstarted_ms > now:
                break
            self.expire(row, now)
        for _ in range(limit):
            row = self._next_delayed()
            if row is None or row.job.due_ms > now:
                break
            self._promote(row)
        self.call_back(now)

    def next_ms(self, now: int) -> int | None:
        """Milliseconds until time asks for something, ``None`` for never."""
        delayed, unstarted = self._next_delayed(), self._next_unstarted()
        moments = [
            None if delayed is None else delayed.job.due_ms,
            None if unstarted is None else unstarted.ends_unstarted_ms,
            None if self.control.paused else self.limits.next_start(now, waiting=bool(self.lines)),
        ]
        first = min((moment for moment in moments if moment is not None), default=None)
        return None if first is None else max(0, first - now)

    def _next_delayed(self) -> Row | None:
        while self._delayed:
            _, order, id = self._delayed[0]
            row = self.jobs.get(id)
            if row is not None and row.order == order and row.job.state in DELAYED:
                return row
            heapq.heappop(self._delayed)
        return None

    def _next_unstarted(self) -> Row | None:
        while self._unstarted:
            moment, id = self._unstarted[0]
            row = self.jobs.get(id)
            if row is not None and row.ends_unstarted_ms == moment and row.has_not_started:
                return row
            heapq.heappop(self._unstarted)
        return None

    # -- ending ----------------------------------------------------------------------------------

    def expire(self, row: Row, now: int) -> None:
        """End a job that has not started in time."""
        self.withdraw(row)
        self.end(row, JobState.CANCELLED, EXPIRED, row.job.ttl_ms, now)
        self.tell(row, EventType.CANCELLED, now, "")

    def end(self, row: Row, state: JobState, value: bytes, ttl_ms: int, now: int) -> None:
        """Enter a terminal state, and tell those who wait for it."""
        until = now + ttl_ms
        self.enter(row, state, value=value, finished_ms=now, expires_ms=until, due_ms=0)
        heapq.heappush(self._forgotten, (until, row.job.id))
        for address in row.reply_to:
            self.bus.publish(replies(address), Reply(row.job.id, state, inline(value)))
        row.reply_to = []

    def keep_until(self, row: Row, moment: int) -> None:
        """Forget a job that has ended at this moment."""
        row.update(expires_ms=moment)
        heapq.heappush(self._forgotten, (moment, row.job.id))

    def prune(self, now: int, limit: int | None = None) -> int:
        """Forget what is over. Every verb starts with it, so nobody ever sees such a job."""
        pruned = 0
        while self._forgotten and self._forgotten[0][0] <= now and pruned != limit:
            _, id = heapq.heappop(self._forgotten)
            row = self.jobs.get(id)
            if row is not None and row.job.state in TERMINAL and row.job.expires_ms <= now:
                self.forget(row)
                pruned += 1
        return pruned

    def tell(self, row: Row, type: EventType, now: int, worker: str) -> None:
        job = row.job
        self.bus.publish(EVENTS, StorageEvent(type, job.id, job.name, now, job.attempt, worker))


def due_of(new: NewJob, now: int) -> int:
    """When a new job is due; 0 for at once."""
    return new.due_ms or (now + new.delay_ms if new.delay_ms else 0)
