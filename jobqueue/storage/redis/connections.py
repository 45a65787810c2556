"""Connections: one pool for commands, one connection for each blocked claim.

redis-py's defaults (a socket timeout of 5 s, ten silent retries of every command) would end a
longer blocking call and repeat scripts behind our back, so every setting is said here. Time limits
are ours as well: redis-py sends under ``asyncio.wait_for`` when it has a socket timeout, and that
of Python 3.11 may swallow a cancellation, so that a task which was told to end never does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any, Final, cast

from redis import exceptions as redis_errors
from redis.asyncio import BlockingConnectionPool, Connection, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from jobqueue.errors import ConfigurationError, StorageError
from jobqueue.storage.redis.errors import RETRYABLE, translated
from jobqueue.storage.redis.keys import QueueKeys
from jobqueue.storage.redis.scripts import Script, load
from jobqueue.storage.url import masked

COMMAND_TIMEOUT: Final = 10.0
"""Seconds without an answer after which a connection counts as dead."""
CONNECT_TIMEOUT: Final = 5.0
MAX_BLOCK_MS: Final = 5_000
"""Longest BLMOVE; finite, so that a failover or a lost connection is noticed."""
POOL_SIZE: Final = 16
_RETRY_DELAYS: Final = (0.02, 0.1, 0.3, 0.7)
"""Seconds between the tries of one call; jitter of half of it on top. Longer outages are the
caller's to wait for."""


def connection_settings(url: str) -> dict[str, Any]:
    """The arguments of a connection for a URL, ours over redis-py's defaults.

    Raises:
        ConfigurationError: The URL is malformed.
    """
    address = url.replace("valkeys://", "rediss://", 1).replace("valkey://", "redis://", 1)
    try:
        settings = dict(parse_url(address))
    except (ValueError, TypeError) as error:
        # What the parser says may be a piece of a password, which it took for a port.
        shown = masked(url)
        reason = f": {error}" if shown == url else ""
        raise ConfigurationError(
            f"the URL {shown} is malformed{reason}. Expected redis://HOST:PORT/DB, rediss://..., "
            "valkey://..., valkeys://... or unix:///path; special characters in a password must "
            "be percent-encoded"
        ) from (error if reason else None)
    defaults: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_timeout": COMMAND_TIMEOUT,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
    }
    if settings.get("connection_class") and "path" in settings:
        del defaults["socket_keepalive"]
    # Answers are read as bytes, in the older protocol, whatever a URL says.
    return defaults | settings | {"protocol": 2, "decode_responses": False}


def _client(settings: Any, connections: int) -> Redis:
    """A client that owns a pool of so many connections, and waits for a free one."""
    arguments: Any = {**settings, "socket_timeout": None}
    return Redis.from_pool(
        BlockingConnectionPool(max_connections=connections, timeout=None, **arguments)
    )


def bare_connection(settings: dict[str, Any]) -> Connection:
    """A connection outside any pool, on which a read waits for as long as it takes."""
    arguments: Any = {**settings, "socket_timeout": None}
    connection_class = arguments.pop("connection_class", Connection)
    return connection_class(**arguments)


class Commands:
    """Runs scripts and commands over a small pool."""

    def __init__(self, url: str) -> None:
        self.url = masked(url)
        self.settings = connection_settings(url)
        self.timeout: float = self.settings["socket_timeout"]
        self.redis = _client(self.settings, POOL_SIZE)
        self._closed = False

    async def close(self) -> None:
        """Close every connection; no command makes another one."""
        self._closed = True
        await self.redis.aclose()

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError(f"the storage {self.url} is closed: open it first")

    async def call(
        self, name: str, keys: QueueKeys, arguments: Sequence[Any], worker: str = ""
    ) -> Any:
        """Run a script; try again for about a second when its answer is lost.

        Safe because every script answers a repeat as it did the first time.

        Raises:
            StorageUnavailable: No answer, or a refusal.
        """
        script = load(name)
        names = [keys.named(key, worker) for key in script.keys]
        with translated(self.url):
            for delay in (*_RETRY_DELAYS, None):
                self._check_open()
                try:
                    async with asyncio.timeout(self.timeout):
                        return await run_script(self.redis, script, names, arguments)
                except RETRYABLE:
                    if delay is None:
                        raise
                    await asyncio.sleep(delay * random.uniform(1, 1.5))

    async def read(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run plain read commands in one round trip."""
        self._check_open()
        with translated(self.url):
            pipeline: Any = self.redis.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            async with asyncio.timeout(self.timeout):
                return await pipeline.execute()

    async def execute(self, *command: Any) -> Any:
        """Run one command."""
        self._check_open()
        with translated(self.url):
            async with asyncio.timeout(self.timeout):
                return await _execute(self.redis, *command)


async def run_script(
    redis: Redis, script: Script, keys: Sequence[bytes], arguments: Sequence[Any]
) -> Any:
    """EVALSHA, with the script loaded again when the server has forgotten it."""
    command = ("EVALSHA", script.sha, len(keys), *keys, *arguments)
    try:
        return await _execute(redis, *command)
    except redis_errors.NoScriptError:
        # EVAL would do, but Valkey drops scripts that came by EVAL when it has many of them.
        await _execute(redis, "SCRIPT LOAD", script.source)
        return await _execute(redis, *command)


async def _execute(redis: Redis, *command: Any) -> Any:
    client: Any = redis
    return await client.execute_command(*command)


class Blocker:
    """The one connection on which one worker waits for one queue.

    BLMOVE moves an id into the worker's inbox, and the claim script, sent right behind it in the
    same write, leases it: one round trip from an enqueue to the job with its payload. Nobody relies
    on BLMOVE's own reply. A call is never cancelled: :meth:`unblock` ends it.
    """

    def __init__(self, settings: dict[str, Any], url: str, commands: Commands) -> None:
        self._url = url
        self._commands = commands
        self._client_id: int | None = None
        blocking = {
            **settings,
            "redis_connect_func": self._connected,
        }
        self._redis = _client(blocking, 1)
        self._blocked = False
        self.wanted = False
        """Whether the worker still wants to wait."""

    async def _connected(self, connection: Connection) -> None:
        await connection.on_connect()
        await connection.send_command("CLIENT", "ID")
        self._client_id = int(cast("int", await connection.read_response()))

    async def claim(
        self, keys: QueueKeys, worker: str, arguments: Sequence[Any], block_ms: int
    ) -> Any:
        """Wait up to ``block_ms`` (0: not at all) or 5 s, then run the claim script."""
        script = load("claim")
        names = [keys.named(key, worker) for key in script.keys]
        with translated(self._url):
            if block_ms <= 0:
                async with asyncio.timeout(self._commands.timeout):
                    return await run_script(self._redis, script, names, arguments)
            self._blocked = True
            try:
                pipeline: Any = self._redis.pipeline(transaction=False)
                pipeline.execute_command(
                    "BLMOVE",
                    keys.named("ready"),
                    keys.named("inbox", worker),
                    "LEFT",
                    "RIGHT",
                    min(block_ms, MAX_BLOCK_MS) / 1000,
                )
                pipeline.execute_command("EVALSHA", script.sha, len(names), *names, *arguments)
                async with asyncio.timeout(MAX_BLOCK_MS / 1000 + self._commands.timeout):
                    moved, answer = await pipeline.execute(raise_on_error=False)
            finally:
                self._blocked = False
            if isinstance(answer, redis_errors.NoScriptError):
                # Whatever BLMOVE moved waits in the inbox, where the script looks first.
                async with asyncio.timeout(self._commands.timeout):
                    return await run_script(self._redis, script, names, arguments)
            for reply in (moved, answer):
                if isinstance(reply, Exception):
                    raise reply
            return answer

    async def unblock(self) -> None:
        """End a wait that is under way on the server."""
        if self._blocked and self._client_id is not None:
            await self._commands.execute("CLIENT UNBLOCK", self._client_id)

    async def close(self) -> None:
        """Close the connection."""
        await self._redis.aclose()
