"""Threads for sync handlers: started when needed, reused, gone when the worker has stopped.

Those of ``anyio.to_thread`` and of asyncio's executor stay until the event loop ends, and a handler
that never returns would keep the process from ending.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeAlias

Work: TypeAlias = Callable[[], Any]


class _Call(NamedTuple):
    work: Work
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class _Thread(threading.Thread):
    """Runs one call after the other; after each it is idle until it gets the next, or ``None``."""

    def __init__(self, pool: HandlerThreads) -> None:
        super().__init__(name="jobqueue-handler", daemon=True)
        self.calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._pool = pool

    def run(self) -> None:
        while (call := self.calls.get()) is not None:
            result = call.work()
            try:
                call.loop.call_soon_threadsafe(self._pool.called, self, call.future, result)
            except RuntimeError:
                return  # that loop is closed, and nobody is left to be told
            if self._pool.closed:
                return
            del call, result


class HandlerThreads:
    """The threads of one consumer. Its slots bound how many there are.

    Used from one event loop; a call that has begun is never interrupted.
    """

    def __init__(self) -> None:
        self._idle: list[_Thread] = []
        self.closed = False

    def submit(self, work: Work) -> asyncio.Future[Any]:
        """Run ``work``, which must not raise, in a thread; the future gets what it returns."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if self._idle:
            thread = self._idle.pop()
        else:
            thread = _Thread(self)
            thread.start()
        thread.calls.put(_Call(work, future, loop))
        return future

    def called(self, thread: _Thread, future: asyncio.Future[Any], result: Any) -> None:
        """On the loop: a call has returned."""
        if self.closed:
            thread.calls.put(None)
        else:
            self._idle.append(thread)
        if not future.done():
            future.set_result(result)

    def close(self) -> None:
        """End the idle threads; one that is still in a handler ends after it."""
        self.closed = True
        idle, self._idle = self._idle, []
        for thread in idle:
            thread.calls.put(None)
        for thread in idle:
            thread.join()
