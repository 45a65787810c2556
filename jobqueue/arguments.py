"""The arguments of a job as text: what makes two jobs the same, and under which key one falls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any, Final, cast
from uuid import UUID

from jobqueue.errors import SerializationError
from jobqueue.ids import MAX_NAME_BYTES

DIGEST_BYTES: Final = 16


class Arguments:
    """What one job is called with.

    Args:
        name: Its job type.
        payload: What the handler gets. Arguments have names if this is a map.
        defaults: Values of the arguments that it does not hold.
        dumps: Serialises a value that is no plain one.
    """

    def __init__(
        self,
        name: str,
        payload: Any,
        defaults: Mapping[str, Any],
        dumps: Callable[[Any], bytes],
    ) -> None:
        self._name = name
        self._payload = payload
        self._given = cast("Mapping[str, Any]", payload) if isinstance(payload, Mapping) else None
        self._defaults = defaults
        self._dumps = dumps

    def unique_key(self, by: tuple[str, ...] | None, option: str) -> str:
        """The text that jobs have in common if they have the same name and, of the arguments
        ``by`` (``None``: all), the same values.

        Raises:
            TypeError: There are no named arguments.
            ValueError: There is no such argument.
            SerializationError: A value cannot be serialised.
        """
        if by == ():
            return self._name
        value = self._all() if by is None else {name: self._named(name, option) for name in by}
        digest = self._digest(value)
        key = f"{self._name}:{digest}"
        return (
            key if len(key.encode()) <= MAX_NAME_BYTES else f"{_hex(self._name.encode())}:{digest}"
        )

    def key(self, argument: str, option: str) -> str:
        """One argument as text of 1 to 255 bytes: of a text, a whole number or a UUID itself, of
        anything else a digest.

        Raises:
            As :meth:`unique_key`.
        """
        value = self._named(argument, option)
        if isinstance(value, str | int | UUID) and not isinstance(value, bool):
            text = str.__str__(value) if isinstance(value, str) else _plain(value)
            if 0 < len(text.encode()) <= MAX_NAME_BYTES:
                return text
        return self._digest(value)

    def _all(self) -> Any:
        return self._payload if self._given is None else {**self._defaults, **self._given}

    def _named(self, argument: str, option: str) -> Any:
        given = self._given
        if given is None:
            raise TypeError(
                f"{option} by {argument!r} needs a payload of {self._name!r} that is a map of "
                f"argument names to values, not {self._payload!r:.80}"
            )
        if argument in given:
            return given[argument]
        if argument in self._defaults:
            return self._defaults[argument]
        known = ", ".join(sorted({*map(str, given), *self._defaults})) or "none"
        raise ValueError(
            f"{option} by {argument!r}: {self._name!r} was given no such argument; it has: {known}"
        )

    def _digest(self, value: Any) -> str:
        try:
            return _hex(_canonical(value, self._dumps))
        except RecursionError:
            raise SerializationError(
                f"an argument of {self._name!r} is nested too deeply to be compared"
            ) from None


def _hex(data: bytes) -> str:
    return blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def _plain(value: int | UUID) -> str:
    return int.__repr__(value) if isinstance(value, int) else str(value)


def _canonical(value: Any, dumps: Callable[[Any], bytes]) -> bytes:
    """Bytes that are the same for values that a handler could not tell apart, or only by the order
    of a map or a set. Every part says its length, so that no two values run into each other."""
    match value:
        case None | True | False:
            return _part(b"c", str(value).encode())
        case str():
            return _part(b"s", value.encode("utf-8", "surrogatepass"))
        case float() if not value.is_integer():
            return _part(b"f", float.__repr__(value).encode())
        case int() | float():  # in another language these are one
            return _part(b"i", int.__repr__(int(value)).encode())
        case bytes() | bytearray():
            return _part(b"b", bytes(value))
        case Mapping():
            pairs = cast("Mapping[Any, Any]", value).items()
            parts = sorted(_canonical(k, dumps) + _canonical(v, dumps) for k, v in pairs)
            return _part(b"m", b"".join(parts))
        case set() | frozenset():
            members = cast("set[Any]", value)
            return _part(b"u", b"".join(sorted(_canonical(each, dumps) for each in members)))
        case list() | tuple():
            members = cast("list[Any]", value)
            return _part(b"l", b"".join(_canonical(each, dumps) for each in members))
        case _:
            return _part(b"x", dumps(value))


def _part(kind: bytes, data: bytes) -> bytes:
    return b"%s%d:%s" % (kind, len(data), data)
