"""Backoff policies: how long to wait after a failed attempt, or whether to give up.

A policy is any ``(attempt, error) -> seconds | None``. The ones here are plain data, so they can
also travel with a single job; a user's own function stays with the job type or the queue.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeAlias, cast

Backoff: TypeAlias = Callable[[int, BaseException], float | None]
"""Given the attempt that failed (1-based) and its error: seconds to wait, or ``None`` to give up.

A timeout arrives as ``TimeoutError``.
"""

ErrorTypes: TypeAlias = "tuple[type[BaseException] | str, ...]"
"""Exception classes. Matched by qualified name along the error's class hierarchy, so that a policy
can travel and be compared without anything being imported."""


def class_name(cls: type[BaseException] | str) -> str:
    """The qualified name of an exception class; a name is returned as it is."""
    if isinstance(cls, str):
        return cls
    if isinstance(cls, type) and issubclass(cls, BaseException):  # pyright: ignore[reportUnnecessaryIsInstance] - users are not always typed
        return f"{cls.__module__}.{cls.__qualname__}"
    raise TypeError(f"give_up_on and retry_on take exception classes, not {cls!r}")


def _matches(error: BaseException, names: ErrorTypes) -> bool:
    return any(class_name(cls) in names for cls in type(error).__mro__[:-1])


def _seconds(value: object, what: str, *, zero: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what} must be a number of seconds, not {type(value).__name__}")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds) or seconds < 0 or (seconds == 0 and not zero):
        raise ValueError(
            f"{what} must be finite and {'at least' if zero else 'more than'} 0, not {value!r:.80}"
        )
    return seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrowing:
    """Which errors are worth another attempt.

    Args:
        give_up_on: These errors (and their subclasses) are never retried.
        retry_on: Only these are retried. Empty, the default: all that ``give_up_on`` leaves.
    """

    give_up_on: ErrorTypes = ()
    retry_on: ErrorTypes = ()

    def __post_init__(self) -> None:
        for field in ("give_up_on", "retry_on"):
            value = cast("object", getattr(self, field))
            classes = cast("tuple[Any, ...]", value if isinstance(value, tuple) else (value,))
            object.__setattr__(self, field, tuple(class_name(cls) for cls in classes))

    def gives_up(self, error: BaseException) -> bool:
        """Whether this error must not be retried."""
        if self.give_up_on and _matches(error, self.give_up_on):
            return True
        return bool(self.retry_on) and not _matches(error, self.retry_on)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Policy(Narrowing):
    kind: ClassVar[str] = ""

    def __call__(self, attempt: int, error: BaseException) -> float | None:
        return None if self.gives_up(error) else self.delay(attempt)

    def delay(self, attempt: int) -> float:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Immediate(_Policy):
    """Retry at once."""

    kind: ClassVar[str] = "immediate"

    def delay(self, attempt: int) -> float:
        return 0.0


@dataclass(frozen=True, slots=True)
class Fixed(_Policy):
    """Wait the same number of seconds after each failure."""

    kind: ClassVar[str] = "fixed"
    seconds: float = 1.0

    def __post_init__(self) -> None:
        Narrowing.__post_init__(self)
        _seconds(self.seconds, "Fixed.seconds", zero=True)

    def delay(self, attempt: int) -> float:
        return self.seconds


@dataclass(frozen=True, slots=True)
class Linear(_Policy):
    """Wait ``step`` seconds after the first failure, twice that after the next, up to ``max``."""

    kind: ClassVar[str] = "linear"
    step: float = 1.0
    max: float = 300.0

    def __post_init__(self) -> None:
        Narrowing.__post_init__(self)
        _seconds(self.step, "Linear.step")
        _seconds(self.max, "Linear.max")

    def delay(self, attempt: int) -> float:
        return min(self.max, self.step * attempt)


@dataclass(frozen=True, slots=True)
class Exponential(_Policy):
    """Wait ``initial * factor ** (attempt - 1)`` seconds, spread by jitter, never above ``max``.

    Args:
        initial: Seconds after the first failure. Default 1.
        factor: Growth from one failure to the next, at least 1. Default 2.
        max: Upper bound in seconds, jitter included. Default 300.
        jitter: Share, 0 to 1, by which a wait may be shorter or longer. Default 0.2.
    """

    kind: ClassVar[str] = "exponential"
    initial: float = 1.0
    factor: float = 2.0
    max: float = 300.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        Narrowing.__post_init__(self)
        _seconds(self.initial, "Exponential.initial")
        _seconds(self.max, "Exponential.max")
        if _seconds(self.factor, "Exponential.factor") < 1:
            raise ValueError(f"Exponential.factor must be at least 1, not {self.factor!r}")
        if _seconds(self.jitter, "Exponential.jitter", zero=True) > 1:
            raise ValueError(f"Exponential.jitter must be at most 1, not {self.jitter!r}")

    def delay(self, attempt: int) -> float:
        try:
            delay = min(self.max, self.initial * self.factor ** (attempt - 1))
        except OverflowError:
            delay = self.max
        return min(self.max, delay * (1 + random.uniform(-self.jitter, self.jitter)))


_KINDS: Final[dict[str, type[_Policy]]] = {
    cls.kind: cls for cls in (Immediate, Fixed, Linear, Exponential)
}
_PARAMETERS: Final[dict[str, tuple[str, ...]]] = {
    "immediate": (),
    "fixed": ("seconds",),
    "linear": ("step", "max"),
    "exponential": ("initial", "factor", "max", "jitter"),
}


def check_backoff(value: object) -> Backoff:
    """Check the ``retry`` option.

    Raises:
        TypeError: It cannot be called.
    """
    if isinstance(value, type) or not callable(value):
        raise TypeError(f"retry must be a policy such as Exponential(), not {value!r}")
    return cast("Backoff", value)


def can_travel(policy: Backoff) -> bool:
    """Whether the policy is plain data, and no function of the user."""
    return isinstance(policy, _Policy) and policy.kind in _KINDS


def backoff_to_wire(policy: Backoff) -> list[Any]:
    """The policy as plain data.

    Raises:
        TypeError: It is a user's own function, which cannot travel with a job.
    """
    if not isinstance(policy, _Policy) or not can_travel(policy):
        raise TypeError(
            "retry: a function cannot travel with a job; give it to @queue.job(retry=...) or "
            "Queue(retry=...), where the worker finds it"
        )
    kind = policy.kind
    parameters = [getattr(policy, name) for name in _PARAMETERS[kind]]
    return [kind, parameters, list(policy.give_up_on), list(policy.retry_on)]


def backoff_from_wire(wire: Any) -> Backoff:
    """The policy that :func:`backoff_to_wire` wrote.

    Raises:
        ValueError: It is none that this version knows.
    """
    try:
        kind, parameters, give_up_on, retry_on = wire
        return _KINDS[kind](*parameters, give_up_on=tuple(give_up_on), retry_on=tuple(retry_on))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"unknown retry policy {wire!r}") from error


def next_delay(
    policy: Backoff, narrowing: Narrowing, attempt: int, error: BaseException
) -> float | None:
    """Seconds until the next attempt, or ``None`` to give up.

    A policy that fails itself, or answers nonsense, gives up: the job's own error is what counts.
    """
    if narrowing.gives_up(error):
        return None
    try:
        delay = policy(attempt, error)
        return None if delay is None else _seconds(delay, "the delay of a retry policy", zero=True)
    except Exception as failure:
        with contextlib.suppress(Exception):  # an error may refuse notes, or to be printed
            error.add_note(f"retry policy failed: {failure!r}")
        return None
