"""The default serde: msgpack, with extension types for what Python programs pass around.

Extension codes (``docs/wire.md`` has them for other languages):
1 aware datetime, 2 naive datetime, 3 date, 4 time, 5 timedelta, 6 UUID, 7 Decimal, 8 set,
9 frozenset, 10 int beyond 64 bits. Texts are ISO 8601 or decimal digits in ASCII.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final
from uuid import UUID

from jobqueue.packing import ext, pack, unpack

_AWARE, _NAIVE, _DATE, _TIME, _DELTA, _UUID, _DECIMAL, _SET, _FROZENSET, _BIGINT = range(1, 11)
_MAX_CHARS: Final = 4096
_MAX_SETS: Final = 32
"""Sets within sets. Reading one takes some 40 kB of the C stack, and running out of that ends the
process."""


class MsgpackSerde:
    """msgpack with extension types. ``bytes`` stay bytes; a tuple arrives as a list."""

    name = "msgpack"

    def dumps(self, value: Any) -> bytes:
        """Raises ``TypeError`` or ``ValueError`` for what msgpack cannot hold."""
        return pack(value, _WRITER)

    def loads(self, data: bytes) -> Any:
        """Raises ``ValueError`` (or a subclass) for anything but one whole msgpack value."""
        try:
            return unpack(data, _READER)
        except TypeError:
            # A tuple that was the key of a map has arrived as a list. Rare, so the common path does
            # not pay for it.
            return unpack(data, _READER, _map)


def _to_ext(depth: int, value: Any) -> Any:
    if isinstance(value, int):  # beyond 64 bits, or it would not come here
        return ext(_BIGINT, _digits(value))
    if isinstance(value, datetime):
        code = _NAIVE if value.utcoffset() is None else _AWARE
        return ext(code, value.isoformat().encode())
    if isinstance(value, UUID):
        return ext(_UUID, value.bytes)
    if isinstance(value, Decimal):
        return ext(_DECIMAL, _digits(value))
    if isinstance(value, set | frozenset):
        _check_depth(depth)
        members: list[Any] = list(value)  # pyright: ignore[reportUnknownArgumentType]
        code = _SET if isinstance(value, set) else _FROZENSET
        return ext(code, pack(members, partial(_to_ext, depth + 1)))
    if isinstance(value, date):
        return ext(_DATE, value.isoformat().encode())
    if isinstance(value, time):
        return ext(_TIME, value.isoformat().encode())
    if isinstance(value, timedelta):
        parts = [value.days, value.seconds, value.microseconds]
        return ext(_DELTA, pack(parts))
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__} is not serialisable")


def _hashable(value: Any) -> Any:
    return tuple(_hashable(item) for item in value) if isinstance(value, list) else value  # pyright: ignore[reportUnknownVariableType]


def _members(depth: int, data: bytes) -> list[Any]:
    _check_depth(depth)
    return [_hashable(item) for item in unpack(data, partial(_from_ext, depth + 1), _map)]


def _check_depth(depth: int) -> None:
    if depth >= _MAX_SETS:
        raise ValueError(f"more than {_MAX_SETS} sets are nested in one another")


def _map(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    try:
        return {_hashable(key): value for key, value in pairs}
    except TypeError as error:
        raise ValueError(f"a map has a key that Python cannot have: {error}") from None


def _digits(value: int | Decimal) -> bytes:
    data = str(value).encode()
    _text(data)
    return data


def _text(data: bytes) -> str:
    if len(data) > _MAX_CHARS:
        raise ValueError(f"a text of {len(data)} characters is too long for a number or a time")
    return data.decode("ascii")


_DECODERS: Final[dict[int, Callable[[bytes], Any]]] = {
    _AWARE: lambda data: datetime.fromisoformat(_text(data)),
    _NAIVE: lambda data: datetime.fromisoformat(_text(data)),
    _DATE: lambda data: date.fromisoformat(_text(data)),
    _TIME: lambda data: time.fromisoformat(_text(data)),
    _DELTA: lambda data: timedelta(*unpack(data)),
    _UUID: lambda data: UUID(bytes=data),
    _DECIMAL: lambda data: Decimal(_text(data)),
    _BIGINT: lambda data: int(_text(data)),
}


def _from_ext(depth: int, code: int, data: bytes) -> Any:
    try:
        if code == _SET:
            return set(_members(depth, data))
        if code == _FROZENSET:
            return frozenset(_members(depth, data))
        decode = _DECODERS.get(code)
        if decode is not None:
            return decode(data)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"msgpack extension type {code} holds nonsense: {error}") from error
    raise ValueError(f"unknown msgpack extension type {code}")


_WRITER: Final = partial(_to_ext, 0)
_READER: Final = partial(_from_ext, 0)
