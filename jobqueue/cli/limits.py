"""``jobqueue limits``: what is in force, and what an operator puts in its place."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated, Any

import typer

from jobqueue.cli.exits import CommandError, ExitCode, exit_codes, usage_errors
from jobqueue.cli.options import JsonOption, QueueOption, UrlOption, exit_codes_help, group
from jobqueue.cli.output import one_line, write, write_json, write_table
from jobqueue.cli.place import Place
from jobqueue.cli.reading import read_rate
from jobqueue.limits import Limit, LimitInfo, Rate
from jobqueue.queue import Queue

app = group("How many jobs run at a time, or start in a time, on all workers together.")

TypeOption = Annotated[
    str | None, typer.Option("--type", metavar="NAME", help="For the jobs of one job type.")
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="NAME",
        help="For the jobs of each key apart that fall under the limit of this name: that of the "
        "job type, unless it gives another one.",
    ),
]


@app.command("list", epilog=exit_codes_help(_130="interrupted"))
def list_limits(
    queue: QueueOption = "default", url: UrlOption = None, as_json: JsonOption = False
) -> None:
    """Show the limits in force, and what they do now."""
    with exit_codes():
        place = Place(queue=queue, url=url, as_json=as_json)
        found = asyncio.run(_list(place))
        if as_json:
            write_json([_document(info) for info in found])
            return
        columns = ("kind", "name", "concurrency", "rate", "pinned", "running", "held back")
        write_table(f"queue {one_line(queue)}", columns, map(_row, found))


async def _list(place: Place) -> list[LimitInfo]:
    async with place.open_to_look() as queue:
        return await queue.limits.list()


@app.command("set", epilog=exit_codes_help(_130="interrupted"))
def set_limit(
    queue: QueueOption = "default",
    url: UrlOption = None,
    job_type: TypeOption = None,
    key: KeyOption = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", "-c", help="Jobs that run at a time.")
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            "--rate", metavar="N/TIME", help="Starts in a time, such as 200/s, 100/60s or 5/m."
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            metavar="sliding|bucket",
            help="sliding (the default): in any window of that time. bucket: evenly spread.",
        ),
    ] = None,
    burst: Annotated[
        int | None,
        typer.Option("--burst", help="With --kind bucket: so many at once after a quiet time."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Put a limit in force, at once, in place of the one that was: for the whole queue, with
    --type for a job type, or with --key for each key. It stays, whatever the code declares."""
    with exit_codes():
        starts = read_rate(rate, kind, burst)
        if concurrency is None and starts is None:
            raise CommandError("give --concurrency, --rate or both")
        with usage_errors():
            limit = Limit(concurrency=concurrency, rate=starts)
        place = Place(queue=queue, url=url, as_json=as_json)
        info = asyncio.run(_set(place, limit, job_type, key))
        if as_json:
            write_json(_document(info))
        else:
            write(f"{_which(info)}: {_in_words(info.limit)}")


async def _set(place: Place, limit: Limit, job_type: str | None, key: str | None) -> LimitInfo:
    async with place.open() as queue:
        with usage_errors():
            await queue.limits.set(limit, job_type=job_type, key=key)
        return await _find(queue, job_type, key) or LimitInfo(
            kind="type" if job_type else "key" if key else "queue",
            name=job_type or key or "",
            limit=limit,
            pinned=True,
            running=0,
            held_back=0,
        )


@app.command(epilog=exit_codes_help(_4="no such limit", _130="interrupted"))
def remove(
    queue: QueueOption = "default",
    url: UrlOption = None,
    job_type: TypeOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a limit. One that is declared comes back with the next worker that starts."""
    with exit_codes():
        place = Place(queue=queue, url=url, as_json=as_json)
        info = asyncio.run(_remove(place, job_type, key))
        if as_json:
            write_json(None if info is None else _document(info))
        if info is None:
            raise CommandError("there is no such limit: see limits list", ExitCode.NOT_FOUND)
        if not as_json:
            write(f"{_which(info)}: no limit; it was {_in_words(info.limit)}")


async def _remove(place: Place, job_type: str | None, key: str | None) -> LimitInfo | None:
    async with place.open() as queue:
        info = await _find(queue, job_type, key)
        with usage_errors():
            await queue.limits.remove(job_type=job_type, key=key)
        return info


async def _find(queue: Queue, job_type: str | None, key: str | None) -> LimitInfo | None:
    wanted = ("type", job_type) if job_type else ("key", key) if key else ("queue", "")
    found = await queue.limits.list()
    return next((info for info in found if (info.kind, info.name) == wanted), None)


def _document(info: LimitInfo) -> dict[str, Any]:
    rate = info.limit.rate
    return {
        "kind": info.kind,
        "name": info.name,
        "concurrency": info.limit.concurrency,
        "rate": None if rate is None else asdict(rate),
        "pinned": info.pinned,
        "running": info.running,
        "held_back": info.held_back,
    }


def _row(info: LimitInfo) -> list[str | None]:
    limit = info.limit
    return [
        info.kind,
        one_line(info.name) or None,
        None if limit.concurrency is None else str(limit.concurrency),
        None if limit.rate is None else _rate_in_words(limit.rate),
        "yes" if info.pinned else None,
        str(info.running),
        str(info.held_back),
    ]


def _which(info: LimitInfo) -> str:
    if info.kind == "queue":
        return "the whole queue"
    return f"{'job type' if info.kind == 'type' else 'each key of'} {one_line(info.name)}"


def _in_words(limit: Limit) -> str:
    words = [
        "" if limit.concurrency is None else f"{limit.concurrency} at a time",
        "" if limit.rate is None else _rate_in_words(limit.rate),
    ]
    return ", ".join(filter(None, words))


def _rate_in_words(rate: Rate) -> str:
    text = f"{rate.count}/{'' if rate.per == 1 else f'{rate.per:g}'}s"
    return text if rate.kind == "sliding" else f"{text} bucket of {rate.burst}"
