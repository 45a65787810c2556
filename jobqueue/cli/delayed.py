"""``jobqueue scheduled list``, ``reschedule`` and ``run-now``: jobs that wait for their time."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated

import typer

from jobqueue.cli.exits import CommandError, ExitCode, exit_codes, usage_errors
from jobqueue.cli.inspect import job_document
from jobqueue.cli.options import (
    IdArgument,
    JsonOption,
    QueueOption,
    UrlOption,
    exit_codes_help,
    group,
)
from jobqueue.cli.output import moment, one_line, write, write_json, write_table
from jobqueue.cli.place import Place
from jobqueue.cli.reading import read_moment
from jobqueue.errors import JobNotFound
from jobqueue.ids import check_name
from jobqueue.job import JobInfo
from jobqueue.states import RescheduleResult
from jobqueue.values import to_ms

scheduled = group("Jobs that wait for their time, or for their retry.")


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(scheduled, name="scheduled")
    epilog = exit_codes_help(
        _4="no such job",
        _9="the job does not wait for a time: it is queued, runs, or has ended",
        _130="interrupted",
    )
    app.command(epilog=epilog)(reschedule)
    app.command(epilog=epilog)(run_now)


@scheduled.command("list", epilog=exit_codes_help(_130="interrupted"))
def list_scheduled(
    queue: QueueOption = "default",
    url: UrlOption = None,
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, max=1_000_000, help="So many at most.")
    ] = 100,
    as_json: JsonOption = False,
) -> None:
    """Show jobs that wait for their time, or for their retry, the next one first."""
    with exit_codes():
        place = Place(queue=queue, url=url, as_json=as_json)
        found = asyncio.run(_scheduled(place, count))
        if as_json:
            write_json([job_document(info) for info in found])
            return
        rows = [
            (one_line(info.id), one_line(info.name), info.state, moment(info.due_at))
            for info in found
        ]
        write_table(f"queue {one_line(queue)}", ("id", "name", "state", "due"), rows)


async def _scheduled(place: Place, count: int) -> list[JobInfo]:
    async with place.open_to_look() as queue:
        return await queue.scheduled(count)


def reschedule(
    id: IdArgument,
    after: Annotated[
        float | None, typer.Option("--in", help="Seconds from now until it is due.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            "--at", metavar="TIME", help="When it is due, such as 2026-03-29T02:30:00+02:00."
        ),
    ] = None,
    queue: QueueOption = "default",
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a job that waits for its time, or for its retry, another time."""
    with exit_codes():
        when = read_moment(at, "--at")
        if (when is None) == (after is None):
            raise CommandError("give --in or --at, not both" if at else "give --in or --at")
        with usage_errors():
            to_ms(after or 0, "--in", zero=True)
        place = Place(queue=queue, url=url, as_json=as_json)
        asyncio.run(_reschedule(place, id, when or after or 0))


def run_now(
    id: IdArgument,
    queue: QueueOption = "default",
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a job that waits for its time, or for its retry, start at once."""
    with exit_codes():
        asyncio.run(_reschedule(Place(queue=queue, url=url, as_json=as_json), id, 0))


async def _reschedule(place: Place, id: str, at: datetime | float) -> None:
    with usage_errors():
        check_name(id, "ID")
    async with place.open() as queue:
        with usage_errors():
            answer = await queue.reschedule(id, at)
        info = await queue.get(id)
    due_at = None if info is None else info.due_at
    if place.as_json:
        state = None if info is None else info.state
        write_json({"id": id, "status": answer, "state": state, "due_at": due_at})
    if answer is RescheduleResult.NOT_FOUND:
        raise JobNotFound(id)
    if answer is not RescheduleResult.UPDATED:
        stands = "is running" if answer is RescheduleResult.RUNNING else f"is {answer}"
        raise CommandError(f"job {id!r} {stands}: it waits for no time", ExitCode.NOT_WAITING)
    if not place.as_json:
        write(f"updated {one_line(id)}: {f'due {moment(due_at)}' if due_at else 'due now'}")
