"""The wire format of Redis, version 2: hiredis where it is installed, else the same in Python."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from importlib import import_module
from typing import Any, Final, Protocol, TypeAlias

Command: TypeAlias = tuple[Any, ...]

_CRLF: Final = b"\r\n"


class Reader(Protocol):
    """Takes bytes as they come in, gives answers as they are complete."""

    def feed(self, data: bytes, /) -> Any:
        """Take what was received."""
        ...

    def gets(self) -> Any:
        """The next answer; ``False`` while it is not complete (no answer is ``False`` itself)."""
        ...


class PythonReader:
    """Reads answers without hiredis.

    Args:
        reply_error: Makes an exception of the text of an error answer; it is returned, not raised.
    """

    def __init__(self, reply_error: Callable[[str], Exception]) -> None:
        self._reply_error = reply_error
        self._buffer = bytearray()
        self._answers = self._read_all()
        self._lacks_data = True

    def feed(self, data: bytes, /) -> None:
        self._buffer += data
        self._lacks_data = False

    def gets(self) -> Any:
        return False if self._lacks_data else next(self._answers)

    def _read_all(self) -> Generator[Any, None, None]:
        while True:
            yield (yield from self._read())

    def _read(self) -> Generator[Any, None, Any]:
        line = yield from self._take_line()
        kind, rest = line[:1], line[1:]
        match kind:
            case b"+":
                return rest
            case b"-":
                return self._reply_error(rest.decode("utf-8", "replace"))
            case b":":
                return int(rest)
            case b"$":
                return (yield from self._read_bulk(int(rest)))
            case b"*":
                return (yield from self._read_array(int(rest)))
            case _:
                raise ValueError(f"this is no answer of a Redis server: {line[:40]!r}")

    def _read_bulk(self, size: int) -> Generator[Any, None, Any]:
        if size < 0:
            return None
        data = yield from self._take(size + len(_CRLF))
        return data[:size]

    def _read_array(self, count: int) -> Generator[Any, None, Any]:
        if count < 0:
            return None
        items: list[Any] = []
        for _ in range(count):
            items.append((yield from self._read()))
        return items

    def _take_line(self) -> Generator[Any, None, bytes]:
        searched = 0
        while (end := self._buffer.find(_CRLF, searched)) < 0:
            searched = max(0, len(self._buffer) - 1)
            yield from self._wait()
        line = yield from self._take(end + len(_CRLF))
        return line[:end]

    def _take(self, size: int) -> Generator[Any, None, bytes]:
        while len(self._buffer) < size:
            yield from self._wait()
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _wait(self) -> Generator[Any, None, None]:
        self._lacks_data = True
        yield False


def pack(*commands: Command) -> bytes:
    """Commands as the server reads them, one after the other.

    Raises:
        TypeError: An argument that is no text, bytes or number.
    """
    return b"".join([_packed(b"*%d\r\n" % len(command), command) for command in commands])


def _packed(start: bytes, arguments: Sequence[Any]) -> bytes:
    # Not hiredis's packer: it takes half of this in a loop, and twice as much for a lone job, which
    # finds all code cold.
    parts = [start]
    for argument in arguments:
        if isinstance(argument, bytes):
            data = argument
        elif isinstance(argument, str):
            data = argument.encode()
        elif isinstance(argument, int):
            data = b"%d" % argument
        elif isinstance(argument, float):
            data = repr(argument).encode()
        else:
            raise TypeError(f"an argument must be text, bytes or a number, not {argument!r}")
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


class Prefix:
    """What many commands begin with, packed once."""

    __slots__ = ("_length", "_packed", "_starts")

    def __init__(self, *parts: Any) -> None:
        self._length = len(parts)
        self._packed = _packed(b"", parts)
        self._starts: dict[int, bytes] = {}

    def packed(self, arguments: Sequence[Any]) -> bytes:
        """The command with these arguments."""
        count = len(arguments)
        start = self._starts.get(count)
        if start is None:
            start = self._starts[count] = b"*%d\r\n%b" % (self._length + count, self._packed)
        return _packed(start, arguments)


def _hiredis() -> Any:
    try:
        return import_module("hiredis")
    except ImportError:
        return None


_library: Final = _hiredis()


def make_reader(reply_error: Callable[[str], Exception]) -> Reader:
    """A reader of answers; an error answer is returned as the exception that ``reply_error`` makes
    of its text."""
    if _library is None:
        return PythonReader(reply_error)
    return _library.Reader(replyError=reply_error)
