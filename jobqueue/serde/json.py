"""JSON, for queues that programs in other languages read by eye. Plain JSON types only."""

from __future__ import annotations

import json
import math
from typing import Any, cast

from jobqueue.serde.base import MAX_DEPTH


class JsonSerde:
    """UTF-8 JSON without NaN, infinities, duplicate keys or more than 64 levels."""

    name = "json"

    def dumps(self, value: Any) -> bytes:
        """Raises ``TypeError`` or ``ValueError`` for what JSON cannot hold."""
        _check(value, 0)
        return json.dumps(
            value, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        ).encode()

    def loads(self, data: bytes) -> Any:
        """Raises ``ValueError`` for anything but one whole JSON value within the limits."""
        value = json.loads(
            data, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_unique
        )
        _check(value, 0)
        return value


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits:.40} is too large for a float")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return result


def _key(key: Any) -> Any:
    """A key as its text in JSON."""
    return json.dumps(key) if isinstance(key, int | float | None) else key


def _check(value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        items = cast("dict[Any, Any]", value)
        if len({_key(key) for key in items}) != len(items):
            raise ValueError("two keys of one map are the same text in JSON")
        for item in items.values():
            _check(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in cast("list[Any] | tuple[Any, ...]", value):
            _check(item, depth + 1)
