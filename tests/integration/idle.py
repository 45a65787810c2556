"""Workers that offer to take a job, on a real server: what each is handed, and what is not."""

from __future__ import annotations

from typing import Any, Final

from jobqueue.ids import new_job_id
from jobqueue.packing import pack_raw
from jobqueue.states import EnqueueStatus, JobState
from jobqueue.storage.base import Storage
from jobqueue.storage.types import Claim, Enqueued, NewJob, Offer, Subscription, handed
from tests.support.backends import RedisBackend
from tests.support.jobs import (
    QUEUE,
    WORKER,
    claim,
    enqueue,
    new_job,
    stored,
)
from tests.support.listening import Complete
from tests.support.offers import OFFER, make_offer

COUNTS: Final = f"jq:{{{QUEUE}}}:counts"
HANDED: Final = f"jq:{{{QUEUE}}}:handed"
ACCEPTED: Final = Enqueued(EnqueueStatus.QUEUED, JobState.QUEUED, None)


class Workers:
    """Who offers to take a job, and what each is handed."""

    def __init__(self, backend: RedisBackend, storage: Storage) -> None:
        self._backend = backend
        self._storage = storage
        self._subscriptions: list[Subscription] = []
        self._inboxes: dict[str, Complete] = {}
        self.last_fence = 0

    async def listen(self, worker: str = WORKER) -> Complete:
        """Let this worker hear what it is handed."""

        async def mark() -> str:
            id = new_job_id()
            message = pack_raw((id, "mark", b"", 1, 1, 0, 0))
            self._backend.admin.spublish(f"{HANDED}:{worker}", message)
            return id

        inbox = self._inboxes[worker] = Complete(mark)
        subscription = await self._storage.listen(QUEUE, handed(worker), inbox)
        self._subscriptions.append(subscription)
        return inbox

    async def offer(self, worker: str = WORKER, offer: Offer = OFFER) -> Complete:
        """Let this worker run a job, and offer to take another."""
        inbox = self._inboxes.get(worker) or await self.listen(worker)
        ran = await make_offer(self._storage, worker=worker, offer=offer)
        self.last_fence = ran.fence
        return inbox

    async def hand(self, job: NewJob | str, worker: str = WORKER) -> Claim:
        """Enqueue a job, which this worker and nobody else is handed."""
        job = new_job(job) if isinstance(job, str) else job
        assert await enqueue(self._storage, job) == [ACCEPTED]
        for name, inbox in self._inboxes.items():
            if name != worker:
                assert await inbox.all() == []
        (message,) = await self._inboxes[worker].all()
        now = (await stored(self._storage, job.id)).enqueued_ms
        assert message == Claim(
            job.id, job.name, job.spec, message.fence, 1, now, job.ttl_ms, False, worker
        )
        assert message.fence > self.last_fence
        self.last_fence = message.fence
        kept = await stored(self._storage, job.id)
        assert (kept.state, kept.worker, kept.fence) == (JobState.RUNNING, worker, message.fence)
        assert kept.spec == job.spec
        assert await self._storage.withdraw(QUEUE, worker) == message
        return message

    async def nothing_handed(self) -> None:
        """Nobody was handed anything that has not been looked at."""
        for inbox in self._inboxes.values():
            assert await inbox.all() == []

    async def let_wait(self, *jobs: NewJob | str) -> list[Claim]:
        """Enqueue jobs, which nobody is handed: a claim brings them."""
        answers = await enqueue(self._storage, *jobs)
        assert [answer.status for answer in answers] == [EnqueueStatus.QUEUED] * len(jobs)
        await self.nothing_handed()
        for job in jobs:
            kept = await stored(self._storage, job if isinstance(job, str) else job.id)
            assert kept.state is not JobState.RUNNING
        return await self.claim()

    async def claim(self, worker: str = "w9") -> list[Claim]:
        """Claim all that waits."""
        claims = await claim(self._storage, worker=worker)
        for job in claims:
            assert job.fence > self.last_fence
            self.last_fence = job.fence
        return claims

    async def close(self) -> None:
        """Let nobody hear any more."""
        for subscription in self._subscriptions:
            await subscription.close()


def field(backend: RedisBackend, name: str) -> Any:
    """A field of the queue's numbers."""
    return backend.admin.hget(COUNTS, name)
