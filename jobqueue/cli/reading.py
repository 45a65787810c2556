"""What command lines say in text: payloads, moments, rules, numbers that may be none."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, NoReturn, TypedDict, cast

from jobqueue.cli.exits import CommandError, usage_errors
from jobqueue.limits import Rate
from jobqueue.uniqueness import Debounce, KeepLast, Throttle, Unique

_RATE: Final = re.compile(r"(\d+)/(\d+(?:\.\d+)?)?(ms|s|m|h|d)?", re.ASCII)
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def read_payload(text: str | None) -> Any:
    """The payload of a command line: JSON text, ``-`` for standard input, ``@file``.

    Raises:
        CommandError: It is no JSON, or cannot be read.
    """
    if text is None:
        return None
    try:
        return json.loads(_payload_text(text), parse_constant=_refuse_constant)
    except OSError as error:
        raise CommandError(f"the payload cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise CommandError(
            f"the payload is no JSON: {error}. Text needs its double quotes, as in '\"text\"'; "
            'a job type takes a map of its arguments, as in \'{"path": "a.jpg"}\''
        ) from error


def _payload_text(text: str) -> str:
    if text == "-":
        return sys.stdin.buffer.read().decode()
    if text.startswith("@"):
        return Path(text[1:]).read_bytes().decode()
    return text


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} does not exist in JSON")


def read_moment(text: str | None, option: str) -> datetime | None:
    """A moment in ISO 8601, with its offset.

    Raises:
        CommandError: Not one.
    """
    if text is None:
        return None
    example = "such as 2026-03-29T02:30:00+02:00 or 2026-03-29T00:30:00Z"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(f"{option} must be a date and time {example}, not {text!r}") from error
    if moment.utcoffset() is None:
        raise CommandError(f"{option} needs an offset from UTC, {example}; {text!r} has none")
    return moment


def read_number(text: str | None, kind: type[int] | type[float], option: str) -> float | None:
    """A number, or ``None`` for ``none``.

    Raises:
        CommandError: Neither.
    """
    if text is None or text == "none":
        return None
    try:
        return kind(text)
    except ValueError as error:
        raise CommandError(f"{option} must be a number or none, not {text!r}") from error


def read_rate(text: str | None, kind: str | None, burst: int | None) -> Rate | None:
    """A rate such as ``200/s``, ``100/60s`` or ``5/m``.

    Raises:
        CommandError: Not one, or a kind or a burst without one.
    """
    if text is None:
        if kind is not None or burst is not None:
            raise CommandError("--kind and --burst go with --rate")
        return None
    found = _RATE.fullmatch(text)
    if found is None:
        raise CommandError(
            f"--rate must be jobs in a time, such as 200/s, 100/60s or 5/m, not {text!r}"
        )
    count, number, unit = found.groups()
    with usage_errors():
        return Rate(
            int(count),
            per=round(float(number or 1) * _UNITS[unit or "s"], 3),
            kind=cast('Literal["sliding", "bucket"]', kind or "sliding"),
            burst=burst or 1,
        )


class Rule(TypedDict, total=False):
    """The options of a job about others like it: one of them at most."""

    unique: Unique
    throttle: Throttle
    debounce: Debounce
    keep_last: KeepLast


def read_rule(
    *,
    unique: str | None,
    throttle: float | None,
    debounce: float | None,
    max_wait: float | None,
    keep_last: bool,
    by: Sequence[str] | None,
) -> Rule:
    """What ``--unique``, ``--throttle``, ``--debounce`` and ``--keep-last`` say together.

    Raises:
        CommandError: They do not go together, or a value that cannot be.
    """
    if max_wait is not None and debounce is None:
        raise CommandError("--max-wait goes with --debounce")
    rule: Rule = {}
    with usage_errors():
        if unique is not None:
            rule["unique"] = Unique(by=by or None, until=_until(unique))
        if throttle is not None:
            rule["throttle"] = Throttle(throttle, by=by or ())
        if debounce is not None:
            rule["debounce"] = Debounce(debounce, max_wait=max_wait, by=by or ())
        if keep_last:
            rule["keep_last"] = KeepLast(by=by or ())
    if by and not rule:
        raise CommandError("--by goes with --unique, --throttle, --debounce or --keep-last")
    return rule


def _until(text: str) -> Literal["finished", "started"] | float:
    if text == "finished" or text == "started":
        return text
    try:
        return float(text)
    except ValueError:
        raise CommandError(f"--unique must be finished, started or seconds, not {text!r}") from None
