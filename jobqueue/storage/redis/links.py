"""Connections that any number of tasks use at the same time, each with its own answers.

Commands are written as they come and answered in that order, so a task costs a future and nothing
else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import Any, Final

from redis import exceptions as redis_errors
from redis.asyncio import Connection

from jobqueue.storage.redis.wire import Wire, open_wire

CLOSE_WITHIN: Final = 0.5
"""Seconds for answers to what was sent before a close."""


class _Request:
    """Commands that were sent together."""

    __slots__ = ("answered", "answers", "deadline", "missing", "seconds")

    def __init__(
        self, answered: asyncio.Future[list[Any]], count: int, seconds: float, deadline: float
    ) -> None:
        self.answered = answered
        self.answers: list[Any] = []
        self.missing = count
        self.seconds = seconds
        self.deadline = deadline


class _Exchange(Wire):
    """A wire on which each request waits for its answers."""

    def __init__(self, connection: Connection) -> None:
        self._requests: deque[_Request] = deque()
        self._loop = asyncio.get_running_loop()
        self._alarm: asyncio.TimerHandle | None = None
        super().__init__(connection)

    def send(self, data: bytes, count: int, seconds: float) -> asyncio.Future[list[Any]]:
        """Write ``count`` packed commands at once; the future gets their answers."""
        answered: asyncio.Future[list[Any]] = self._loop.create_future()
        deadline = self._loop.time() + seconds
        self._requests.append(_Request(answered, count, seconds, deadline))
        if self._alarm is None or self._alarm.when() > deadline:
            self._watch(deadline)
        self.write(data)
        return answered

    def hear(self, answer: Any) -> None:
        request = self._requests[0]
        request.answers.append(answer)
        request.missing -= 1
        if not request.missing:
            self._requests.popleft()
            if not request.answered.done():
                request.answered.set_result(request.answers)

    def _watch(self, deadline: float) -> None:
        """Look at the oldest request at its deadline. The alarm of one that was answered in time
        stays on for those behind it: cheaper than one for each."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_at(deadline, self._look)

    def _look(self) -> None:
        self._alarm = None
        if not self._requests:
            return
        oldest = self._requests[0]
        if oldest.deadline <= self._loop.time():
            self.fail(redis_errors.TimeoutError(f"no answer within {oldest.seconds:g} s"))
        else:
            self._watch(oldest.deadline)

    @property
    def waiting(self) -> list[asyncio.Future[list[Any]]]:
        """The answers that somebody still waits for."""
        return [each.answered for each in self._requests if not each.answered.done()]

    def ended(self, error: Exception) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        while self._requests:
            answered = self._requests.popleft().answered
            if not answered.done():
                answered.set_exception(type(error)(*error.args))


def _heard(connecting: asyncio.Task[_Exchange]) -> None:
    """Look at the error: whoever wanted the connection may have been cancelled meanwhile."""
    if not connecting.cancelled():
        connecting.exception()


class Link:
    """One connection. It connects when it is needed."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._exchange: _Exchange | None = None
        self._connecting: asyncio.Task[_Exchange] | None = None

    # Here and in its callers no coroutine where a future will do: a lone job finds all code cold.
    def execute(self, data: bytes, count: int, seconds: float) -> Awaitable[list[Any]]:
        """Send ``count`` packed commands in one write and wait for all answers. Who is cancelled
        disturbs nobody.

        Returns:
            An answer for each command; an error of the server is returned, not raised.

        Raises:
            redis.exceptions.TimeoutError: No answer within ``seconds``; it may have run. The
                connection is closed.
            redis.exceptions.ConnectionError: The connection was lost; it may have run.
        """
        exchange = self._exchange
        if exchange is None or exchange.is_lost:
            return self._connect_and_send(data, count, seconds)
        return exchange.send(data, count, seconds)

    def send(self, data: bytes) -> bool:
        """Send commands that are not answered, if there is a connection; whether it was done."""
        exchange = self._exchange
        if exchange is None or exchange.is_lost:
            return False
        exchange.write(data)
        return True

    async def _connect_and_send(self, data: bytes, count: int, seconds: float) -> list[Any]:
        exchange = await self._connect()
        if exchange.is_lost:
            raise redis_errors.ConnectionError("the connection was lost as soon as it was made")
        return await exchange.send(data, count, seconds)

    async def _connect(self) -> _Exchange:
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._make_exchange(), name="jobqueue-connect")
            self._connecting.add_done_callback(_heard)
        return await asyncio.shield(self._connecting)

    async def _make_exchange(self) -> _Exchange:
        try:
            self._exchange = await open_wire(self._settings, _Exchange)
            return self._exchange
        finally:
            self._connecting = None

    def leave(self) -> None:
        """Close the connection at once; whatever is sent from now on goes over a new one."""
        if self._exchange is not None:
            self._exchange.fail(redis_errors.ConnectionError("the connection was given up"))

    async def close(self) -> None:
        """Close the connection when those who wait have their answers, or after half a second."""
        await self._stop_connecting()
        waiting = [] if self._exchange is None else self._exchange.waiting
        if waiting:
            await asyncio.wait(waiting, timeout=CLOSE_WITHIN)
        await self.abort()

    async def abort(self) -> None:
        """Close the connection at once."""
        await self._stop_connecting()
        if self._exchange is not None:
            self._exchange.fail(redis_errors.ConnectionError("the connection was closed"))
            await asyncio.sleep(0)  # in which the loop closes the socket, should it end now

    async def _stop_connecting(self) -> None:
        connecting = self._connecting
        if connecting is not None:
            connecting.cancel()
            await asyncio.wait([connecting])
