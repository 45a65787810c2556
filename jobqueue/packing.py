"""msgpack, typed: the one module that imports it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, cast

import msgpack  # pyright: ignore[reportMissingTypeStubs] - it ships none

_msgpack = cast("Any", msgpack)


_LARGE: Final = 1024 * 1024


class _Packers(threading.local):
    """To make a packer takes longer than to pack a job. One serves one thread."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Make them; or make them anew, to let go of the room that a large value took."""
        # Strict: what is of no type of msgpack's own might, in the middle, run code of its own that
        # wants the packer a second time.
        self.strict = _msgpack.Packer(strict_types=True)
        self.raw = _msgpack.Packer(use_bin_type=False)


_packers: Final = _Packers()


def ext(code: int, data: bytes) -> Any:
    """An extension value, in the form that the packer takes."""
    return _msgpack.ExtType(code, data)


def pack(value: Any, default: Callable[[Any], Any] | None = None) -> bytes:
    """The value as msgpack.

    Args:
        value: What to pack.
        default: Called for a value of no msgpack type; returns one that is.

    Raises:
        TypeError: A value of no msgpack type.
        OverflowError: An int beyond 64 bits.
        ValueError: Nested too deeply, or too large.
    """
    try:
        packed = _packers.strict.pack(value)
    except (TypeError, OverflowError):
        return _msgpack.packb(value, default=default)
    if len(packed) > _LARGE:
        _packers.renew()
    return packed


def unpack(
    data: bytes,
    ext_hook: Callable[[int, bytes], Any] | None = None,
    map_hook: Callable[[list[tuple[Any, Any]]], Any] | None = None,
) -> Any:
    """The one value that the bytes hold; arrays become lists, map keys may be anything hashable.

    Args:
        data: What to unpack.
        ext_hook: Called for each extension value.
        map_hook: Makes a map of its pairs.

    Raises:
        TypeError: A key that cannot be hashed, without a ``map_hook``.
        ValueError: Not exactly one msgpack value (or a subclass of it; see msgpack).
    """
    if ext_hook is None:
        return _msgpack.unpackb(data, strict_map_key=False)
    return _msgpack.unpackb(
        data, strict_map_key=False, ext_hook=ext_hook, object_pairs_hook=map_hook
    )


def pack_raw(value: Any) -> bytes:
    """Like :func:`pack`, with bytes as text: what a Lua script can unpack."""
    packed = _packers.raw.pack(value)
    if len(packed) > _LARGE:
        _packers.renew()
    return packed


def unpack_raw(data: bytes) -> Any:
    """Like :func:`unpack`, with every text as bytes: what a Lua script packed."""
    return _msgpack.unpackb(data, strict_map_key=False, raw=True)
