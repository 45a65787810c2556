"""A lone call does not wait for the answer to its enqueue: its result says that it was stored.

Two answers would wake the caller twice, the first time for nothing, and while the job is on its
way. If the result is not there at once, the same job is enqueued again, as after a lost answer:
that stores it once, and says what became of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from jobqueue.flow import Refusal
from jobqueue.refusals import Refusals
from jobqueue.replies import Replies, Wait
from jobqueue.states import TERMINAL
from jobqueue.storage.base import Storage
from jobqueue.storage.types import Enqueued, NewJob

SURE_AFTER: Final = 0.005
"""Seconds without a result after which a caller makes sure that its job is stored."""
_KEPT_LONG_MS: Final = 10_000
"""A job that is forgotten sooner might be gone, and be stored anew, when its caller makes sure."""


class Unanswered:
    """The job of one producer that was sent without an answer; there is one at most.

    Args:
        storage: Where it goes.
        queue: Into which queue.
        kept_ms: For how long a job is kept that does not say so itself.
        enqueue: Enqueues a job and tells the answer.
        replies: Where the results are waited for.
        refusals: The errors for jobs that are not accepted.
    """

    def __init__(
        self,
        storage: Storage,
        queue: str,
        kept_ms: int,
        enqueue: Callable[[NewJob], Awaitable[Enqueued]],
        replies: Replies,
        refusals: Refusals,
    ) -> None:
        self._storage = storage
        self._queue = queue
        self._kept_ms = kept_ms
        self._enqueue = enqueue
        self._replies = replies
        self._refusals = refusals
        self._job: NewJob | None = None
        self._wait: Wait | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, job: NewJob, wait: Wait) -> bool:
        """Send a plain job of an id made for it, unless another is under way.

        Returns:
            Whether it was sent.
        """
        other = self._wait
        if (
            (other is not None and not other.ending.done())
            or job.request
            or job.delay_ms
            or job.due_ms
            or job.flow is not None
            or (job.ttl_ms or self._kept_ms) < _KEPT_LONG_MS
            or not self._storage.send(self._queue, job)
        ):
            return False
        self._job, self._wait = job, wait
        if self._alarm is None:
            loop = wait.ending.get_loop()
            self._alarm = loop.call_later(SURE_AFTER, self._look, loop)
        return True

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        # One alarm for all calls of these milliseconds: most are over when it rings.
        self._alarm = None
        job, wait = self._job, self._wait
        if job is None or wait is None or wait.ending.done():
            self._job = self._wait = None
            return
        due = wait.since + SURE_AFTER
        if loop.time() < due:
            self._alarm = loop.call_at(due, self._look, loop)
            return
        task = loop.create_task(self._make_sure(job, wait), name="jobqueue-make-sure")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _make_sure(self, job: NewJob, wait: Wait) -> None:
        await asyncio.sleep(0)  # in which the loop reads what has arrived meanwhile
        try:
            if not wait.ending.done():
                await self._hear(wait, await self._enqueue(job))
        except Exception as error:  # the caller's to hear
            wait.fail(error)
        finally:
            if self._wait is wait:
                self._job = self._wait = None

    async def _hear(self, wait: Wait, answer: Enqueued) -> None:
        if isinstance(answer.status, Refusal):
            wait.fail(await self._refusals.error(answer.status))
            return
        wait.stored = True
        if answer.state in TERMINAL:
            await self._replies.look([wait.id])

    async def close(self) -> None:
        """Look after nothing any more."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._job = self._wait = None
