"""Which instants of a due schedule are fired now, which jobs they make, and when it is due next."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from jobqueue.flow import Flow
from jobqueue.schedules.record import Misfire, Overlap, Schedule
from jobqueue.schedules.timing import last_instant, next_instant
from jobqueue.storage.types import MAX_BATCH, NewJob

NO_FLOW: Final = Flow()


class Due(NamedTuple):
    """What is due at one moment.

    Attributes:
        instants: Those to fire, the oldest first.
        next_ms: The instant after those: in the past, if there are more than one step takes; 0 if
            there is none any more.
    """

    instants: list[int]
    next_ms: int


def due(schedule: Schedule, next_ms: int, now_ms: int) -> Due:
    """What is due by the schedule's timing and its policy for misfires.

    Args:
        schedule: Which.
        next_ms: Its first instant that has not been fired.
        now_ms: The storage's time.
    """
    timing = schedule.timing
    if now_ms - next_ms > schedule.misfire_grace_ms:
        if schedule.misfire is Misfire.ONCE:
            last_ms = last_instant(timing, next_ms, now_ms)
            return Due([last_ms], next_instant(timing, last_ms))
        if schedule.misfire is Misfire.SKIP:
            next_ms = next_instant(timing, now_ms - schedule.misfire_grace_ms - 1)
    instants: list[int] = []
    if 0 < next_ms <= now_ms:
        instants.append(next_ms)
        for at in timing.instants(next_ms):
            if at > now_ms or len(instants) == MAX_BATCH:
                return Due(instants, at)
            instants.append(at)
        next_ms = 0
    return Due(instants, next_ms)


def without_overlap(overlap: Overlap, instants: list[int], last_has_ended: bool) -> list[int]:
    """The instants that make jobs, given whether the schedule's last job has ended."""
    if overlap is Overlap.SKIP:
        return instants[:1] if last_has_ended else []
    if overlap is Overlap.REPLACE:
        return instants[-1:]
    return instants


def jobs_of(id: str, schedule: Schedule, instants: Sequence[int], request: str) -> list[NewJob]:
    """The jobs of some instants.

    Args:
        id: The schedule's.
        schedule: Which.
        instants: One job each.
        request: Token of their enqueue.
    """
    return [new_job(id, schedule, job_id(id, at), request) for at in instants]


def new_job(id: str, schedule: Schedule, own_id: str, request: str = "") -> NewJob:
    """A job of a schedule, under an id of its own.

    Args:
        id: The schedule's.
        schedule: Which.
        own_id: The job's.
        request: Token of its enqueue; empty if ``own_id`` was made for this one.
    """
    name, spec, delay_ms, ttl_ms, _ = schedule.job
    flow = _flow_of(id, schedule)
    return NewJob(own_id, name, spec, delay_ms=delay_ms, ttl_ms=ttl_ms, request=request, flow=flow)


def _flow_of(id: str, schedule: Schedule) -> Flow | None:
    """When the schedule's jobs may start."""
    flow = schedule.job.flow
    if schedule.overlap not in (Overlap.QUEUE, Overlap.REPLACE) or (flow and flow.alone):
        return flow
    return (flow or NO_FLOW)._replace(alone=f"schedule:{id}")


def job_id(id: str, instant_ms: int) -> str:
    """The id of the job of one instant, which no other one has."""
    text = datetime.fromtimestamp(instant_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = instant_ms % 1000
    return f"{id}@{text}{f'.{fraction:03}' if fraction else ''}Z"
