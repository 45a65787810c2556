"""``jobqueue clear`` and ``obliterate``: many jobs at once, with a bar on a terminal."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Annotated

import typer

from jobqueue.admin import Progress
from jobqueue.cli.exits import CommandError, ExitCode, exit_codes
from jobqueue.cli.options import JsonOption, QueueOption, UrlOption, exit_codes_help
from jobqueue.cli.output import one_line, write, write_json
from jobqueue.cli.place import Place
from jobqueue.errors import ConfigurationError
from jobqueue.queue import Queue
from jobqueue.states import JobState

_WAITING = (JobState.SCHEDULED, JobState.QUEUED, JobState.RETRYING)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog=exit_codes_help(_130="interrupted; what is cancelled stays so"))(clear)
    app.command(
        epilog=exit_codes_help(_130="interrupted; the queue is paused and draining: do it again")
    )(obliterate)


def clear(
    queue: QueueOption = "default",
    url: UrlOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Cancel every job that waits; what runs, runs on."""
    with exit_codes():
        place = Place(queue=queue, url=url, as_json=as_json)
        if not yes:
            _ask(f"Cancel every job of queue {one_line(queue)!r} that waits?")
        number = asyncio.run(_emptied(place, _WAITING, "cancelled", Queue.clear))
        _say(place, "cancelled", number)


def obliterate(
    confirm: Annotated[
        str, typer.Option("--confirm", metavar="NAME", help="The queue's name, once more.")
    ],
    queue: QueueOption = "default",
    url: UrlOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also while jobs run: their workers lose them.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Forget everything about a queue: jobs of any state, results, schedules, limits."""
    with exit_codes():
        place = Place(queue=queue, url=url, as_json=as_json)
        if confirm != queue:
            raise CommandError(
                f"this forgets every job of queue {queue!r} for ever; to go on, give --confirm "
                f"with its name, not {confirm!r}"
            )

        async def work(queue: Queue, progress: Progress | None) -> int:
            try:
                return await queue.obliterate(confirm, force=force, progress=progress)
            except ConfigurationError as error:
                raise CommandError(f"{error} (on the command line: --force)") from error

        _say(place, "forgotten", asyncio.run(_emptied(place, JobState, "forgotten", work)))


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise CommandError("there is nobody to ask: give --yes")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CommandError("nothing was done", ExitCode.ERROR)


def _say(place: Place, done: str, number: int) -> None:
    if place.as_json:
        write_json({"queue": place.queue, done: number})
    else:
        write(f"{done} {number}")


async def _emptied(
    place: Place,
    states: Iterable[JobState],
    done: str,
    work: Callable[[Queue, Progress | None], Awaitable[int]],
) -> int:
    async with place.open() as queue:
        if not sys.stderr.isatty():
            return await work(queue, None)
        counts = await queue.counts()
        with _bar(done, sum(counts[state] for state in states)) as progress:
            return await work(queue, progress)


@contextmanager
def _bar(done: str, total: int) -> Generator[Progress]:
    """A bar on standard error that shows how many of how many jobs are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn(done), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(done, total=total)
        yield lambda number: bar.update(task, completed=number, total=max(total, number))
