"""Connections that any number of tasks use at the same time, each with its own answers.

redis-py's connections connect, log in and speak TLS; from then on the bytes are ours: commands are
written as they come and answered in that order, so a task costs a future and nothing else. Its
client takes longer for a lone command (80 to 120 microseconds of Python) than the server and the
network together, and its defaults (a socket timeout of 5 s, ten silent retries of every command)
would end a longer blocking call and repeat scripts behind our back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from redis import exceptions as redis_errors
from redis.asyncio import Connection

from jobqueue.storage.redis.resp import Command, make_reader, pack_command

CONNECT_WITHIN: Final = 10.0
"""Seconds for a connection and its login."""
CLOSE_WITHIN: Final = 0.5
"""Seconds for answers to what was sent before a close."""


def make_connection(settings: dict[str, Any]) -> Connection:
    """A connection on which a read waits for as long as it takes."""
    arguments: Any = {**settings, "socket_timeout": None}
    connection_class = arguments.pop("connection_class", Connection)
    return connection_class(**arguments)


async def disconnect(connection: Connection) -> None:
    """Close a connection, whatever state it is in."""
    with contextlib.suppress(redis_errors.RedisError, OSError, TimeoutError):
        await connection.disconnect(nowait=True)


class _Request:
    """Commands that were sent together."""

    __slots__ = ("answered", "answers", "deadline", "missing", "seconds")

    def __init__(self, answered: asyncio.Future[list[Any]], count: int, seconds: float) -> None:
        self.answered = answered
        self.answers: list[Any] = []
        self.missing = count
        self.seconds = seconds
        self.deadline = answered.get_loop().time() + seconds


class _Wire(asyncio.Protocol):
    """A connected and logged-in transport, taken over from redis-py."""

    def __init__(self, connection: Connection) -> None:
        # What redis-py keeps to itself, and the reason why its version is pinned: the stream's
        # writer, which must live as long as the transport, and the names of the server's errors.
        private: Any = connection
        self._writer: asyncio.StreamWriter = private._writer
        self._reader = make_reader(private._parser.parse_error)
        stream: asyncio.StreamReader = private._reader
        private._reader = private._writer = None
        self._transport: Any = self._writer.transport
        self._requests: deque[_Request] = deque()
        self._loop = asyncio.get_running_loop()
        self._alarm: asyncio.TimerHandle | None = None
        self._transport.set_protocol(self)
        if stream.at_eof() or stream.exception() is not None:
            # The end came while redis-py had the transport, which stays half open then, and will
            # not be told again.
            self._transport.abort()

    @property
    def is_lost(self) -> bool:
        return self._transport.is_closing()

    def send(self, commands: Sequence[Command], seconds: float) -> asyncio.Future[list[Any]]:
        """Write commands at once; the future gets their answers.

        Raises:
            redis.exceptions.ConnectionError: The connection is lost; nothing was sent.
        """
        if self._transport.is_closing():
            raise redis_errors.ConnectionError("the connection was lost as soon as it was made")
        request = _Request(self._loop.create_future(), len(commands), seconds)
        self._requests.append(request)
        self._watch(request.deadline)
        self._transport.write(b"".join(map(pack_command, commands)))
        return request.answered

    def data_received(self, data: bytes) -> None:
        reader, requests = self._reader, self._requests
        try:
            reader.feed(data)
            while (answer := reader.gets()) is not False:
                request = requests[0]
                request.answers.append(answer)
                request.missing -= 1
                if not request.missing:
                    requests.popleft()
                    if not request.answered.done():
                        request.answered.set_result(request.answers)
        except Exception as error:  # bytes that are no answer, or an answer to nothing
            self.fail(redis_errors.ConnectionError(f"the server sent what nobody asked: {error}"))

    def _watch(self, deadline: float) -> None:
        """Look at the oldest request at its deadline. The alarm of one that was answered in time
        stays on for those behind it: cheaper than one for each."""
        if self._alarm is not None:
            if self._alarm.when() <= deadline:
                return
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

    def connection_lost(self, exc: Exception | None) -> None:
        reason = f": {exc}" if exc else " by the server"
        self.fail(redis_errors.ConnectionError(f"the connection was closed{reason}"))

    @property
    def waiting(self) -> list[asyncio.Future[list[Any]]]:
        """The answers that somebody still waits for."""
        return [each.answered for each in self._requests if not each.answered.done()]

    def fail(self, error: Exception) -> None:
        """Close the connection now; whoever waits for an answer gets the error."""
        self._transport.abort()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        while self._requests:
            answered = self._requests.popleft().answered
            if not answered.done():
                answered.set_exception(type(error)(*error.args))


class Link:
    """One connection. It connects when it is needed."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._wire: _Wire | None = None
        self._connecting: asyncio.Task[_Wire] | None = None

    async def execute(self, commands: Sequence[Command], seconds: float) -> list[Any]:
        """Send commands in one write and wait for all answers. Who is cancelled disturbs nobody.

        Returns:
            An answer for each command; an error of the server is returned, not raised.

        Raises:
            redis.exceptions.TimeoutError: No answer within ``seconds``; it may have run. The
                connection is closed.
            redis.exceptions.ConnectionError: The connection was lost; it may have run.
        """
        wire = self._wire
        if wire is None or wire.is_lost:
            wire = await self._connect()
        return await wire.send(commands, seconds)

    async def _connect(self) -> _Wire:
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._make_wire(), name="jobqueue-connect")
        return await asyncio.shield(self._connecting)

    async def _make_wire(self) -> _Wire:
        connection = make_connection(self._settings)
        connected = asyncio.create_task(connection.connect())
        try:
            await asyncio.wait([connected], timeout=CONNECT_WITHIN)
            if not connected.done():
                raise redis_errors.TimeoutError(f"no connection within {CONNECT_WITHIN:g} s")
            connected.result()
            self._wire = _Wire(connection)
            return self._wire
        except BaseException:
            connected.cancel()
            await asyncio.wait([connected])
            await disconnect(connection)
            raise
        finally:
            self._connecting = None

    async def close(self) -> None:
        """Close the connection when those who wait have their answers, or after half a second."""
        await self._stop_connecting()
        waiting = [] if self._wire is None else self._wire.waiting
        if waiting:
            await asyncio.wait(waiting, timeout=CLOSE_WITHIN)
        await self.abort()

    async def abort(self) -> None:
        """Close the connection at once."""
        await self._stop_connecting()
        if self._wire is not None:
            self._wire.fail(redis_errors.ConnectionError("the connection was closed"))
            await asyncio.sleep(0)  # in which the loop closes the socket, should it end now

    async def _stop_connecting(self) -> None:
        connecting = self._connecting
        if connecting is not None:
            connecting.cancel()
            await asyncio.wait([connecting])
