"""``jobqueue schedules``: jobs that are enqueued again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer

from jobqueue.cli.enqueue import job_spec
from jobqueue.cli.exits import CommandError, exit_codes, usage_errors
from jobqueue.cli.options import (
    ExpiresOption,
    GroupOption,
    JsonOption,
    KeyOption,
    LimitOption,
    MaxAttemptsOption,
    NameArgument,
    PayloadArgument,
    PriorityOption,
    QueueOption,
    ResultTtlOption,
    TimeoutOption,
    UrlOption,
    exit_codes_help,
    group,
)
from jobqueue.cli.output import moment, one_line, write, write_json, write_rows, write_table
from jobqueue.cli.place import Place
from jobqueue.cli.reading import read_moment
from jobqueue.errors import ScheduleNotFound
from jobqueue.ids import check_name
from jobqueue.queue import Queue
from jobqueue.receipt import JobSpec
from jobqueue.schedules import Cron, Every, Misfire, Overlap, PolicyOptions, ScheduleInfo

app = group("Jobs that are enqueued again and again.")

_PLAIN = exit_codes_help(_130="interrupted")
_ONE = exit_codes_help(_4="no such schedule", _130="interrupted")

ScheduleArgument = Annotated[str, typer.Argument(metavar="ID", help="The schedule's id.")]


@app.command("list", epilog=_PLAIN)
def list_schedules(
    queue: QueueOption = "default", url: UrlOption = None, as_json: JsonOption = False
) -> None:
    """Show all schedules, when they are due next, and when they were last."""
    with exit_codes():
        place = Place(queue=queue, url=url, as_json=as_json)
        found = asyncio.run(_list(place))
        if as_json:
            write_json([info._asdict() for info in found])
            return
        columns = ("id", "when", "job", "next", "last")
        rows = [[value for _, value in _rows(info)[:5]] for info in found]
        write_table(f"queue {one_line(queue)}", columns, rows)


async def _list(place: Place) -> list[ScheduleInfo]:
    async with place.open_to_look() as queue:
        return await queue.schedules.list()


@app.command(epilog=_ONE)
def show(
    id: ScheduleArgument,
    queue: QueueOption = "default",
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one schedule."""
    with exit_codes():
        place = Place(queue=queue, url=url, as_json=as_json)
        info = asyncio.run(_get(place, id))
        if info is None:
            if as_json:
                write_json(None)
            raise ScheduleNotFound(id)
        _show(place, info)


async def _get(place: Place, id: str) -> ScheduleInfo | None:
    with usage_errors():
        check_name(id, "ID")
    async with place.open_to_look() as queue:
        return await queue.schedules.get(id)


@app.command("set", epilog=_PLAIN)
def set_schedule(
    id: ScheduleArgument,
    name: NameArgument,
    payload: PayloadArgument = None,
    cron: Annotated[
        str | None,
        typer.Option(
            "--cron",
            metavar="EXPRESSION",
            help="Minute, hour, day of the month, month, day of the week: '30 2 * * MON-FRI'.",
        ),
    ] = None,
    tz: Annotated[
        str | None,
        typer.Option("--tz", help="With --cron: the time zone, such as Europe/Rome. Default: UTC."),
    ] = None,
    every: Annotated[
        float | None, typer.Option("--every", metavar="SECONDS", help="Instead of --cron.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--start",
            metavar="TIME",
            help="With --every: the first instant. Default: the multiples since 1970 in UTC.",
        ),
    ] = None,
    misfire: Annotated[
        Misfire | None,
        typer.Option(
            "--misfire",
            help="What becomes of instants that nobody fired in time. Default: once.",
            show_default=False,
        ),
    ] = None,
    misfire_grace: Annotated[
        float | None,
        typer.Option(
            "--misfire-grace",
            metavar="SECONDS",
            help="By which an instant may be late before that. Default: 60.",
        ),
    ] = None,
    overlap: Annotated[
        Overlap | None,
        typer.Option(
            "--overlap",
            help="What becomes of an instant when the last job has not ended. Default: allow.",
            show_default=False,
        ),
    ] = None,
    queue: QueueOption = "default",
    url: UrlOption = None,
    priority: PriorityOption = None,
    expires: ExpiresOption = None,
    group: GroupOption = None,
    limit: LimitOption = None,
    key: KeyOption = None,
    timeout: TimeoutOption = None,
    max_attempts: MaxAttemptsOption = None,
    result_ttl: ResultTtlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store a schedule, or change the one of this id."""
    with exit_codes():
        timing = _timing(cron, tz, every, start)
        given = {
            "priority": priority,
            "expires": expires,
            "group": group,
            "limit": limit,
            "key": key,
            "timeout": timeout,
            "max_attempts": max_attempts,
            "result_ttl": result_ttl,
        }
        job = job_spec(name, payload, given)
        policy: PolicyOptions = {}
        if misfire is not None:
            policy["misfire"] = misfire
        if misfire_grace is not None:
            policy["misfire_grace"] = misfire_grace
        if overlap is not None:
            policy["overlap"] = overlap
        place = Place(queue=queue, url=url, as_json=as_json)
        _show(place, asyncio.run(_set(place, id, timing, job, policy)))


def _timing(
    cron: str | None, tz: str | None, every: float | None, start: str | None
) -> Cron | Every:
    if (cron is None) == (every is None):
        raise CommandError("give --cron or --every, not both" if cron else "give --cron or --every")
    if tz is not None and cron is None:
        raise CommandError("--tz goes with --cron")
    if start is not None and every is None:
        raise CommandError("--start goes with --every")
    with usage_errors():
        if every is not None:
            return Every(every, start=read_moment(start, "--start"))
        return Cron(cron or "", tz=tz or "UTC")


async def _set(
    place: Place, id: str, timing: Cron | Every, job: JobSpec[Any], policy: PolicyOptions
) -> ScheduleInfo:
    async with place.open() as queue:
        with usage_errors():
            return await queue.schedules.upsert(id, timing, job, **policy)


@app.command(epilog=_ONE)
def pause(
    id: ScheduleArgument,
    queue: QueueOption = "default",
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a schedule rest. Its jobs that exist stay."""
    with exit_codes():
        place = Place(queue=queue, url=url, as_json=as_json)
        change = _changed(place, id, lambda queue: queue.schedules.pause(id))
        _show(place, asyncio.run(change))


@app.command(epilog=_ONE)
def resume(
    id: ScheduleArgument,
    queue: QueueOption = "default",
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with the next instant after now; nothing is made up for."""
    with exit_codes():
        place = Place(queue=queue, url=url, as_json=as_json)
        change = _changed(place, id, lambda queue: queue.schedules.resume(id))
        _show(place, asyncio.run(change))


async def _changed(
    place: Place, id: str, change: Callable[[Queue], Awaitable[None]]
) -> ScheduleInfo:
    with usage_errors():
        check_name(id, "ID")
    async with place.open() as queue:
        await change(queue)
        info = await queue.schedules.get(id)
    if info is None:
        raise ScheduleNotFound(id)
    return info


@app.command(
    epilog=exit_codes_help(
        _4="no such schedule",
        _7="the queue is full; nothing was stored, try again later",
        _8="the queue is draining; nothing was stored",
        _130="interrupted",
    )
)
def run(
    id: ScheduleArgument,
    queue: QueueOption = "default",
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Enqueue a schedule's job once more, now, paused or not."""
    with exit_codes():
        place = Place(queue=queue, url=url, as_json=as_json)
        asyncio.run(_run(place, id))


async def _run(place: Place, id: str) -> None:
    with usage_errors():
        check_name(id, "ID")
    async with place.open() as queue:
        receipt = await queue.schedules.run_now(id)
    if place.as_json:
        write_json(
            {
                "schedule": id,
                "id": receipt.id,
                "queue": place.queue,
                "status": receipt.status,
                "state": receipt.state,
            }
        )
    else:
        write(f"{receipt.status} {one_line(receipt.id)}")


@app.command(epilog=_ONE)
def delete(
    id: ScheduleArgument,
    queue: QueueOption = "default",
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget a schedule. Its jobs that exist stay. One that is declared in code comes back with the
    next worker that starts."""
    with exit_codes():
        place = Place(queue=queue, url=url, as_json=as_json)
        deleted = asyncio.run(_delete(place, id))
        if as_json:
            write_json({"id": id, "deleted": deleted})
        if not deleted:
            raise ScheduleNotFound(id)
        if not as_json:
            write(f"deleted {one_line(id)}")


async def _delete(place: Place, id: str) -> bool:
    with usage_errors():
        check_name(id, "ID")
    async with place.open() as queue:
        return await queue.schedules.delete(id)


def _show(place: Place, info: ScheduleInfo) -> None:
    if place.as_json:
        write_json(info._asdict())
    else:
        rows = [(label, value) for label, value in _rows(info) if value is not None]
        write_rows(f"schedule {one_line(info.id)}", rows)


def _rows(info: ScheduleInfo) -> list[tuple[str, str | None]]:
    return [
        ("id", one_line(info.id)),
        ("when", one_line(info.spec)),
        ("job", one_line(info.job)),
        ("next", "paused" if info.paused else moment(info.next_at)),
        ("last", moment(info.last_at)),
        ("last job", one_line(info.last_id) if info.last_id else None),
        ("misfire", info.misfire),
        ("overlap", info.overlap),
    ]
