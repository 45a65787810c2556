"""The command line: the commands that a worker and a look need, and those of the other modules."""

from __future__ import annotations

from typing import Annotated

import typer

from jobqueue._version import __version__
from jobqueue.cli import control, delayed, emptying, enqueue, inspect, limits, schedules
from jobqueue.cli.exits import exit_codes
from jobqueue.cli.logs import LogFormat, LogLevel
from jobqueue.cli.options import (
    IdArgument,
    JsonOption,
    QueueOption,
    UrlOption,
    exit_codes_help,
    group,
)
from jobqueue.cli.place import Place

app = group("A distributed job queue on Redis, Valkey, SQLite or memory.")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"jobqueue {__version__}")
        raise typer.Exit


@app.callback()
def _options(  # pyright: ignore[reportUnusedFunction] - typer calls it
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass


@app.command(
    help="Run jobs until stopped.\n\n"
    "SIGINT (Ctrl+C) or SIGTERM: no further job is started, running ones get the grace period, "
    "what is left then goes back to the queue. A second signal ends the process at once.",
    epilog=exit_codes_help(
        _0="stopped as asked",
        _3="with --burst: the storage was not available at the start; without it, it is waited for",
        _130="stopped by force, by a second SIGINT",
        _143="stopped by force, by a second SIGTERM",
    )
    + "\n\nWith several processes: the highest of theirs.",
)
def worker(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="MODULE:QUEUE",
            help="Where your Queue objects are, such as myapp.jobs:queue. A module alone means its "
            "only queue. Modules of the working directory can be imported.",
        ),
    ],
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency",
            "-c",
            min=1,
            max=100_000,
            help="Jobs that run at a time, for each queue and process. Default: the queue's own.",
            show_default=False,
        ),
    ] = None,
    processes: Annotated[
        int,
        typer.Option(
            "--processes",
            "-p",
            min=1,
            max=1_000,
            help="Worker processes. One that dies is started again.",
        ),
    ] = 1,
    burst: Annotated[
        bool, typer.Option("--burst", help="Work until nothing is queued, then exit.")
    ] = False,
    reload: Annotated[
        bool,
        typer.Option(
            "--reload",
            help="Start anew when a *.py file below the working directory changes.",
        ),
    ] = False,
    grace: Annotated[
        float | None,
        typer.Option(
            "--grace",
            min=0,
            help="Seconds that a stop waits for running jobs. Default: the queue's own.",
            show_default=False,
        ),
    ] = None,
    log_format: Annotated[
        LogFormat,
        typer.Option("--log-format", help="auto: plain, in colour on a terminal."),
    ] = LogFormat.AUTO,
    log_level: Annotated[
        LogLevel,
        typer.Option("--log-level", case_sensitive=False, help="debug shows each job."),
    ] = LogLevel.INFO,
    supervised: Annotated[int | None, typer.Option("--supervised", hidden=True)] = None,
) -> None:
    """Run jobs until stopped."""
    from jobqueue.cli.worker import WorkerSettings, run_worker

    settings = WorkerSettings(
        targets=tuple(targets),
        concurrency=concurrency,
        processes=processes,
        burst=burst,
        reload=reload,
        grace=grace,
        log_format=log_format,
        log_level=log_level,
        supervised=supervised,
    )
    if burst and reload:
        raise typer.BadParameter("--burst and --reload exclude each other")
    if supervised is None and (processes > 1 or reload):
        from jobqueue.cli.supervise import supervise

        raise typer.Exit(supervise(settings))
    raise typer.Exit(run_worker(settings))


enqueue.add_to(app)


@app.command(epilog=exit_codes_help(_4="no such job", _130="interrupted"))
def status(
    id: IdArgument,
    queue: QueueOption = "default",
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is known about one job."""
    with exit_codes():
        inspect.status(Place(queue=queue, url=url, as_json=as_json), id)


@app.command(epilog=exit_codes_help(_130="interrupted"))
def counts(
    queue: QueueOption = "default",
    url: UrlOption = None,
    as_json: JsonOption = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show them again every second.")
    ] = False,
) -> None:
    """Show the number of jobs in each state."""
    with exit_codes():
        inspect.counts(Place(queue=queue, url=url, as_json=as_json), watch=watch)


control.add_to(app)
emptying.add_to(app)
delayed.add_to(app)
app.add_typer(schedules.app, name="schedules")
app.add_typer(limits.app, name="limits")
