"""A connection to the server as bytes in and out.

redis-py's connections connect, log in and speak TLS; from then on the bytes are ours. Its client
takes longer for a lone command (80 to 120 microseconds of Python) than the server and the network
together, and its defaults (a socket timeout of 5 s, ten silent retries of every command) would end
a longer blocking call and repeat scripts behind our back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final, TypeVar

from redis import exceptions as redis_errors
from redis.asyncio import Connection

from jobqueue.storage.redis.resp import make_reader

CONNECT_WITHIN: Final = 10.0
"""Seconds for a connection and its login."""


class Wire(asyncio.Protocol):
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
        self._transport.set_protocol(self)
        if stream.at_eof() or stream.exception() is not None:
            # The end came while redis-py had the transport, which stays half open then, and will
            # not be told again.
            self._transport.abort()

    def hear(self, answer: Any) -> None:
        """Take an answer or a message; an error of the server is one that was not raised."""
        raise NotImplementedError

    def ended(self, error: Exception) -> None:
        """Take note of why the connection has ended; may be told more than once."""
        raise NotImplementedError

    @property
    def is_lost(self) -> bool:
        return self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send commands, as they have been packed."""
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        reader, hear = self._reader, self.hear
        try:
            reader.feed(data)
            while (answer := reader.gets()) is not False:
                hear(answer)
        except Exception as error:  # bytes that are no answer, or an answer to nothing
            self.fail(redis_errors.ConnectionError(f"the server sent what nobody asked: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        reason = f": {exc}" if exc else " by the server"
        self.fail(redis_errors.ConnectionError(f"the connection was closed{reason}"))

    def fail(self, error: Exception) -> None:
        """Close the connection now, and say why."""
        self._transport.abort()
        self.ended(error)


W = TypeVar("W", bound=Wire)


async def open_wire(settings: dict[str, Any], take_over: Callable[[Connection], W]) -> W:
    """Connect and log in.

    Args:
        settings: Arguments of redis-py's connection.
        take_over: Makes the wire of it.

    Raises:
        redis.exceptions.RedisError, OSError: It cannot be done, or not within 10 s.
    """
    # A read waits for as long as it takes: who asks says until when.
    arguments: Any = {**settings, "socket_timeout": None}
    connection: Connection = arguments.pop("connection_class", Connection)(**arguments)
    connected = asyncio.create_task(connection.connect())
    try:
        await asyncio.wait([connected], timeout=CONNECT_WITHIN)
        if not connected.done():
            raise redis_errors.TimeoutError(f"no connection within {CONNECT_WITHIN:g} s")
        connected.result()
        return take_over(connection)
    except BaseException:
        connected.cancel()
        await asyncio.wait([connected])
        with contextlib.suppress(redis_errors.RedisError, OSError, TimeoutError):
            await connection.disconnect(nowait=True)
        raise
