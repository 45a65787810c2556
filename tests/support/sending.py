"""What was sent without an answer: told beside the producer, which does not say so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jobqueue.storage.base import Storage
from jobqueue.storage.types import Enqueued, NewJob


def note_sent(
    storage: Storage, sent: Callable[[NewJob], Any], made_sure: Callable[[NewJob], Any]
) -> None:
    """Be told of the jobs that the producers of this handle send without an answer.

    Args:
        storage: The handle.
        sent: Called with each.
        made_sure: Called with each of them that is enqueued once more.
    """
    send, enqueue = storage.send, storage.enqueue
    ids: set[str] = set()

    def send_and_note(queue: str, job: NewJob) -> bool:
        if not send(queue, job):
            return False
        ids.add(job.id)
        sent(job)
        return True

    async def enqueue_and_note(queue: str, jobs: Sequence[NewJob]) -> list[Enqueued]:
        for job in jobs:
            if job.id in ids:
                made_sure(job)
        return await enqueue(queue, jobs)

    # Of this one object: a class for it would have to pass on all the other verbs.
    vars(storage).update(send=send_and_note, enqueue=enqueue_and_note)
