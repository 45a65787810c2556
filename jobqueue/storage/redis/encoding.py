"""What the scripts are told and what they answer, as the port's values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from jobqueue.flow import (
    LEVELS,
    Flow,
    Limit,
    LimitInfo,
    LimitKind,
    LimitScope,
    Rate,
    RateKind,
    Refusal,
    StoredSchedule,
    Unique,
    UniqueUntil,
    check_flow,
)
from jobqueue.packing import pack_raw, unpack_raw
from jobqueue.states import EnqueueStatus, JobState
from jobqueue.storage.types import Claim, Enqueued, NewJob, Settlement, StoredJob

STATES: Final = {state.encode(): state for state in JobState}
_STATUSES: Final[dict[bytes, EnqueueStatus | Refusal]] = {
    status.encode(): status for status in (*EnqueueStatus, *Refusal)
}
_RANKS: Final = {level: rank for rank, level in enumerate(LEVELS)}
_SCOPES: Final = {LimitKind.QUEUE: "q", LimitKind.TYPE: "t", LimitKind.KEY: "k"}
_KINDS: Final = {letter: kind for kind, letter in _SCOPES.items()}


def pack_jobs(jobs: Sequence[NewJob]) -> bytes:
    """Jobs for ``enqueue``: one argument for the batch, which both sides read faster than eight for
    each job."""
    return pack_raw([_job(job) for job in jobs])


def _job(job: NewJob) -> tuple[Any, ...]:
    fields = (
        job.id,
        job.name,
        job.spec,
        job.delay_ms,
        job.due_ms,
        job.ttl_ms,
        job.request,
        job.reply_to or "",
    )
    return fields if job.flow is None else (*fields, _flow(job.flow))


def _flow(flow: Flow) -> bytes:
    said = (
        _RANKS[flow.priority],
        flow.expires_ms,
        flow.group,
        flow.limit,
        flow.key,
        flow.alone,
    )
    return pack_raw(said if flow.unique is None else (*said, flow.unique))


def flow_of(data: bytes) -> Flow | None:
    """What a stored job says about when it may start; ``None`` also for what cannot be read."""
    if not data:
        return None
    try:
        rank, expires_ms, group, limit, key, alone, *unique = unpack_raw(data)
        return check_flow(
            Flow(
                priority=LEVELS[rank],
                expires_ms=expires_ms,
                group=group.decode(),
                limit=limit.decode(),
                key=key.decode(),
                alone=alone.decode(),
                unique=_unique(*unique[0]) if unique else None,
            )
        )
    except Exception:  # some other program may have written anything at all
        return None


def _unique(key: bytes, until: bytes, window_ms: int, replace: bool, max_wait_ms: int) -> Unique:
    return Unique(key.decode(), UniqueUntil(until.decode()), window_ms, replace, max_wait_ms)


def enqueued(answer: list[Any]) -> Enqueued:
    """What became of one job."""
    status, state, value, *other = answer
    answered = Enqueued(_STATUSES[status], STATES[state], value)
    return answered._replace(other_id=other[0].decode()) if other else answered


def pack_settlements(settlements: Sequence[Settlement]) -> bytes:
    """Outcomes for ``finish``."""
    return pack_raw(
        [
            (
                id,
                str(fence),
                outcome.state,
                outcome.event,
                1 if outcome.refund else 0,
                outcome.delay_ms,
                outcome.value,
                outcome.ttl_ms,
            )
            for id, fence, outcome in settlements
        ]
    )


def claim_of(fields: list[Any], worker: str, *, cancel_requested: bool = False) -> Claim:
    """A leased job, from ``claim`` or ``recover``."""
    id, name, spec, fence, attempt, enqueued_ms, ttl_ms = fields[:7]
    return Claim(
        id.decode(),
        name.decode(),
        spec,
        int(fence),
        int(attempt),
        int(enqueued_ms),
        int(ttl_ms),
        cancel_requested,
        worker,
    )


def stored_job(id: str, answer: list[bytes]) -> StoredJob | None:
    """A job, from all fields of its hash."""
    if not answer:
        return None
    fields = dict(zip(answer[::2], answer[1::2], strict=True))

    def number(name: bytes) -> int:
        return int(fields.get(name, 0))

    return StoredJob(
        id=id,
        name=fields[b"name"].decode(),
        spec=_joined(fields, b"spec"),
        state=JobState(fields[b"state"].decode()),
        attempt=int(fields.get(b"attempt", b"fence" in fields)),
        fence=number(b"fence"),
        enqueued_ms=number(b"enqueued_ms"),
        due_ms=number(b"due_ms"),
        started_ms=number(b"started_ms"),
        finished_ms=number(b"finished_ms"),
        expires_ms=number(b"finished_ms") + number(b"kept_ms"),
        ttl_ms=number(b"ttl_ms"),
        worker=fields.get(b"worker", b"").decode(),
        cancel_requested=b"cancel_value" in fields,
        value=_joined(fields, b"value"),
        flow=flow_of(_joined(fields, b"flow")),
    )


def _joined(fields: dict[bytes, bytes], name: bytes) -> bytes:
    """A field that ``lua/include/pieces.lua`` may have stored in pieces."""
    return b"".join(fields.get(name + piece, b"") for piece in (b"", b"1", b"2", b"3"))


def limit_arguments(scope: LimitScope, limit: Limit | None) -> list[Any]:
    """A limit for ``set_limit``."""
    letter = _SCOPES[scope.kind] + scope.name
    if limit is None:
        return [letter, ""]
    rate = limit.rate or Rate(0, 1)
    return [
        letter,
        limit.concurrency,
        rate.count,
        rate.per_ms,
        rate.kind,
        rate.burst,
        int(limit.pinned),
    ]


def limit_info(answer: list[Any]) -> LimitInfo:
    """A limit, from ``limits``."""
    scope, packed, running, held_back = answer
    concurrency, count, per_ms, kind, burst, pinned, _ = unpack_raw(packed)
    rate = Rate(count, per_ms, RateKind(kind.decode()), burst) if count else None
    return LimitInfo(
        LimitScope(_KINDS[scope[:1].decode()], scope[1:].decode()),
        Limit(concurrency, rate, bool(pinned)),
        running,
        held_back,
    )


def pack_schedule(schedule: StoredSchedule) -> bytes:
    """A schedule for ``put_schedule``."""
    return pack_raw(
        (
            schedule.version,
            schedule.token,
            schedule.next_ms,
            schedule.last_ms,
            schedule.last_id,
            schedule.record,
        )
    )


def schedule_of(id: bytes, packed: bytes) -> StoredSchedule:
    """A schedule, from ``schedules``."""
    version, token, next_ms, last_ms, last_id, record = unpack_raw(packed)
    return StoredSchedule(
        id.decode(), record, version, token.decode(), next_ms, last_ms, last_id.decode()
    )
