"""The record: what a storage keeps of a schedule, and what it means.

A msgpack array, so that a program in another language can read it: the version (1) and a map of
``timing`` (``["cron", expression, zone]`` or ``["every", period_ms, start_ms]``), ``job``
(``name``, ``spec`` as in :mod:`jobqueue.spec`, and where there is any ``delay_ms`` (of a debounce),
``ttl_ms`` and ``flow``), ``misfire``, ``misfire_grace_ms``, ``overlap`` and ``paused``. So a
scheduler fires it without knowing the job type.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple, cast

from jobqueue.flow import Flow, Priority, Unique, UniqueUntil, check_flow
from jobqueue.ids import check_name
from jobqueue.packing import pack, unpack
from jobqueue.schedules.timing import Cron, Every, Timing
from jobqueue.values import Seconds, to_ms

VERSION: Final = 1


class RecordError(ValueError):
    """A record that cannot be read; the message says why."""


class Misfire(StrEnum):
    """What becomes of instants that nobody fired in time."""

    SKIP = "skip"
    """Those that are late by more than the grace make no job."""
    ONCE = "once"
    """If the first is late by more than the grace, all that are due make one job, for the last."""
    ALL = "all"
    """Each makes its job, the oldest first."""


class Overlap(StrEnum):
    """What becomes of an instant when the last job of its schedule has not ended."""

    ALLOW = "allow"
    """Its job runs beside that one."""
    SKIP = "skip"
    """It makes no job."""
    QUEUE = "queue"
    """Its job starts when that one has ended."""
    REPLACE = "replace"
    """That one is cancelled, or asked to stop; its job starts when that one has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What holds for instants that cannot be fired as planned.

    Attributes:
        misfire: ``"skip"``, ``"once"`` or ``"all"``: see :class:`Misfire`.
        misfire_grace: Seconds by which an instant may be late before that counts, 0 or more.
        overlap: ``"allow"``, ``"skip"``, ``"queue"`` or ``"replace"``: see :class:`Overlap`.

    Raises:
        TypeError, ValueError: A value of the wrong type or out of range; the message names it.
    """

    misfire: str = Misfire.ONCE
    misfire_grace: Seconds = 60.0
    overlap: str = Overlap.ALLOW

    def __post_init__(self) -> None:
        _check_choice(self.misfire, Misfire, "misfire")
        to_ms(self.misfire_grace, "misfire_grace", zero=True)
        _check_choice(self.overlap, Overlap, "overlap")


def _check_choice(value: object, choices: type[StrEnum], what: str) -> None:
    if value not in list(choices):
        names = ", ".join(repr(str(choice)) for choice in choices)
        raise ValueError(f"{what} must be one of {names}, not {value!r:.100}")


class ScheduledJob(NamedTuple):
    """What each instant enqueues; the attributes are those of a stored job."""

    name: str
    spec: bytes
    delay_ms: int = 0
    ttl_ms: int = 0
    flow: Flow | None = None


class Schedule(NamedTuple):
    """A decoded record.

    Attributes:
        timing: When it is due.
        job: What is enqueued then.
        misfire, misfire_grace_ms, overlap: As in :class:`Policy`.
        paused: It is not due before it is resumed.
    """

    timing: Timing
    job: ScheduledJob
    misfire: Misfire
    misfire_grace_ms: int
    overlap: Overlap
    paused: bool = False


def encode_record(schedule: Schedule) -> bytes:
    """Write a record; the same schedule always gives the same bytes."""
    job: dict[str, Any] = {"name": schedule.job.name, "spec": schedule.job.spec}
    if schedule.job.delay_ms:
        job["delay_ms"] = schedule.job.delay_ms
    if schedule.job.ttl_ms:
        job["ttl_ms"] = schedule.job.ttl_ms
    if schedule.job.flow is not None:
        job["flow"] = _flow_to_wire(schedule.job.flow)
    fields = {
        "timing": _timing_to_wire(schedule.timing),
        "job": job,
        "misfire": str(schedule.misfire),
        "misfire_grace_ms": schedule.misfire_grace_ms,
        "overlap": str(schedule.overlap),
        "paused": schedule.paused,
    }
    return pack([VERSION, fields])


def decode_record(data: bytes) -> Schedule:
    """Read a record.

    Raises:
        RecordError: Not a record, one of a newer version of the library, or of a time zone that is
            not known on this machine.
    """
    try:
        version, *rest = cast("list[Any]", unpack(data))
        if version != VERSION:
            raise ValueError(
                f"it has version {version!r}, this program reads {VERSION}: it was written by "
                "another version of jobqueue; upgrade the workers first"
            )
        fields = cast("dict[str, Any]", rest[0])
        job = cast("dict[str, Any]", fields["job"])
        flow = job.get("flow")
        return Schedule(
            timing=_timing_from_wire(fields["timing"]),
            job=ScheduledJob(
                name=check_name(job["name"], "the name of its job"),
                spec=_bytes(job["spec"], "spec"),
                delay_ms=_count(job.get("delay_ms", 0), "delay_ms"),
                ttl_ms=_count(job.get("ttl_ms", 0), "ttl_ms"),
                flow=None if flow is None else _flow_from_wire(flow),
            ),
            misfire=Misfire(fields["misfire"]),
            misfire_grace_ms=_count(fields["misfire_grace_ms"], "misfire_grace_ms"),
            overlap=Overlap(fields["overlap"]),
            paused=fields["paused"] is True,
        )
    except Exception as error:
        raise RecordError(f"the schedule's record cannot be decoded: {error}") from error


def _count(value: object, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 53:
        raise ValueError(f"{what} is {value!r:.50}")
    return value


def _bytes(value: object, what: str) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError(f"{what} is {value!r:.50}")
    return value


def _timing_to_wire(timing: Timing) -> list[Any]:
    if isinstance(timing, Cron):
        return ["cron", timing.expression, timing.tz]
    return ["every", timing.period_ms, timing.start_ms]


def _timing_from_wire(wire: Any) -> Timing:
    kind, first, second = wire
    if kind == "cron":
        return Cron(first, tz=second)
    if kind == "every":
        start_ms = _count(second, "start_ms")
        start = datetime.fromtimestamp(start_ms / 1000, UTC) if start_ms else None
        return Every(_count(first, "period_ms") / 1000, start=start)
    raise ValueError(f"unknown timing {kind!r}")


def _flow_to_wire(flow: Flow) -> dict[str, Any]:
    """What is not the default."""
    changes = {
        name: value
        for name, value in flow._asdict().items()
        if value != Flow._field_defaults[name] and name != "unique"
    }
    if flow.priority is not Priority.NORMAL:
        changes["priority"] = str(flow.priority)
    if flow.unique is not None:
        changes["unique"] = {**flow.unique._asdict(), "until": str(flow.unique.until)}
    return changes


def _flow_from_wire(wire: dict[str, Any]) -> Flow:
    fields = dict(wire)
    if "priority" in fields:
        fields["priority"] = Priority(fields["priority"])
    if "unique" in fields:
        unique = Unique(**fields["unique"])
        fields["unique"] = unique._replace(until=UniqueUntil(unique.until))
    return check_flow(Flow(**fields))
