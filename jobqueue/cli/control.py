"""``jobqueue queues``, ``pause``, ``resume``, ``drain``, ``configure``: what holds for a queue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any

import typer

from jobqueue.admin import QueueControl
from jobqueue.cli.exits import CommandError, exit_codes, usage_errors
from jobqueue.cli.options import JsonOption, QueueOption, UrlOption, exit_codes_help
from jobqueue.cli.output import one_line, write, write_json, write_table
from jobqueue.cli.place import Place
from jobqueue.cli.reading import read_number
from jobqueue.errors import DrainTimeout
from jobqueue.queue import Queue
from jobqueue.states import JobState


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    plain = exit_codes_help(_130="interrupted")
    app.command(epilog=plain)(queues)
    app.command(epilog=plain)(pause)
    app.command(epilog=plain)(resume)
    app.command(
        epilog=exit_codes_help(
            _6="with --wait: something still waits or runs; the queue goes on draining",
            _130="interrupted; the queue goes on draining",
        )
    )(drain)
    app.command(epilog=plain)(configure)


def queues(
    queue: Annotated[
        list[str],
        typer.Option("--queue", "-q", help="A queue's name; may be given several times."),
    ] = ["default"],  # noqa: B006 - typer wants it so, and nobody changes it
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what holds for queues, and the number of their jobs in each state."""
    with exit_codes():
        # Each queue once, in the order in which they were given.
        places = [Place(queue=name, url=url, as_json=as_json) for name in dict.fromkeys(queue)]
        seen = asyncio.run(_look(places))
        if as_json:
            write_json([{**document(name, control), "counts": n} for name, control, n in seen])
            return
        write_table(
            f"{len(seen)} queue{'' if len(seen) == 1 else 's'}",
            ["queue", *(one_line(name) for name, _, _ in seen)],
            _rows([(control, numbers) for _, control, numbers in seen]),
        )


async def _look(places: list[Place]) -> list[tuple[str, QueueControl, dict[str, int]]]:
    found: list[tuple[str, QueueControl, dict[str, int]]] = []
    for place in places:
        async with place.open_to_look() as queue:
            found.append((queue.name, await queue.control(), await queue.counts()))
    return found


def _rows(seen: list[tuple[QueueControl, dict[str, int]]]) -> list[list[str | None]]:
    """A row for each thing that is known, a column for each queue."""
    return [
        ["paused", *("yes" if control.paused else None for control, _ in seen)],
        ["draining", *("yes" if control.draining else None for control, _ in seen)],
        ["max length", *(_text(control.max_length) for control, _ in seen)],
        ["low share", *(_text(control.low_share) for control, _ in seen)],
        *([state, *(str(numbers[state]) for _, numbers in seen)] for state in JobState),
    ]


def _text(number: float | None) -> str | None:
    return None if number is None else f"{number:.3g}" if isinstance(number, float) else str(number)


def pause(
    queue: QueueOption = "default", url: UrlOption = None, as_json: JsonOption = False
) -> None:
    """Let no worker start anything; what runs, runs on."""
    with exit_codes():
        _change(Place(queue=queue, url=url, as_json=as_json), Queue.pause)


def resume(
    queue: QueueOption = "default", url: UrlOption = None, as_json: JsonOption = False
) -> None:
    """Take back pause and drain."""
    with exit_codes():
        _change(Place(queue=queue, url=url, as_json=as_json), Queue.resume)


def drain(
    queue: QueueOption = "default",
    url: UrlOption = None,
    wait: Annotated[
        float | None,
        typer.Option("--wait", help="Wait so many seconds until nothing waits or runs any more."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Accept nothing new; what is there is finished."""
    with exit_codes():
        place = Place(queue=queue, url=url, as_json=as_json)
        try:
            _change(place, lambda queue: queue.drain(wait))
        except DrainTimeout as error:
            if as_json:
                control = QueueControl(draining=True, paused=error.paused)
                write_json({**document(error.queue, control), "remaining": error.remaining})
            raise


def configure(
    queue: QueueOption = "default",
    url: UrlOption = None,
    max_length: Annotated[
        str | None,
        typer.Option(
            "--max-length",
            metavar="N|none",
            help="Jobs that may wait at a time; more are refused. none: any number.",
        ),
    ] = None,
    low_share: Annotated[
        str | None,
        typer.Option(
            "--low-share",
            metavar="SHARE|none",
            help="Of the jobs that start, at least this share is low while there are any: 0.1 for "
            "every tenth, at most 0.5. none: strict priority.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Set what holds for the queue until it is set again."""
    with exit_codes():
        if max_length is None and low_share is None:
            raise CommandError("give --max-length, --low-share or both")
        length = read_number(max_length, int, "--max-length")
        share = read_number(low_share, float, "--low-share")

        async def change(queue: Queue) -> None:
            if low_share is not None:
                await queue.set_low_share(share)
            if max_length is not None:
                await queue.set_max_length(None if length is None else int(length))

        _change(Place(queue=queue, url=url, as_json=as_json), change)


def _change(place: Place, change: Callable[[Queue], Awaitable[None]]) -> None:
    """Change what holds for a queue, and write what holds then."""
    control = asyncio.run(_changed(place, change))
    if place.as_json:
        write_json(document(place.queue, control))
    else:
        write(f"{one_line(place.queue)}: {in_words(control)}")


async def _changed(place: Place, change: Callable[[Queue], Awaitable[None]]) -> QueueControl:
    async with place.open() as queue:
        with usage_errors():
            await change(queue)
        return await queue.control()


def document(queue: str, control: QueueControl) -> dict[str, Any]:
    """What holds for a queue, as it is written with ``--json``."""
    return {"queue": queue, **asdict(control)}


def in_words(control: QueueControl) -> str:
    """What holds for a queue, on one line."""
    words = [
        "paused" if control.paused else "",
        "draining" if control.draining else "",
        f"at most {control.max_length} may wait" if control.max_length else "",
        f"low share {control.low_share:.3g}" if control.low_share else "",
    ]
    return ", ".join(filter(None, words)) or "open"
