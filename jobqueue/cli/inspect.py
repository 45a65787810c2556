"""``jobqueue status`` and ``counts``: one look, then out again."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from typing import Any, Final

from jobqueue.cli.exits import CommandError, usage_errors
from jobqueue.cli.output import (
    compact,
    jsonable,
    moment,
    one_line,
    table,
    write,
    write_json,
    write_rows,
)
from jobqueue.cli.place import Place
from jobqueue.errors import JobError, JobNotFound
from jobqueue.flow import Priority
from jobqueue.ids import check_name
from jobqueue.job import JobInfo
from jobqueue.queue import Queue

_WATCH_SECONDS: Final = 1.0


# -- status ---------------------------------------------------------------------------------------


def status(place: Place, id: str) -> None:
    """Write what is known about one job.

    Raises:
        CommandError, JobQueueError: Nothing is known, or can be asked for.
    """
    with usage_errors():
        check_name(id, "ID")
    info = asyncio.run(_get(place, id))
    if info is None:
        if place.as_json:
            write_json(None)
        raise JobNotFound(id)
    if place.as_json:
        write_json(job_document(info))
    else:
        write_rows(f"job {one_line(info.id)}", _status_rows(info))


async def _get(place: Place, id: str) -> JobInfo | None:
    queue = place.open_to_look()
    async with queue:
        return await queue.get(id)


def job_document(info: JobInfo) -> dict[str, Any]:
    """A job as it is written with ``--json``."""
    document = asdict(info)
    del document["raw"]  # the payload before it was decoded
    return document


def _status_rows(info: JobInfo) -> list[tuple[str, str]]:
    rows: list[tuple[str, str | None]] = [
        ("id", one_line(info.id)),
        ("name", one_line(info.name)),
        ("queue", one_line(info.queue)),
        ("state", info.state + (" (stop requested)" if info.cancel_requested else "")),
        ("attempt", f"{info.attempt} of {info.max_attempts}"),
        ("payload", compact(info.payload)),
        ("priority", info.priority if info.priority is not Priority.NORMAL else None),
        ("group", one_line(info.group) if info.group else None),
        ("unique", one_line(info.unique_key) if info.unique_key else None),
        ("limit", one_line(info.limit) if info.limit else None),
        ("limit key", one_line(info.limit_key) if info.limit_key else None),
        ("enqueued", moment(info.enqueued_at)),
        ("due", moment(info.due_at)),
        ("start by", moment(info.start_by)),
        ("started", moment(info.started_at)),
        ("finished", moment(info.finished_at)),
        ("kept until", moment(info.expires_at)),
        ("worker", one_line(info.worker) if info.worker else None),
        ("result", compact(info.result) if info.state == "completed" else None),
        ("error", _error_line(info.error) if info.error else None),
    ]
    if info.error and info.error.traceback:
        rows += [("", one_line(line)) for line in info.error.traceback.splitlines()]
    return [(label, value) for label, value in rows if value is not None]


def _error_line(error: JobError) -> str:
    return one_line(f"{error.type}: {error.message} ({error.reason})")


# -- counts ---------------------------------------------------------------------------------------


def counts(place: Place, *, watch: bool) -> None:
    """Write the number of jobs in each state; with ``watch``, again every second.

    Raises:
        CommandError, JobQueueError: They cannot be asked for.
    """
    if watch and place.as_json:
        raise CommandError("--watch and --json exclude each other: --json is one document")
    asyncio.run(_counts(place, watch))


async def _counts(place: Place, watch: bool) -> None:
    queue = place.open_to_look()
    async with queue:
        if watch:
            await _watch(queue)
            return
        numbers = await queue.counts()
    if place.as_json:
        write_json(numbers)
    else:
        write_rows(*_counts_table(queue, numbers), numbers=True)


def _counts_table(queue: Queue, numbers: dict[str, int]) -> tuple[str, list[tuple[str, str]]]:
    title = f"queue {one_line(queue.name)} on {one_line(queue.storage.url)}"
    return title, [(state, str(number)) for state, number in numbers.items()]


async def _watch(queue: Queue) -> None:
    if not sys.stdout.isatty():
        while True:
            write(compact(jsonable(await queue.counts())))
            await asyncio.sleep(_WATCH_SECONDS)
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        while True:
            numbers = await queue.counts()
            live.update(table(*_counts_table(queue, numbers), numbers=True), refresh=True)
            await asyncio.sleep(_WATCH_SECONDS)
