"""jobqueue, with a note of when each pick-up left the producer and when it reached the worker.

The notes are taken around the methods of the connection; nothing else is changed. The producer adds
``hops_us`` to its answer to ``pickup``, the worker to its reports: microseconds from before the
enqueue to the write that sends it, and to the bytes that bring it.
"""

from __future__ import annotations

import time
from typing import Any

from adapters.base import Message, clock, run
from adapters.ours import Ours
from jobqueue.storage.redis.wire import Wire

moment = {"sent": 0, "received": 0}
hops_us: list[float] = []


def note(method: str, key: str, *, before: bool) -> None:
    """Have a method of the connection note when it was called, or when it was done."""
    original = getattr(Wire, method)

    def noting(self: Any, *arguments: Any) -> Any:
        if before:
            moment[key] = time.monotonic_ns()
        answer = original(self, *arguments)
        if not before:
            moment[key] = time.monotonic_ns()
        return answer

    setattr(Wire, method, noting)


class OursWithHops(Ours):
    async def enqueue_one(self, handler: str, args: tuple[Any, ...]) -> None:
        await super().enqueue_one(handler, args)
        hops_us.append((moment["sent"] - args[1]) / 1000)

    async def do_pickup(self, message: Message) -> Message:
        hops_us.clear()
        return {**await super().do_pickup(message), "hops_us": list(hops_us)}

    async def do_work(self, message: Message) -> Message:
        stamp, report = clock.stamp, clock.report

        def stamp_and_note(enqueued_ns: int) -> None:
            hops_us.append((moment["received"] - enqueued_ns) / 1000)
            stamp(enqueued_ns)

        clock.stamp = stamp_and_note
        clock.report = lambda: {**report(), "hops_us": list(hops_us)}
        return await super().do_work(message)


if __name__ == "__main__":
    note("write", "sent", before=False)
    note("data_received", "received", before=True)
    run(OursWithHops)
