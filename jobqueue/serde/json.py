"""JSON, for queues that programs in other languages read by eye. Plain JSON types only."""

from __future__ import annotations

import json
from typing import Any

from jobqueue.serde.base import MAX_DEPTH


class JsonSerde:
    """UTF-8 JSON without NaN, infinities, duplicate keys or more than 64 levels."""

    name = "json"

    def dumps(self, value: Any) -> bytes:
        """Raises ``TypeError`` or ``ValueError`` for what JSON cannot hold."""
        _check_depth(value, 0)
        return json.dumps(
            value, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        ).encode()

    def loads(self, data: bytes) -> Any:
        """Raises ``ValueError`` for anything but one whole JSON value within the limits."""
        value = json.loads(data, parse_constant=_refuse, object_pairs_hook=_unique)
        _check_depth(value, 0)
        return value


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return result


def _check_depth(value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        for item in value.values():  # pyright: ignore[reportUnknownVariableType]
            _check_depth(item, depth + 1)
    elif isinstance(value, list):
        for item in value:  # pyright: ignore[reportUnknownVariableType]
            _check_depth(item, depth + 1)
