"""The command line: commands, options and help. What they do is loaded when it is done."""

from __future__ import annotations

from typing import Annotated

import typer

from jobqueue._version import __version__
from jobqueue.cli.exits import exit_codes
from jobqueue.cli.logs import LogFormat, LogLevel

app = typer.Typer(
    name="jobqueue",
    help="A distributed job queue on Redis, Valkey, SQLite or memory.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _exit_codes(**meanings: str) -> str:
    """The end of a command's help; a paragraph for each code."""
    codes = {
        "0": "done",
        "1": "unexpected error",
        "2": "wrong usage or configuration; the message says what to do",
        "3": "the storage is not available",
        **{name.strip("_"): meaning for name, meaning in meanings.items()},
    }
    return "\n\n".join(["Exit codes:", *(f"{code:>3}  {codes[code]}" for code in codes)])


QueueOption = Annotated[str, typer.Option("--queue", "-q", help="The queue's name.")]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        "-u",
        help="Where the jobs are: sqlite:///file.db, redis://HOST:PORT/DB, ... "
        "Default: $JOBQUEUE_URL, and without it sqlite:///jobqueue.db.",
        show_default=False,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Write one JSON document, and nothing else.")
]


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
    epilog=_exit_codes(
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


@app.command(
    epilog=_exit_codes(
        _5="with --wait: the job failed or was cancelled",
        _6="with --wait: no result in time; the job goes on",
        _130="interrupted",
    )
)
def enqueue(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The job type.")],
    payload: Annotated[
        str | None,
        typer.Argument(
            metavar="PAYLOAD",
            help="JSON text, - for standard input, or @FILE. Default: null. Job types take a map "
            "of their arguments; {} if they have none.",
            show_default=False,
        ),
    ] = None,
    queue: QueueOption = "default",
    url: UrlOption = None,
    id: Annotated[
        str | None, typer.Option("--id", help="The job's id. Default: a new one.")
    ] = None,
    delay: Annotated[
        float | None, typer.Option("--delay", help="Seconds until the job is due.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", help="Seconds that one attempt may run.")
    ] = None,
    max_attempts: Annotated[
        int | None, typer.Option("--max-attempts", help="Attempts in total.")
    ] = None,
    result_ttl: Annotated[
        float | None,
        typer.Option("--result-ttl", help="Seconds for which the finished job is kept."),
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option("--wait", help="Wait so many seconds for the result, and write it."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Enqueue one job."""
    from jobqueue.cli import inspect

    options = {
        "id": id,
        "delay": delay,
        "timeout": timeout,
        "max_attempts": max_attempts,
        "result_ttl": result_ttl,
        "wait": wait,
    }
    with exit_codes():
        inspect.enqueue(
            inspect.Place(queue=queue, url=url, as_json=as_json), name, payload, options
        )


@app.command(epilog=_exit_codes(_4="no such job", _130="interrupted"))
def status(
    id: Annotated[str, typer.Argument(metavar="ID", help="The job's id.")],
    queue: QueueOption = "default",
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is known about one job."""
    from jobqueue.cli import inspect

    with exit_codes():
        inspect.status(inspect.Place(queue=queue, url=url, as_json=as_json), id)


@app.command(epilog=_exit_codes(_130="interrupted"))
def counts(
    queue: QueueOption = "default",
    url: UrlOption = None,
    as_json: JsonOption = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show them again every second.")
    ] = False,
) -> None:
    """Show the number of jobs in each state."""
    from jobqueue.cli import inspect

    with exit_codes():
        inspect.counts(inspect.Place(queue=queue, url=url, as_json=as_json), watch=watch)
