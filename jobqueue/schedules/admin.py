"""``queue.schedules``: what users do with the schedules of a queue."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypedDict, Unpack

from jobqueue.errors import ScheduleNotFound
from jobqueue.flow import StoredSchedule
from jobqueue.ids import MAX_NAME_BYTES, check_name, new_job_id, new_token
from jobqueue.producer import Producer
from jobqueue.receipt import JobSpec, Receipt
from jobqueue.schedules.firing import job_id, new_job
from jobqueue.schedules.record import (
    Misfire,
    Overlap,
    Policy,
    RecordError,
    Schedule,
    ScheduledJob,
    decode_record,
    encode_record,
)
from jobqueue.schedules.timing import Cron, Every, Timing, next_instant
from jobqueue.values import UNSET, Seconds, to_ms

logger = logging.getLogger("jobqueue")

_MAX_ID_BYTES = MAX_NAME_BYTES - len(job_id("", 1))


class PolicyOptions(TypedDict, total=False):
    """The options of a schedule: those of :class:`~jobqueue.schedules.record.Policy`."""

    misfire: str
    misfire_grace: Seconds
    overlap: str


class ScheduleInfo(NamedTuple):
    """What is stored about a schedule.

    Attributes:
        id: Its id.
        spec: When it is due, in words; of one that cannot be read, why not.
        job: The job type of its jobs; empty for one that cannot be read, such as one that a newer
            version has written. It is not fired here, and can be deleted.
        next_at: When it is due next; ``None`` while it is paused, or if it never is again.
        last_at: The last instant that made a job, or ``None``.
        last_id: Id of that job, or ``None``.
        paused: It is not due before it is resumed.
        misfire: What becomes of instants that nobody fired in time.
        overlap: What becomes of an instant when the last job has not ended.
    """

    id: str
    spec: str
    job: str
    next_at: datetime | None
    last_at: datetime | None
    last_id: str | None
    paused: bool
    misfire: Misfire
    overlap: Overlap


class _Declaration(NamedTuple):
    timing: Timing
    job: JobSpec[Any]
    policy: Policy


class QueueSchedules:
    """The schedules of one queue, as they are stored: shared by all its producers and workers.

    The job of an instant has the id ``<schedule>@<instant in UTC>``, such as
    ``report@2026-03-29T01:00:00Z``. Every call may raise ``StorageUnavailable``: it may or may not
    have happened then, and can be made again.

    Args:
        producer: Of the queue.
    """

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._declared: dict[str, _Declaration] = {}

    # -- declared in code ------------------------------------------------------------------------

    def declare(
        self, id: str, spec: Timing, job: JobSpec[Any], **options: Unpack[PolicyOptions]
    ) -> None:
        """Let every worker of this queue that starts :meth:`upsert` this schedule.

        A schedule that is no longer declared stays until it is deleted.

        Raises:
            TypeError, ValueError: As :meth:`upsert`, or the id has been declared already.
        """
        _check(id, spec, job)
        if id in self._declared:
            raise ValueError(
                f"a schedule {id!r} has been declared already: give one of them another id, "
                'such as @queue.cron("...", id="...")'
            )
        self._declared[id] = _Declaration(spec, job, Policy(**options))

    async def upsert_declared(self) -> None:
        """What a worker does at its start."""
        for id, (timing, job, policy) in self._declared.items():
            try:
                await self._upsert(id, self._schedule(timing, job, policy))
            except RecordError as error:  # as of a newer version: it is not for this one to change
                logger.error("schedule %r stays as it is: %s", id, error)

    # -- at run time -----------------------------------------------------------------------------

    async def upsert(
        self, id: str, spec: Timing, job: JobSpec[Any], **options: Unpack[PolicyOptions]
    ) -> ScheduleInfo:
        """Store a schedule, or change the one of this id.

        What is changed takes effect at once: a new timing from the next instant after now on. What
        is as before stays: the next instant while the timing does; and a paused schedule is paused
        until it is resumed.

        Args:
            id: Text of 1 to 230 bytes.
            spec: ``Cron("30 2 * * *", tz="Europe/Rome")`` or ``Every(30)``.
            job: What each instant enqueues: ``f.spec(...)`` or ``JobSpec("name", payload)``. Its
                options say nothing of ``id``, ``delay`` and ``run_at``.
            options: See :class:`~jobqueue.schedules.record.Policy`.

        Raises:
            TypeError: A value of the wrong type; nothing is stored.
            ValueError: A value out of range; nothing is stored.
            SerializationError: The payload cannot be serialised or is too large; nothing is stored.
        """
        _check(id, spec, job)
        return await self._upsert(id, self._schedule(spec, job, Policy(**options)))

    async def pause(self, id: str) -> None:
        """Let a schedule rest. Its jobs that exist stay. Idempotent.

        Raises:
            ScheduleNotFound: No such id.
        """
        await self._change(id, lambda schedule: schedule._replace(paused=True))

    async def resume(self, id: str) -> None:
        """Go on with the next instant after now; nothing is made up for. Idempotent.

        Raises:
            ScheduleNotFound: No such id.
        """
        await self._change(id, lambda schedule: schedule._replace(paused=False))

    async def run_now(self, id: str) -> Receipt[Any]:
        """Enqueue the schedule's job once more, now, paused or not, under an id of its own.

        The instants stay as they are. With ``overlap`` ``queue`` or ``replace`` it takes its turn
        among the schedule's jobs.

        Raises:
            ScheduleNotFound: No such id.
            QueueFull: The queue takes nothing new.
        """
        schedule = decode_record((await self._get(id)).record)
        return await self._producer.enqueue_job(new_job(id, schedule, new_job_id()))

    async def delete(self, id: str) -> bool:
        """Forget a schedule; whether there was one. Its jobs that exist stay.

        One that is declared comes back with the next worker that starts.
        """
        storage = await self._producer.open_storage()
        return await storage.delete_schedule(self._producer.queue, check_name(id, "id"))

    async def get(self, id: str) -> ScheduleInfo | None:
        """What is stored about a schedule, or ``None``."""
        stored, _ = await self._read(id)
        return None if stored is None else _info(stored)

    async def list(self) -> list[ScheduleInfo]:
        """All schedules, by id."""
        storage = await self._producer.open_storage()
        seen = await storage.schedules(self._producer.queue)
        return [_info(stored) for stored in seen.found]

    # -- how -------------------------------------------------------------------------------------

    def _schedule(self, timing: Timing, job: JobSpec[Any], policy: Policy) -> Schedule:
        made = self._producer.intake.new_job(job)
        return Schedule(
            timing=timing,
            job=ScheduledJob(made.name, made.spec, made.delay_ms, made.ttl_ms, made.flow),
            misfire=Misfire(policy.misfire),
            misfire_grace_ms=to_ms(policy.misfire_grace, "misfire_grace", zero=True),
            overlap=Overlap(policy.overlap),
        )

    async def _read(self, id: str) -> tuple[StoredSchedule | None, int]:
        """What is stored, and the storage's time."""
        check_name(id, "id")
        storage = await self._producer.open_storage()
        seen = await storage.schedules(self._producer.queue, [id])
        return (seen.found[0] if seen.found else None), seen.now_ms

    async def _get(self, id: str) -> StoredSchedule:
        stored, _ = await self._read(id)
        if stored is None:
            raise ScheduleNotFound(id)
        return stored

    async def _upsert(self, id: str, wanted: Schedule) -> ScheduleInfo:
        def change(before: Schedule | None) -> Schedule:
            return wanted if before is None else wanted._replace(paused=before.paused)

        return _info(await self._put(id, change))

    async def _change(self, id: str, change: Callable[[Schedule], Schedule]) -> None:
        def change_existing(before: Schedule | None) -> Schedule:
            if before is None:
                raise ScheduleNotFound(id)
            return change(before)

        await self._put(id, change_existing)

    async def _put(self, id: str, change: Callable[[Schedule | None], Schedule]) -> StoredSchedule:
        """Change what is stored, again if somebody else does at the same time."""
        while True:
            stored, now_ms = await self._read(id)
            before = None if stored is None else decode_record(stored.record)
            wanted = change(before)
            if stored is None:
                stored = StoredSchedule(id, b"", 0, "")
            elif wanted == before:
                return stored
            if wanted.paused:
                next_ms = 0
            elif before is not None and not before.paused and wanted.timing == before.timing:
                next_ms = stored.next_ms
            else:
                next_ms = next_instant(wanted.timing, now_ms)
            new = stored._replace(
                record=encode_record(wanted),
                version=stored.version + 1,
                token=new_token(),
                next_ms=next_ms,
            )
            if await self._producer.storage.put_schedule(self._producer.queue, new):
                return new


def _check(id: object, timing: object, job: object) -> None:
    if len(check_name(id, "the id of a schedule").encode()) > _MAX_ID_BYTES:
        raise ValueError(f"the id of a schedule must be at most {_MAX_ID_BYTES} bytes long")
    if not isinstance(timing, Cron | Every):
        raise TypeError(
            f'when a schedule is due must be Cron("30 2 * * *") or Every(30), not {timing!r:.100}'
        )
    if not isinstance(job, JobSpec):
        raise TypeError(
            f'the job of a schedule must be f.spec(...) or JobSpec("name", payload), '
            f"not {job!r:.100}"
        )
    options = job.options
    for name in ("id", "delay", "run_at"):
        if getattr(options, name) is not UNSET:
            raise ValueError(f"the job of a schedule has no {name}: the schedule says when it runs")


def _info(stored: StoredSchedule) -> ScheduleInfo:
    name, misfire, overlap, paused = "", Misfire.ONCE, Overlap.ALLOW, False
    try:
        schedule = decode_record(stored.record)
    except RecordError as error:
        timing = str(error)
    else:
        timing, name = str(schedule.timing), schedule.job.name
        misfire, overlap, paused = schedule.misfire, schedule.overlap, schedule.paused
    return ScheduleInfo(
        id=stored.id,
        spec=timing,
        job=name,
        next_at=_at(stored.next_ms),
        last_at=_at(stored.last_ms),
        last_id=stored.last_id or None,
        paused=paused,
        misfire=misfire,
        overlap=overlap,
    )


def _at(ms: int) -> datetime | None:
    return datetime.fromtimestamp(ms / 1000, UTC) if ms else None
