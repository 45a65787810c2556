"""The spec: what a producer writes once about a job and nobody changes.

A msgpack array, so that a program in another language can write one too: the version (1), the
payload (the serde's bytes), and where there is any a map of what is not the default: ``serde``,
``timeout_ms`` (0 for none), ``max_attempts`` and ``retry``. Only what the call or its job type says
is written: the rest is the worker's to fill in from its own job type and queue.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, cast

from jobqueue.options import JobOptions
from jobqueue.packing import pack, unpack
from jobqueue.retry import Backoff, backoff_from_wire, backoff_to_wire
from jobqueue.values import MAX_MS, UNSET, check_count, to_ms

VERSION: Final = 1
DEFAULT_SERDE: Final = "msgpack"


class SpecError(ValueError):
    """A spec that cannot be read; the message says why."""


class Spec(NamedTuple):
    """A decoded spec. ``None`` leaves the choice to the worker's job type and queue.

    Attributes:
        payload: Bytes, still serialised.
        serde: Name of the serde that wrote them.
        timeout_ms: Milliseconds one attempt may run; 0 for no limit.
        max_attempts: Attempts in total.
        retry: Backoff policy.
    """

    payload: bytes
    serde: str = DEFAULT_SERDE
    timeout_ms: int | None = None
    max_attempts: int | None = None
    retry: Backoff | None = None


def encode_spec(payload: bytes, serde: str, options: JobOptions) -> bytes:
    """Write a spec.

    Raises:
        TypeError: The retry policy is a function, which cannot travel.
    """
    more: dict[str, Any] = {}
    if serde != DEFAULT_SERDE:
        more["serde"] = serde
    if options.timeout is not UNSET:
        more["timeout_ms"] = 0 if options.timeout is None else to_ms(options.timeout, "timeout")
    if options.max_attempts is not UNSET:
        more["max_attempts"] = options.max_attempts
    if options.retry is not UNSET:
        more["retry"] = backoff_to_wire(options.retry)
    return pack([VERSION, payload, more] if more else [VERSION, payload])


def decode_spec(data: bytes) -> Spec:
    """Read a spec.

    Raises:
        SpecError: Not a spec, or one of a newer version of the library.
    """
    try:
        spec = unpack(data)
    except Exception as error:
        raise SpecError(f"the job's spec cannot be decoded: {error}") from error
    if not isinstance(spec, list) or not spec:
        raise SpecError("the job's spec cannot be decoded: it is no array with a version")
    parts: list[Any] = spec  # pyright: ignore[reportUnknownVariableType]
    if parts[0] != VERSION:
        raise SpecError(
            f"the job's spec has version {parts[0]!r}, this worker reads {VERSION}: "
            "it was written by another version of jobqueue; upgrade the workers first"
        )
    if len(parts) < 2 or not isinstance(parts[1], bytes):
        raise SpecError("the job's spec cannot be decoded: its payload is no bytes")
    if len(parts) == 2:
        return Spec(parts[1])
    more: Any = parts[2]
    if not isinstance(more, dict):
        raise SpecError("the job's spec cannot be decoded: its options are no map")
    fields = cast("dict[Any, Any]", more)
    try:
        return Spec(
            payload=parts[1],
            serde=str(fields.get("serde", DEFAULT_SERDE)),
            timeout_ms=_optional_ms(fields.get("timeout_ms")),
            max_attempts=_optional_count(fields.get("max_attempts")),
            retry=None if "retry" not in fields else backoff_from_wire(fields["retry"]),
        )
    except (TypeError, ValueError) as error:
        raise SpecError(f"the job's spec cannot be decoded: {error}") from error


def _optional_ms(value: Any) -> int | None:
    if value is None or (type(value) is int and 0 <= value <= MAX_MS):
        return value
    raise ValueError(f"timeout_ms is no number of milliseconds: {value!r}")


def _optional_count(value: Any) -> int | None:
    return None if value is None else check_count(value, "max_attempts")
