"""Who was handed what: told beside the consumer, which does not say how it came by a job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jobqueue.storage.base import Storage
from jobqueue.storage.types import Claim, Message, Sink, Subscription, handed


def note_handed(
    storage: Storage, heard: Callable[[Claim], Any], fetched: Callable[[Claim], Any]
) -> None:
    """Be told of the jobs that the workers of this handle are handed.

    Args:
        storage: The handle.
        heard: Called with each job of which a message tells.
        fetched: Called with each that a withdrawal brings, which may have been heard before.
    """
    listen, withdraw = storage.listen, storage.withdraw

    async def listen_and_note(queue: str, topic: str, sink: Sink) -> Subscription:
        if not topic.startswith(handed("")):
            return await listen(queue, topic, sink)

        def note(messages: Sequence[Message] | None) -> None:
            for message in messages or ():
                if isinstance(message, Claim):
                    heard(message)
            sink(messages)

        return await listen(queue, topic, note)

    async def withdraw_and_note(queue: str, worker: str) -> Claim | None:
        claim = await withdraw(queue, worker)
        if claim is not None:
            fetched(claim)
        return claim

    # Of this one object: a class for it would have to pass on all the other verbs.
    vars(storage).update(listen=listen_and_note, withdraw=withdraw_and_note)
