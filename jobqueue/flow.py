"""What decides when a job may start, beyond its turn: priority, expiry, uniqueness, limits, groups;
and what holds for a whole queue. Plain values, as the storages keep them; times in milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple


class Priority(StrEnum):
    """The level of a job. All of a higher level start before any of a lower one."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


LEVELS: Final = (Priority.HIGH, Priority.NORMAL, Priority.LOW)
"""From the first to the last to be served."""


class UniqueUntil(StrEnum):
    """How long a job keeps others of its unique key away."""

    STARTED = "started"
    """Until it is claimed for the first time, or ends without that."""
    FINISHED = "finished"
    """Until it has ended."""
    ELAPSED = "elapsed"
    """For a time, whatever becomes of it (but its time to live must not be over)."""


class Unique(NamedTuple):
    """One at a time of a key.

    Attributes:
        key: Opaque text of 1 to 255 bytes.
        until: How long the job that is there counts.
        window_ms: With ``ELAPSED``: how long, from its enqueue. Else 0.
        replace: A job that comes later takes the place of one that is there and has not started:
            that one keeps its id, its name and its turn, and gets the later one's spec, time to
            live and, if it is still scheduled, due time. With ``STARTED``.
        max_wait_ms: With ``replace``: no replacement makes it due later than so long after its own
            enqueue; 0 for no such bound.
    """

    key: str
    until: UniqueUntil
    window_ms: int = 0
    replace: bool = False
    max_wait_ms: int = 0


class Flow(NamedTuple):
    """What a job says about when it may start. A job that says nothing has none.

    Attributes:
        priority: Its level.
        expires_ms: Unless it has started so long after its enqueue, it ends ``cancelled`` with
            :data:`~jobqueue.outcome.EXPIRED` and never runs; 0 for never. Such a job also has a
            time to live of its own.
        group: Jobs of one level that wait are taken from each group in turn; those without a group
            are one more group.
        limit: Name of the limit by key under which it falls, or empty.
        key: Its key there, not empty if ``limit`` is not.
        alone: Of all jobs with the same text here, one runs at a time; empty for no such rule.
        unique: Which others it keeps away.
    """

    priority: Priority = Priority.NORMAL
    expires_ms: int = 0
    group: str = ""
    limit: str = ""
    key: str = ""
    alone: str = ""
    unique: Unique | None = None


def check_flow(flow: Flow) -> Flow:
    """What some program has written, held against the types above.

    Raises:
        ValueError: A value of another type, or below 0.
    """
    texts = (flow.group, flow.limit, flow.key, flow.alone)
    fine = flow.priority in LEVELS and _is_count(flow.expires_ms) and all(map(_is_text, texts))
    if fine and flow.unique is not None:
        key, until, window_ms, replace, max_wait_ms = flow.unique
        counts = (window_ms, max_wait_ms)
        fine = _is_text(key) and replace in (True, False) and all(map(_is_count, counts))
        fine = fine and until in list(UniqueUntil)
    if not fine:
        raise ValueError(f"no job can say {flow!r:.200}")
    return flow


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_LARGEST: Final = (1 << 53) - 1
"""Up to here, every storage can count."""


class RateKind(StrEnum):
    """How starts are counted."""

    SLIDING = "sliding"
    """At most ``count`` in any window of ``per_ms``. Moments are kept to a thousandth of the window
    (at least 1 ms), so that a start may count that much longer."""
    BUCKET = "bucket"
    """One every ``per_ms / count``, and after a quiet time up to ``burst`` at once."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How many jobs may start in a time. A start counts, whatever becomes of the job.

    Attributes:
        count: So many, at least 1.
        per_ms: In so many milliseconds, at least 1.
        kind: How they are counted.
        burst: With ``BUCKET``: at once at most, at least 1.
    """

    count: int
    per_ms: int
    kind: RateKind = RateKind.SLIDING
    burst: int = 1


class LimitKind(StrEnum):
    """What a limit is about."""

    QUEUE = "queue"
    """All jobs of the queue."""
    TYPE = "type"
    """All jobs of one name."""
    KEY = "key"
    """Jobs that name this limit (:attr:`Flow.limit`): those of each key apart."""


class LimitScope(NamedTuple):
    """Which jobs a limit is about.

    ``name``: of the job type, or of the limit by key; else empty.
    """

    kind: LimitKind
    name: str = ""


class Limit(NamedTuple):
    """At most so much at a time, for all workers together. At least one of the first two.

    Attributes:
        concurrency: Jobs that run at a time at most; 0 for any number.
        rate: Starts in a time at most.
        pinned: An operator said so, and what the code declares is not to take its place. Storages
            only keep it.
    """

    concurrency: int = 0
    rate: Rate | None = None
    pinned: bool = False


class LimitInfo(NamedTuple):
    """A limit that is in force.

    Attributes:
        scope: Which jobs it is about.
        limit: What holds.
        running: Jobs under it that run now.
        held_back: Waiting jobs whose turn has come and that it kept from starting. (Of a limit on
            the whole queue always 0: there, nobody's turn comes.)
    """

    scope: LimitScope
    limit: Limit
    running: int
    held_back: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What holds for a whole queue.

    Attributes:
        paused: Nothing is started.
        draining: Nothing new is accepted.
        max_waiting: Jobs that may be scheduled or queued at a time; 0 for any number.
        low_every: While a ``low`` job could start, at least every so-manieth job that starts is a
            ``low`` one; 0 for strict priority.
    """

    paused: bool = False
    draining: bool = False
    max_waiting: int = 0
    low_every: int = 0


OPEN: Final = Control()
"""What holds for a queue about which nobody has said anything."""


class Refusal(StrEnum):
    """Why a new job was not stored."""

    FULL = "full"
    """``max_waiting`` jobs wait already."""
    DRAINING = "draining"
    """The queue accepts nothing new."""


class StoredSchedule(NamedTuple):
    """A schedule, as a storage keeps it.

    Attributes:
        id: Its id.
        record: What it is, opaque bytes.
        version: 1 for the first that is stored, one more for each change.
        token: Of the change that made this version, so that a repeat of it is known.
        next_ms: When it is due; 0 while it is paused, or will never be again.
        last_ms: The instant for which it made a job last; 0 if none.
        last_id: Id of that job; empty if none.
    """

    id: str
    record: bytes
    version: int
    token: str
    next_ms: int = 0
    last_ms: int = 0
    last_id: str = ""


class Schedules(NamedTuple):
    """Schedules at one moment of the storage's time.

    Attributes:
        now_ms: That moment.
        next_ms: When the next one of the queue is due (one of the past: now); 0 if none ever is.
        found: Those that were asked for.
    """

    now_ms: int
    next_ms: int
    found: list[StoredSchedule]
