"""What users say about jobs that are one too many: one at a time, the first, the last, or two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

from jobqueue.flow import UniqueUntil
from jobqueue.ids import check_name
from jobqueue.values import Seconds, to_ms

By: TypeAlias = str | Sequence[str] | None
"""Names of arguments: jobs are the same if these are. ``()`` for none (all jobs of the job type are
the same), ``None`` for all arguments."""


class Rule(NamedTuple):
    """Any of the classes below, in the terms of the port.

    Attributes:
        option: Which option says so, for messages.
        by: Names of arguments; ``None`` for all of them.
        until: How long the job that is there counts.
        window_ms: With ``ELAPSED``: so long.
        replace: A later job takes the place of one that has not started.
        max_wait_ms: No replacement makes it due later than that after its enqueue; 0 for no bound.
        delay_ms: Due this long after the enqueue.
        alone: Only one of a key runs at a time.
    """

    option: str
    by: tuple[str, ...] | None
    until: UniqueUntil
    window_ms: int = 0
    replace: bool = False
    max_wait_ms: int = 0
    delay_ms: int = 0
    alone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unique:
    """While there is a job, no second one of the same kind is stored.

    Attributes:
        by: Names of the arguments that make jobs the same. Default: all of them.
        until: ``"finished"`` (the default: until the job has ended), ``"started"`` (until it is
            first taken by a worker) or seconds from its enqueue, whatever becomes of it.
    """

    by: By = None
    until: Literal["finished", "started"] | Seconds = "finished"

    def __post_init__(self) -> None:
        self.rule()

    def rule(self) -> Rule:
        by = names_of(self.by, "Unique(by=...)")
        if isinstance(self.until, str):
            if self.until not in ("finished", "started"):
                raise ValueError(
                    'Unique(until=...) must be "finished", "started" or seconds, '
                    f"not {self.until!r}"
                )
            return Rule("unique", by, UniqueUntil(self.until))
        window_ms = to_ms(self.until, "Unique(until=...)")
        return Rule("unique", by, UniqueUntil.ELAPSED, window_ms=window_ms)


@dataclass(frozen=True, slots=True)
class Throttle:
    """The first job of a time wins; those that come within it are not stored.

    Attributes:
        seconds: The time, from the enqueue of the first.
        by: Names of the arguments that make jobs the same. Default: none, so that all jobs of the
            job type are.
    """

    seconds: Seconds
    by: By = ()

    def __post_init__(self) -> None:
        self.rule()

    def rule(self) -> Rule:
        by = names_of(self.by, "Throttle(by=...)")
        window_ms = to_ms(self.seconds, "throttle")
        return Rule("throttle", by, UniqueUntil.ELAPSED, window_ms=window_ms)


@dataclass(frozen=True, slots=True)
class Debounce:
    """The last job wins, once there has been quiet for a time: each one that comes takes the place
    of the one that waits, and starts the time anew.

    Attributes:
        seconds: The quiet time.
        max_wait: Seconds from the first enqueue after which the job is due in any case. Default: no
            bound.
        by: Names of the arguments that make jobs the same. Default: none, so that all jobs of the
            job type are.
    """

    seconds: Seconds
    max_wait: Seconds | None = None
    by: By = ()

    def __post_init__(self) -> None:
        rule = self.rule()
        if rule.max_wait_ms and rule.max_wait_ms < rule.delay_ms:
            raise ValueError(
                f"Debounce(max_wait=...) must be at least the quiet time, {self.seconds!r}, "
                f"not {self.max_wait!r}"
            )

    def rule(self) -> Rule:
        return Rule(
            "debounce",
            names_of(self.by, "Debounce(by=...)"),
            UniqueUntil.STARTED,
            replace=True,
            max_wait_ms=0 if self.max_wait is None else to_ms(self.max_wait, "Debounce(max_wait)"),
            delay_ms=to_ms(self.seconds, "debounce"),
        )


@dataclass(frozen=True, slots=True)
class KeepLast:
    """One runs, one waits: a job that comes takes the place of the one that waits, and starts when
    the one that runs has ended.

    Attributes:
        by: Names of the arguments that make jobs the same. Default: none, so that all jobs of the
            job type are.
    """

    by: By = ()

    def __post_init__(self) -> None:
        self.rule()

    def rule(self) -> Rule:
        by = names_of(self.by, "KeepLast(by=...)")
        return Rule("keep_last", by, UniqueUntil.STARTED, replace=True, alone=True)


def names_of(by: object, what: str) -> tuple[str, ...] | None:
    """Names of arguments, in order and each once; ``None`` for all arguments.

    Raises:
        TypeError: Not a name or a sequence of names.
        ValueError: An empty name, or one that is too long.
    """
    if by is None:
        return None
    if isinstance(by, str):
        return (check_name(by, what),)
    if not isinstance(by, Sequence | set | frozenset) or isinstance(by, bytes):
        raise TypeError(f"{what} must be names of arguments, not {by!r}")
    names = cast("Sequence[object]", by)
    return tuple(sorted({check_name(name, what) for name in names}))


_KINDS: Final[dict[str, type[Unique] | type[Throttle] | type[Debounce] | type[KeepLast]]] = {
    "unique": Unique,
    "throttle": Throttle,
    "debounce": Debounce,
    "keep_last": KeepLast,
}


def rule_of(option: str, value: Any) -> Rule | None:
    """What an option of a job says: ``True`` or seconds stand for the class of that option;
    ``False`` for no rule.

    Args:
        option: ``unique``, ``throttle``, ``debounce`` or ``keep_last``.
        value: What was given.

    Raises:
        TypeError: A value of the wrong type; the message names the option.
        ValueError: Seconds out of range; the message names the option.
    """
    kind = _KINDS[option]
    if isinstance(value, kind):
        return value.rule()
    if kind is Throttle or kind is Debounce:
        return kind(value).rule()
    if isinstance(value, bool):
        return kind().rule() if value else None  # pyright: ignore[reportCallIssue] - these two need nothing
    raise TypeError(f"{option} must be True, False or {kind.__name__}(...), not {value!r}")
