"""An idle worker that offers to take one job, and hears what it is handed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from jobqueue.ids import new_job_id
from jobqueue.outcome import Outcome
from jobqueue.storage.base import Storage
from jobqueue.storage.types import Claim, Offer, Settlement, handed
from tests.support.jobs import LEASE, MINUTE, QUEUE, WORKER, claim, completed, enqueue, new_job
from tests.support.listening import Inbox, listening

OFFER: Final = Offer(10 * MINUTE, LEASE)


async def settle_offering(
    storage: Storage,
    *claims: Claim,
    outcome: Outcome | None = None,
    offer: Offer = OFFER,
    worker: str = WORKER,
    queue: str = QUEUE,
) -> list[bool]:
    """Finish claims, and offer to take another job."""
    outcome = completed() if outcome is None else outcome
    settlements = [Settlement(item.id, item.fence, outcome) for item in claims]
    return await storage.finish(queue, worker, settlements, offer)


async def make_offer(
    storage: Storage, *, offer: Offer = OFFER, worker: str = WORKER, queue: str = QUEUE
) -> Claim:
    """Enqueue a job, run it, and offer to take another; gives the one that was run."""
    id = new_job_id()
    # What comes with another one in one call is handed to nobody: this one is to be claimed here.
    await enqueue(storage, new_job(id), new_job(id), queue=queue)
    (ran,) = await claim(storage, 1, worker=worker, queue=queue)
    assert ran.id == id
    assert await settle_offering(storage, ran, offer=offer, worker=worker, queue=queue) == [True]
    return ran


@asynccontextmanager
async def idle_worker(
    storage: Storage, *, offer: Offer = OFFER, worker: str = WORKER, queue: str = QUEUE
) -> AsyncIterator[Inbox]:
    """A worker that has run a job, offers to take another, and hears what it is handed."""
    async with listening(storage, handed(worker), queue) as inbox:
        await make_offer(storage, offer=offer, worker=worker, queue=queue)
        yield inbox
