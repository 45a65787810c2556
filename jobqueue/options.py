"""Every option: its meaning, its one default and its check.

Three layers: a queue's options are complete, those of a job type override them, those of a call
override both. Public values are seconds or ``timedelta``; inside, everything is whole milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final, Literal, TypeAlias, TypedDict, Unpack

from jobqueue.flow import LEVELS, Priority
from jobqueue.ids import check_name
from jobqueue.limits import Limit, check_limits
from jobqueue.retry import Backoff, Exponential, Narrowing, check_backoff
from jobqueue.uniqueness import Debounce, KeepLast, Rule, Throttle, Unique, rule_of
from jobqueue.values import UNSET, Seconds, Unset, check_count, due_ms, to_ms

PriorityName: TypeAlias = Literal["high", "normal", "low"] | Priority


class CallOptions(TypedDict, total=False):
    """The options of one call; :class:`JobOptions` says what each means."""

    id: str
    delay: Seconds
    run_at: datetime
    timeout: Seconds | None
    max_attempts: int
    retry: Backoff
    result_ttl: Seconds
    wait: Seconds | None
    priority: PriorityName
    expires: Seconds | None
    group: str | None
    unique: bool | Unique
    throttle: Seconds | Throttle
    debounce: Seconds | Debounce
    keep_last: bool | KeepLast
    limit: str
    key: str
    drop_abandoned: bool


class TypeOptions(TypedDict, total=False):
    """The options of a job type; :class:`JobOptions` says what each means."""

    timeout: Seconds | None
    max_attempts: int
    retry: Backoff
    result_ttl: Seconds
    priority: PriorityName
    expires: Seconds | None
    group_by: str
    unique: bool | Unique
    throttle: Seconds | Throttle
    debounce: Seconds | Debounce
    keep_last: bool | KeepLast
    limits: Limit | Sequence[Limit]
    drop_abandoned: bool


class _AllOptions(CallOptions, TypeOptions):
    pass


@dataclass(frozen=True, kw_only=True, init=False)
class JobOptions:
    """The options of a job type or of one call; what is not given is the next layer's choice.

    Attributes:
        id: Text of 1 to 255 bytes. Default: a new sortable id.
        delay: Seconds to wait before the job is due.
        run_at: Aware datetime at which the job is due. Not together with ``delay``.
        timeout: Seconds one attempt may run; ``None`` for no limit.
        max_attempts: Attempts in total, the first included.
        retry: Backoff policy.
        result_ttl: Seconds for which a finished job's result, error and id are kept.
        wait: Seconds a caller waits for the result; ``None`` for as long as it takes.
        priority: ``"high"``, ``"normal"`` (the default) or ``"low"``: all jobs of a higher level
            start before any of a lower one.
        expires: Seconds after its enqueue after which a job that has not started is dropped: it
            ends cancelled, whoever waits gets :class:`~jobqueue.JobExpired`. ``None`` for never.
        group: Jobs that wait are taken from each group in turn. ``None`` for no group.
        group_by: Name of the argument that is the group. Of a job type.
        unique: ``True`` for one at a time of the same arguments, or a
            :class:`~jobqueue.Unique`; ``False`` for none of these four, whatever the job type says.
        throttle: Seconds in which the first job wins, or a :class:`~jobqueue.Throttle`.
        debounce: Seconds of quiet after which the last job wins, or a :class:`~jobqueue.Debounce`.
        keep_last: ``True`` for one that runs and one, the newest, that waits, or a
            :class:`~jobqueue.KeepLast`. At most one of these four.
        limits: What holds for the jobs of a job type on all workers together: at most one
            :class:`~jobqueue.Limit` without and one with ``by``. Of a job type.
        limit: Name of a limit by key under which the job falls, with ``key``.
        key: The job's key there.
        drop_abandoned: When the caller of a ``call`` or ``enqueue_and_wait`` stops waiting, a job
            that has not started is dropped: ``expires`` is then at most ``wait``.

    Raises:
        TypeError: A value of the wrong type; the message names the option.
        ValueError: A value out of range, or options that exclude each other; the message names
            them.
    """

    id: str | Unset = UNSET
    delay: Seconds | Unset = UNSET
    run_at: datetime | Unset = UNSET
    timeout: Seconds | Unset | None = UNSET
    max_attempts: int | Unset = UNSET
    retry: Backoff | Unset = UNSET
    result_ttl: Seconds | Unset = UNSET
    wait: Seconds | Unset | None = UNSET
    priority: PriorityName | Unset = UNSET
    expires: Seconds | Unset | None = UNSET
    group: str | Unset | None = UNSET
    group_by: str | Unset = UNSET
    unique: bool | Unique | Unset = UNSET
    throttle: Seconds | Throttle | Unset = UNSET
    debounce: Seconds | Debounce | Unset = UNSET
    keep_last: bool | KeepLast | Unset = UNSET
    limits: Limit | Sequence[Limit] | Unset = UNSET
    limit: str | Unset = UNSET
    key: str | Unset = UNSET
    drop_abandoned: bool | Unset = UNSET

    is_plain: ClassVar[bool] = True
    """Nothing here is about when the job may start, but for ``delay`` and ``run_at``."""

    # Written by hand, so that an option costs only those who give it.
    def __init__(self, **options: Unpack[_AllOptions]) -> None:
        given = self.__dict__
        for name, value in options.items():
            check = _CHECKS.get(name)
            if check is None:
                raise TypeError(f"there is no option {name!r}")
            if value is not UNSET:
                check(value, name)
                given[name] = value
                if name in _FLOW_OPTIONS:
                    given["is_plain"] = False
        if len(given) > 1:
            _check_together(self, given)

    def override(self, other: JobOptions) -> JobOptions:
        """These options, with those that ``other`` sets in their place.

        Raises:
            ValueError: They exclude each other.
        """
        changes = other.__dict__
        if self is NO_OPTIONS or not changes:
            return other if self is NO_OPTIONS else self
        merged = JobOptions()
        given = merged.__dict__
        given.update(self.__dict__)
        for names in _ALTERNATIVES:
            if not names.isdisjoint(changes):
                for name in names:
                    given.pop(name, None)
        given.update(changes)
        if not merged.is_plain:
            _check_together(merged, given)
        return merged

    @property
    def arguments(self) -> frozenset[str]:
        """Names of the arguments that these options take something from."""
        rule = self.rule
        names = set[str]() if rule is None else set(rule.by or ())
        if self.group_by is not UNSET:
            names.add(self.group_by)
        if self.limits is not UNSET:
            names.update(limit.by for limit in check_limits(self.limits) if limit.by is not None)
        return frozenset(names)

    @property
    def rule(self) -> Rule | None:
        """What the job says about others like it."""
        for name in _RULES:
            value = getattr(self, name)
            if value is not UNSET:
                return rule_of(name, value)
        return None


_RULES: Final = ("unique", "throttle", "debounce", "keep_last")
_ALTERNATIVES: Final = (
    frozenset({"delay", "run_at"}),
    frozenset(_RULES),
    frozenset({"group", "group_by"}),
)
"""One of each at most; the layer that gives one decides about all of them."""
_FLOW_OPTIONS: Final = frozenset(
    {
        "priority",
        "expires",
        "group",
        "group_by",
        "limits",
        "limit",
        "key",
        "drop_abandoned",
        *_RULES,
    }
)


def _check_together(options: JobOptions, given: Mapping[str, object]) -> None:
    for names in _ALTERNATIVES:
        found = [name for name in _CHECKS if name in names and name in given]
        if len(found) > 1:
            raise ValueError(f"give {' or '.join(found)}, not both")
    if options.is_plain:
        return
    if ("limit" in given) != ("key" in given):
        raise ValueError("limit and key go together: the name of a limit, and the job's key there")
    rule = options.rule
    if rule is not None and rule.delay_ms and ("delay" in given or "run_at" in given):
        raise ValueError("give debounce, or delay or run_at, not both")
    if options.expires is not UNSET and options.expires is not None:
        _check_expires(to_ms(options.expires, "expires"), options, rule)


def _check_expires(expires_ms: int, options: JobOptions, rule: Rule | None) -> None:
    if options.delay is not UNSET and to_ms(options.delay, "delay") >= expires_ms:
        raise ValueError(
            f"expires ({options.expires!r}) must be longer than delay ({options.delay!r}): "
            "the job could never start"
        )
    if rule is not None and rule.delay_ms and not 0 < rule.max_wait_ms < expires_ms:
        raise ValueError(
            f"expires ({options.expires!r}) with debounce needs Debounce(max_wait=...) that is "
            "shorter: the job might never start"
        )


def _seconds(value: Any, name: str) -> None:
    to_ms(value, name)


def _seconds_or_none(value: Any, name: str) -> None:
    if value is not None:
        to_ms(value, name)


def _name_or_none(value: Any, name: str) -> None:
    if value is not None:
        check_name(value, name)


def _truth(value: Any, name: str) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")


def _priority(value: Any, name: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {value!r}")
    if value not in LEVELS:
        raise ValueError(f'{name} must be "high", "normal" or "low", not {value!r}')


_CHECKS: Final[dict[str, Callable[[Any, str], object]]] = {
    "id": check_name,
    "delay": _seconds,
    "run_at": lambda value, _: due_ms(value),
    "timeout": _seconds_or_none,
    "max_attempts": check_count,
    "retry": lambda value, _: check_backoff(value),
    "result_ttl": _seconds,
    "wait": _seconds_or_none,
    "priority": _priority,
    "expires": _seconds_or_none,
    "group": _name_or_none,
    "group_by": check_name,
    **dict.fromkeys(_RULES, lambda value, name: rule_of(name, value)),
    "limits": lambda value, _: check_limits(value),
    "limit": check_name,
    "key": check_name,
    "drop_abandoned": _truth,
}

NO_OPTIONS: Final = JobOptions()


def type_options(**options: Unpack[TypeOptions]) -> JobOptions:
    """The options of a job type.

    Raises:
        TypeError, ValueError: As :class:`JobOptions`; also for an option that only a call can have.
    """
    foreign = options.keys() - TypeOptions.__annotations__.keys()
    if foreign:
        raise TypeError(f"{min(foreign)!r} is no option of a job type")
    return JobOptions(**options) if options else NO_OPTIONS


def call_options(**options: Unpack[CallOptions]) -> JobOptions:
    """The options of one call.

    Raises:
        TypeError, ValueError: As :class:`JobOptions`.
    """
    return JobOptions(**options) if options else NO_OPTIONS


KiB: Final = 1024
MiB: Final = 1024 * KiB
DEFAULT_WAIT: Final = 30.0
"""Seconds that ``call`` and ``enqueue_and_wait`` wait when nothing else is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOptions:
    """The options of a queue, complete: the last layer, and the one place of the defaults.

    Attributes:
        concurrency: Jobs that one worker runs at a time.
        lease: Seconds without a sign of life after which a worker's job is recovered.
        grace: Seconds that a stop waits for running jobs.
        max_attempts: Attempts in total, the first included.
        retry: Backoff policy.
        timeout: Seconds one attempt may run; ``None`` for no limit.
        result_ttl: Seconds for which a finished job's result, error and id are kept.
        max_payload: Largest payload in bytes.
        max_result: Largest result in bytes.
        maintenance: Whether workers of this queue also recover, promote and prune.
        limits: What holds for the whole queue, on all workers together; ``None`` for no limit.

    Raises:
        TypeError: A value of the wrong type; the message names the option.
        ValueError: A value out of range; the message names the option.
    """

    concurrency: int = 10
    lease: Seconds = 30.0
    grace: Seconds = 30.0
    max_attempts: int = 3
    retry: Backoff = Exponential()  # noqa: RUF009 - frozen, so one object may serve all
    timeout: Seconds | None = None
    result_ttl: Seconds = 3600.0
    max_payload: int = MiB
    max_result: int = 16 * MiB
    maintenance: bool = True
    limits: Limit | None = None

    def __post_init__(self) -> None:
        check_count(self.concurrency, "concurrency", maximum=100_000)
        if to_ms(self.lease, "lease") < 100:
            raise ValueError(f"lease must be at least 0.1 s, not {self.lease!r}")
        to_ms(self.grace, "grace", zero=True)
        check_count(self.max_attempts, "max_attempts")
        check_backoff(self.retry)
        if self.timeout is not None:
            to_ms(self.timeout, "timeout")
        to_ms(self.result_ttl, "result_ttl")
        check_count(self.max_payload, "max_payload", maximum=512 * MiB)
        check_count(self.max_result, "max_result", maximum=512 * MiB)
        if self.limits is not None:
            if not isinstance(self.limits, Limit):  # pyright: ignore[reportUnnecessaryIsInstance] - users' types are not checked
                raise TypeError(f"limits of a queue must be a Limit(...), not {self.limits!r}")
            if self.limits.by is not None:
                raise ValueError("a Limit with by belongs to a job type, not to a queue")

    @property
    def lease_ms(self) -> int:
        return to_ms(self.lease, "lease")

    @property
    def grace_seconds(self) -> float:
        return to_ms(self.grace, "grace", zero=True) / 1000

    @property
    def result_ttl_ms(self) -> int:
        return to_ms(self.result_ttl, "result_ttl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What holds for one running job once all layers are merged.

    Attributes:
        max_attempts: Attempts in total.
        retry: Backoff policy.
        narrowing: Errors that are never, or alone, retried.
        timeout_ms: Milliseconds one attempt may run, or ``None``.
        result_ttl_ms: Milliseconds for which the finished job is kept.
    """

    max_attempts: int
    retry: Backoff
    narrowing: Narrowing
    timeout_ms: int | None
    result_ttl_ms: int
