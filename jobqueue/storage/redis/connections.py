"""How commands reach the server: scripts over one link, a blocked claim on one of its own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Never, cast

from redis import exceptions as redis_errors
from redis.asyncio import Connection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from jobqueue.errors import ConfigurationError, StorageError
from jobqueue.storage.redis.errors import RETRYABLE, translated
from jobqueue.storage.redis.keys import QueueKeys
from jobqueue.storage.redis.links import Link
from jobqueue.storage.redis.resp import Command, Prefix, pack
from jobqueue.storage.redis.scripts import load
from jobqueue.storage.url import is_misread, masked

COMMAND_TIMEOUT: Final = 10.0
"""Seconds without an answer after which a connection counts as dead."""
CONNECT_TIMEOUT: Final = 5.0
MAX_BLOCK_MS: Final = 5_000
"""Longest BLMOVE; finite, so that a failover or a lost connection is noticed."""
_LOOK_EVERY: Final = 0.1
"""Seconds between two claims on a server that is out of memory, and refuses to let anybody wait."""
_RETRY_DELAYS: Final = (0.02, 0.1, 0.3, 0.7)
"""Seconds between the tries of one call; jitter of half of it on top. Longer outages are the
caller's to wait for."""
_FIRST: Final = pack(("PING",))
"""Sent in front of a script. A server that has something for several connections writes to them in
reverse, beginning with the one for which it had something last. So whoever is told something by a
script hears of it before the one that ran the script."""
_SILENCE: Final = pack(("CLIENT", "REPLY", "SKIP"))
"""Sent in front of a command, it spares both their answers, errors included."""
_NOT_THE_PRIMARY: Final = (redis_errors.ReadOnlyError, redis_errors.MasterDownError)


def connection_settings(url: str) -> dict[str, Any]:
    """The arguments of a connection for a URL, ours over redis-py's defaults.

    Raises:
        ConfigurationError: The URL is malformed.
    """
    address = url.replace("valkeys://", "rediss://", 1).replace("valkey://", "redis://", 1)
    try:
        if is_misread(address):
            raise ValueError("it is no address of a server")
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


class Commands:
    """Runs scripts and commands over one link, which all tasks share."""

    def __init__(self, url: str) -> None:
        self.url = masked(url)
        self.settings = connection_settings(url)
        self.timeout: float = self.settings["socket_timeout"]
        self._link = Link(self.settings)
        self._heads: dict[tuple[str, QueueKeys], Prefix] = {}
        self._closed = False
        self._may_be_silent = False

    async def try_silence(self) -> None:
        """See whether the server can be told not to answer."""
        with suppress(StorageError):
            await self.execute(("PING",), ("CLIENT", "REPLY", "ON"))
            self._may_be_silent = True

    async def close(self) -> None:
        """Send no more, and close the connection when what was sent has been answered."""
        self._closed = True
        await self._link.close()

    async def call(
        self, name: str, keys: QueueKeys, arguments: Sequence[Any], worker: str = ""
    ) -> Any:
        """Run a script; try again for about a second when its answer is lost.

        Safe because every script answers a repeat as it did the first time.

        Raises:
            StorageUnavailable: No answer, or a refusal.
        """
        head = evalsha(name, keys, worker) if worker else self._head(name, keys)
        command = head.packed(arguments)
        with translated(self.url):
            for delay in (*_RETRY_DELAYS, None):
                try:
                    first, answer = await self._send(_FIRST + command, 2)
                    if self._may_be_silent and isinstance(first, redis_errors.NoPermissionError):
                        self._lose_step()
                    if isinstance(answer, redis_errors.NoScriptError):
                        answer = await reloaded(self._send, name, command)
                except RETRYABLE:
                    if delay is None:
                        raise
                    await asyncio.sleep(delay * random.uniform(1, 1.5))
                else:
                    return _accepted(answer, self._link)

    def send(self, name: str, keys: QueueKeys, arguments: Sequence[Any]) -> bool:
        """Have a script run that answers nothing, not even an error, if that can be done.

        Returns:
            Whether it was sent.
        """
        if not self._may_be_silent:
            return False
        return self._link.send(_SILENCE + self._head(name, keys).packed(arguments))

    def _lose_step(self) -> Never:
        """What was not to be answered was, since this user may no longer ask for that: whose the
        answers are cannot be told."""
        self._may_be_silent = False
        self._link.leave()
        raise redis_errors.ConnectionError("the permissions of this user have changed")

    def _head(self, name: str, keys: QueueKeys) -> Prefix:
        head = self._heads.get((name, keys))
        if head is None:
            head = self._heads[name, keys] = evalsha(name, keys)
        return head

    async def execute(self, *commands: Command) -> list[Any]:
        """Run plain commands in one round trip.

        Raises:
            StorageUnavailable: No answer, or a refusal.
        """
        with translated(self.url):
            answers = await self._send(pack(*commands), len(commands))
            return [unwrap(answer) for answer in answers]

    def _send(self, data: bytes, count: int) -> Awaitable[list[Any]]:
        if self._closed:
            raise StorageError(f"the storage {self.url} is closed: open it first")
        return self._link.execute(data, count, self.timeout)


def evalsha(name: str, keys: QueueKeys, worker: str = "") -> Prefix:
    """The command that runs a script the server knows, up to its arguments."""
    script = load(name)
    names = [keys.named(key, worker) for key in script.keys]
    return Prefix("EVALSHA", script.sha, len(names), *names)


def load_script(name: str) -> bytes:
    """The command that makes a script known. EVAL would do, but Valkey drops scripts that came by
    EVAL when it has many of them."""
    return pack(("SCRIPT", "LOAD", load(name).source))


async def reloaded(
    send: Callable[[bytes, int], Awaitable[list[Any]]], name: str, command: bytes
) -> Any:
    """Make a forgotten script known, and run it: the answer, which may be an error.

    It may be forgotten again in between. What is sent in one write need not be served in one go:
    the server reads a long command in pieces, and serves others meanwhile.
    """
    while True:
        loaded, answer = await send(load_script(name) + command, 2)
        if not isinstance(answer, redis_errors.NoScriptError):
            return answer
        unwrap(loaded)


def unwrap(answer: Any) -> Any:
    """An answer of the server, raised if it is an error."""
    if isinstance(answer, Exception):
        raise answer
    return answer


def _accepted(answer: Any, link: Link) -> Any:
    """An answer to a script, raised if it is an error.

    A server that has become a replica keeps its connections open and refuses for ever, while its
    name or address may lead to the new primary by now: so it is left.
    """
    if isinstance(answer, Exception):
        if isinstance(answer, _NOT_THE_PRIMARY):
            link.leave()
        raise answer
    return answer


def _jobs_of(claimed: list[Any]) -> list[Any]:
    """The jobs in the answer of the claim script."""
    return claimed[2]


class Blocker:
    """The one connection on which one worker waits for one queue.

    BLMOVE moves an id into the worker's inbox, and the claim script, sent right behind it in the
    same write, leases it: one round trip from an enqueue to the job with its payload. Nobody relies
    on BLMOVE's own reply. A call is never cancelled: :meth:`unblock` ends it.
    """

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._client_id: int | None = None
        self._head: Prefix | None = None
        self._link = Link({**commands.settings, "redis_connect_func": self._connected})
        self._blocked = False
        self._ending: asyncio.Future[None] | None = None
        self.wanted = False
        """Whether the worker still wants to wait."""

    async def _connected(self, connection: Connection) -> None:
        await connection.on_connect()
        await connection.send_command("CLIENT", "ID")
        self._client_id = int(cast("int", await connection.read_response()))

    async def claim(
        self, keys: QueueKeys, worker: str, arguments: Sequence[Any], block_ms: int
    ) -> Any:
        """Wait up to ``block_ms`` (0: not at all) or 5 s, then run the claim script.

        An idle server ends a wait up to 100 ms late (it looks ten times a second), and a job may be
        due then. So a shorter wait is ended from here.
        """
        if self._head is None:
            self._head = evalsha("claim", keys, worker)
        command = self._head.packed(arguments)
        with translated(self._commands.url):
            if block_ms <= 0:
                (answer,) = await self._send(command, 1)
            else:
                answer = await self._wait_and_claim(keys, worker, command, block_ms)
            if isinstance(answer, redis_errors.NoScriptError):
                # Whatever BLMOVE moved waits in the inbox, where the script looks first.
                answer = await reloaded(self._send, "claim", command)
            return _accepted(answer, self._link)

    async def _wait_and_claim(
        self, keys: QueueKeys, worker: str, claim: bytes, block_ms: int
    ) -> Any:
        seconds = min(block_ms, MAX_BLOCK_MS) / 1000
        ready, inbox = keys.named("ready"), keys.named("inbox", worker)
        wait = ("BLMOVE", ready, inbox, "LEFT", "RIGHT", f"{seconds:.3f}")
        self._blocked = True
        timer = None
        if block_ms < MAX_BLOCK_MS:
            timer = asyncio.get_running_loop().call_later(seconds, self._end_wait)
        try:
            moved, answer = await self._link.execute(
                pack(wait) + claim, 2, seconds + self._commands.timeout
            )
        except asyncio.CancelledError:
            # Nobody will hear what this wait brings: the server is to give it up.
            await self._link.abort()
            raise
        finally:
            self._blocked = False
            if timer is not None:
                timer.cancel()
        if isinstance(moved, redis_errors.OutOfMemoryError):
            # What may store something is refused, a wait included; what is there can be run.
            if not isinstance(answer, Exception) and not _jobs_of(answer):
                await asyncio.sleep(min(seconds, _LOOK_EVERY))
            return answer
        if isinstance(moved, Exception) and not isinstance(answer, Exception):
            # A refusal to wait is no reason to forget what the claim brought.
            return answer if _jobs_of(answer) else moved
        return answer

    def _send(self, data: bytes, count: int) -> Awaitable[list[Any]]:
        return self._link.execute(data, count, self._commands.timeout)

    def _end_wait(self) -> None:
        self._ending = asyncio.ensure_future(self._try_to_unblock())

    async def _try_to_unblock(self) -> None:
        with suppress(StorageError):  # then the server ends the wait by itself
            await self.unblock()

    async def unblock(self) -> None:
        """End a wait that is under way on the server."""
        if self._blocked and self._client_id is not None:
            await self._commands.execute(("CLIENT", "UNBLOCK", self._client_id))

    async def close(self) -> None:
        """Close the connection at once."""
        if self._ending is not None:
            self._ending.cancel()
        await self._link.abort()
