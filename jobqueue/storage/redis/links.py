"""Connections that send commands in one write and read the answers in order.

Over redis-py's connections, which connect, log in, encode and parse; not over its client, whose
pool, retries and time limits take longer for a lone command (80 to 120 microseconds of Python) than
the server and the network together (20 to 30 in this way). And its defaults (a socket timeout of
5 s, ten silent retries of every command) would end a longer blocking call and repeat scripts behind
our back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Final, TypeAlias

from redis import exceptions as redis_errors
from redis.asyncio import Connection

from jobqueue.errors import StorageError

Command: TypeAlias = tuple[Any, ...]

POOL_SIZE: Final = 16
"""Commands of one storage that may be on their way at the same time."""


def _packer() -> Callable[[Command], bytes] | None:
    """hiredis's, which is ten times as fast as redis-py's; ``None`` where it is not installed."""
    try:
        hiredis: Any = import_module("hiredis")
    except ImportError:
        return None
    return hiredis.pack_command


_pack: Final = _packer()


def make_connection(settings: dict[str, Any]) -> Connection:
    """A connection on which a read waits for as long as it takes."""
    arguments: Any = {**settings, "socket_timeout": None}
    connection_class = arguments.pop("connection_class", Connection)
    return connection_class(**arguments)


async def disconnect(connection: Connection) -> None:
    """Close a connection, whatever state it is in."""
    with contextlib.suppress(redis_errors.RedisError, OSError, TimeoutError):
        await connection.disconnect(nowait=True)


class Link:
    """One connection, used by one task at a time. It connects when it is needed."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._connection = make_connection(settings)
        self._closing: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        return self._connection.is_connected

    async def execute(self, commands: Sequence[Command], seconds: float) -> list[Any]:
        """Send commands in one write and wait for all answers.

        Returns:
            An answer for each command; an error of the server is returned, not raised.

        Raises:
            redis.exceptions.TimeoutError: No answer within ``seconds``; it may have run.
            redis.exceptions.ConnectionError: The connection was lost; it may have run.
        """
        connection = self._connection
        # Closing the connection ends the read: cheaper than a time limit around each command, and
        # safe, since whoever is cancelled or late must not leave its answer to the next one.
        self._closing = None
        timer = asyncio.get_running_loop().call_later(seconds, self._expire)
        try:
            if not connection.is_connected:
                await connection.connect()
            await connection.send_packed_command(self._packed(commands), check_health=False)
            return [await self._answer() for _ in commands]
        except BaseException as error:
            await disconnect(connection)
            if self._closing is not None and isinstance(error, redis_errors.ConnectionError):
                raise redis_errors.TimeoutError(f"no answer within {seconds:g} s") from error
            raise
        finally:
            timer.cancel()

    def _packed(self, commands: Sequence[Command]) -> bytes:
        if _pack is not None:
            return b"".join([_pack(command) for command in commands])
        return b"".join(
            [piece for command in commands for piece in self._connection.pack_command(*command)]
        )

    async def _answer(self) -> Any:
        connection: Any = self._connection
        try:
            return await connection.read_response()
        except redis_errors.ResponseError as error:
            return error

    def _expire(self) -> None:
        self._closing = asyncio.create_task(self.close())

    async def close(self) -> None:
        """Close the connection."""
        await disconnect(self._connection)


class Links:
    """A few links for commands that do not wait long."""

    def __init__(self, settings: dict[str, Any], url: str, seconds: float) -> None:
        self._settings = settings
        self._url = url
        self._seconds = seconds
        self._idle: list[Link] = []
        self._free = asyncio.Semaphore(POOL_SIZE)
        self._closed = False

    async def execute(self, *commands: Command) -> list[Any]:
        """Run commands in one round trip; see :meth:`Link.execute`.

        Raises:
            StorageError: Closed.
        """
        async with self._free:
            if self._closed:
                raise StorageError(f"the storage {self._url} is closed: open it first")
            link = self._idle.pop() if self._idle else Link(self._settings)
            try:
                return await link.execute(commands, self._seconds)
            finally:
                if link.is_connected and not self._closed:
                    self._idle.append(link)
                else:
                    await link.close()

    async def close(self) -> None:
        """Close what is idle now, and the rest as it comes back; make no new one."""
        self._closed = True
        while self._idle:
            await self._idle.pop().close()
