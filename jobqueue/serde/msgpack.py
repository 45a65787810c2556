"""The default serde: msgpack, with extension types for what Python programs pass around.

Extension codes (``docs/wire.md`` has them for other languages):
1 aware datetime, 2 naive datetime, 3 date, 4 time, 5 timedelta, 6 UUID, 7 Decimal, 8 set,
9 frozenset, 10 int beyond 64 bits. Texts are ISO 8601 or decimal digits in ASCII.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from jobqueue.packing import ext, pack, unpack

_AWARE, _NAIVE, _DATE, _TIME, _DELTA, _UUID, _DECIMAL, _SET, _FROZENSET, _BIGINT = range(1, 11)
_MAX_DIGITS: Final = 4096
_INT64: Final = 2**63
_UINT64: Final = 2**64


class MsgpackSerde:
    """msgpack with extension types. ``bytes`` stay bytes; a tuple arrives as a list."""

    name = "msgpack"

    def dumps(self, value: Any) -> bytes:
        """Raises ``TypeError`` or ``ValueError`` for what msgpack cannot hold."""
        try:
            return pack(value, _to_ext)
        except OverflowError:
            # An int beyond 64 bits: the C packer refuses it before it asks the hook.
            return pack(_wrap_big_ints(value, 0), _to_ext)

    def loads(self, data: bytes) -> Any:
        """Raises ``ValueError`` (or a subclass) for anything but one whole msgpack value."""
        return unpack(data, _from_ext)


def _to_ext(value: Any) -> Any:
    if isinstance(value, datetime):
        code = _NAIVE if value.utcoffset() is None else _AWARE
        return ext(code, value.isoformat().encode())
    if isinstance(value, UUID):
        return ext(_UUID, value.bytes)
    if isinstance(value, Decimal):
        return ext(_DECIMAL, str(value).encode())
    if isinstance(value, frozenset):
        return ext(_FROZENSET, pack(list(value), _to_ext))  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, set):
        return ext(_SET, pack(list(value), _to_ext))  # pyright: ignore[reportUnknownArgumentType]
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


def _members(data: bytes) -> list[Any]:
    return [_hashable(item) for item in MsgpackSerde().loads(data)]


def _text(data: bytes) -> str:
    if len(data) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(data)} digits is too long")
    return data.decode("ascii")


_DECODERS: Final[dict[int, Callable[[bytes], Any]]] = {
    _AWARE: lambda data: datetime.fromisoformat(_text(data)),
    _NAIVE: lambda data: datetime.fromisoformat(_text(data)),
    _DATE: lambda data: date.fromisoformat(_text(data)),
    _TIME: lambda data: time.fromisoformat(_text(data)),
    _DELTA: lambda data: timedelta(*unpack(data)),
    _UUID: lambda data: UUID(bytes=data),
    _DECIMAL: lambda data: Decimal(_text(data)),
    _SET: lambda data: set(_members(data)),
    _FROZENSET: lambda data: frozenset(_members(data)),
    _BIGINT: lambda data: int(_text(data)),
}


def _from_ext(code: int, data: bytes) -> Any:
    decode = _DECODERS.get(code)
    if decode is None:
        raise ValueError(f"unknown msgpack extension type {code}")
    return decode(data)


def _wrap_big_ints(value: Any, depth: int) -> Any:
    if depth > 500:
        raise ValueError("nested too deeply")
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        if -_INT64 <= value < _UINT64:
            return value
        digits = str(value).encode()
        _text(digits)
        return ext(_BIGINT, digits)
    if isinstance(value, dict):
        return {
            _wrap_big_ints(key, depth + 1): _wrap_big_ints(item, depth + 1)
            for key, item in value.items()  # pyright: ignore[reportUnknownVariableType]
        }
    if isinstance(value, list | tuple):
        return [_wrap_big_ints(item, depth + 1) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, set | frozenset):
        code = _SET if isinstance(value, set) else _FROZENSET
        members = [_wrap_big_ints(item, depth + 1) for item in value]  # pyright: ignore[reportUnknownVariableType]
        return ext(code, pack(members, _to_ext))
    return value
