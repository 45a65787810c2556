"""A proxy in front of a server that delays, cuts, or forwards a command and drops its reply.

A rule sees each command before it is forwarded, scripts by their names, and says what is to become
of it. Nothing is known of the answers but where each ends::

    async with Proxy(url) as proxy:
        proxy.rule = drop_replies("finish", times=2)
        storage = RedisStorage(proxy.url)
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from jobqueue.storage.redis.scripts import load, scripts_folder

_LIMIT: Final = 64 * 1024 * 1024
_SUBSCRIBING: Final = frozenset(
    kind + verb for kind in ("", "P", "S") for verb in ("SUBSCRIBE", "UNSUBSCRIBE")
)


class Call(NamedTuple):
    """A command on its way.

    Attributes:
        name: Of the script, in lower case; of any other command, in upper case.
        arguments: What follows the command's name.
        connection: Number of the connection.
    """

    name: str
    arguments: list[bytes]
    connection: int


class Fate(Enum):
    """What becomes of a command."""

    FORWARD = "forward"
    CUT = "cut"
    """It never arrives; the connection is closed."""
    DROP_REPLY = "drop the reply"
    """It runs; the connection is closed in place of the answer."""
    SWALLOW_REPLY = "swallow the reply"
    """It runs; its answer never comes, and all else goes on. The client counts answers, so only for
    one that gives the connection up then."""


@dataclass(frozen=True, slots=True)
class Refused:
    """It never arrives; this is answered, as a server in some bad state would: ``LOADING ...``."""

    text: str


@dataclass(frozen=True, slots=True)
class Delayed:
    """It is forwarded that many seconds later, and what comes behind it too."""

    seconds: float


Verdict: TypeAlias = Fate | Delayed | Refused
Rule: TypeAlias = Callable[[Call], Verdict]


def forward(call: Call) -> Fate:
    """The rule that lets everything pass."""
    return Fate.FORWARD


class FirstCalls:
    """A rule for the first calls of one name; all else passes.

    Attributes:
        left: How many of them are still to come.
    """

    def __init__(self, name: str, times: int, fate: Verdict) -> None:
        self._name = name
        self._fate = fate
        self.left = times

    def __call__(self, call: Call) -> Verdict:
        if call.name != self._name or not self.left:
            return Fate.FORWARD
        self.left -= 1
        return self._fate


def refuse_scripts(text: str) -> Rule:
    """The rule that answers every script, and every wait for a job, with an error."""
    names = {*script_names().values(), "BLMOVE"}
    return lambda call: Refused(text) if call.name in names else Fate.FORWARD


def drop_replies(name: str, times: int = 1) -> FirstCalls:
    """The rule that drops the replies of the first calls of a script or command."""
    return FirstCalls(name, times, Fate.DROP_REPLY)


@cache
def script_names() -> dict[bytes, str]:
    """The name of each script by its SHA."""
    return {load(path.stem).sha.encode(): path.stem for path in scripts_folder().glob("*.lua")}


class Proxy:
    """Listens on a free port of the loopback, and forwards to one server.

    Args:
        url: Of the server.

    Attributes:
        url: Of the proxy, with the same database.
        rule: Decides about each command.
        calls: The names of all commands so far.
    """

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._upstream = self._parts
        self.url = ""
        self.rule: Rule = forward
        self.calls: list[str] = []
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._count = 0

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_LIMIT)
        port = self._server.sockets[0].getsockname()[1]
        self.url = urlunsplit(self._parts._replace(netloc=f"127.0.0.1:{port}"))
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        await self.cut_all()

    def lead_to(self, url: str) -> None:
        """Let new connections go to another server; those that are open stay where they are."""
        self._upstream = urlsplit(url)

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        return len(self._connections)

    async def cut_all(self) -> None:
        """Close every connection."""
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        if connections:
            await asyncio.wait(connections)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._count += 1
        task = asyncio.create_task(self._serve(reader, writer, self._count), name="proxy")
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        upstream: asyncio.StreamWriter | None = None
        try:
            answers, upstream = await asyncio.open_connection(
                self._upstream.hostname, self._upstream.port, limit=_LIMIT
            )
            fates: deque[Fate | Refused] = deque()
            await _either(
                self._pass_commands(reader, upstream, number, fates),
                _pass_answers(answers, writer, fates),
            )
        finally:
            for each in (writer, upstream):
                if each is not None:
                    each.transport.abort()

    async def _pass_commands(
        self,
        reader: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
        number: int,
        fates: deque[Fate | Refused],
    ) -> None:
        is_silent = False
        while True:
            frame = await _read_frame(reader)
            call = _call(frame, number)
            if call.arguments == [b"REPLY", b"SKIP"]:
                is_silent = True
                upstream.write(frame)
                continue
            self.calls.append(call.name)
            fate = self.rule(call)
            if fate is Fate.CUT:
                return
            if isinstance(fate, Delayed):
                await asyncio.sleep(fate.seconds)
                fate = Fate.FORWARD
            if isinstance(fate, Refused):
                frame = b"PING\r\n"  # whose answer keeps the place for the refusal
            upstream.write(frame)
            if is_silent:
                is_silent = False
                if fate is Fate.DROP_REPLY:
                    return
            elif call.name not in _SUBSCRIBING:  # these have an answer for each channel
                fates.append(fate)


async def _pass_answers(
    answers: asyncio.StreamReader, writer: asyncio.StreamWriter, fates: deque[Fate | Refused]
) -> None:
    while True:
        frame = await _read_frame(answers)
        fate = fates.popleft() if fates else Fate.FORWARD
        if fate is Fate.DROP_REPLY:
            return
        if isinstance(fate, Refused):
            frame = f"-{fate.text}\r\n".encode()
        if fate is not Fate.SWALLOW_REPLY:
            writer.write(frame)


async def _either(*pumps: Coroutine[Any, Any, None]) -> None:
    """Run until one of them ends, whichever way."""
    tasks = [asyncio.create_task(pump) for pump in pumps]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception) and not isinstance(outcome, _ENDS):
                raise outcome


_ENDS: Final = (OSError, asyncio.IncompleteReadError)


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    """One whole command or answer, as it came."""
    line = await reader.readuntil(b"\r\n")
    size = int(line[1:]) if line[:1] in b"$*" else 0
    if line[:1] == b"$" and size >= 0:
        return line + await reader.readexactly(size + 2)
    if line[:1] == b"*":
        return b"".join([line, *[await _read_frame(reader) for _ in range(size)]])
    return line


def _call(frame: bytes, connection: int) -> Call:
    parts = _parts(frame)
    name = parts[0].decode().upper()
    if name == "EVALSHA":
        name = script_names()[parts[1]]
    return Call(name, parts[1:], connection)


def _parts(frame: bytes) -> list[bytes]:
    """The texts of a command, which is an array of them."""
    found: list[bytes] = []
    at = frame.index(b"\r\n") + 2
    with contextlib.suppress(ValueError):
        while at < len(frame):
            start = frame.index(b"\r\n", at) + 2
            end = start + int(frame[at + 1 : start - 2])
            found.append(frame[start:end])
            at = end + 2
    return found
