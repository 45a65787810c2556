"""What the commands have in common: arguments, options, the end of their help."""

from __future__ import annotations

from typing import Annotated

import typer

from jobqueue.flow import Priority

CONTEXT = {"help_option_names": ["-h", "--help"]}


def group(help: str) -> typer.Typer:
    """An application for some commands."""
    return typer.Typer(
        help=help,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings=CONTEXT,
    )


def exit_codes_help(**meanings: str) -> str:
    """The end of a command's help; a paragraph for each code."""
    codes = {
        "0": "done",
        "1": "unexpected error",
        "2": "wrong usage or configuration; the message says what to do",
        "3": "the storage is not available",
        **{name.strip("_"): meaning for name, meaning in meanings.items()},
    }
    return "\n\n".join(["Exit codes:", *(f"{code:>3}  {codes[code]}" for code in codes)])


# -- where, and how it is shown -------------------------------------------------------------------

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

# -- a job ----------------------------------------------------------------------------------------

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The job type.")]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]
PayloadArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="PAYLOAD",
        help="JSON text, - for standard input, or @FILE. Default: null. Job types take a map "
        "of their arguments; {} if they have none.",
        show_default=False,
    ),
]
TimeoutOption = Annotated[
    float | None, typer.Option("--timeout", help="Seconds that one attempt may run.")
]
MaxAttemptsOption = Annotated[int | None, typer.Option("--max-attempts", help="Attempts in total.")]
ResultTtlOption = Annotated[
    float | None,
    typer.Option("--result-ttl", help="Seconds for which the finished job is kept."),
]
PriorityOption = Annotated[
    Priority | None,
    typer.Option("--priority", help="Default: normal.", show_default=False),
]
ExpiresOption = Annotated[
    float | None,
    typer.Option("--expires", help="Seconds after which it is dropped unless it has started."),
]
GroupOption = Annotated[
    str | None, typer.Option("--group", help="Jobs are taken from each group in turn.")
]
LimitOption = Annotated[
    str | None, typer.Option("--limit", help="Name of a limit by key; with --key.")
]
KeyOption = Annotated[str | None, typer.Option("--key", help="The job's key under --limit.")]
UniqueOption = Annotated[
    str | None,
    typer.Option(
        "--unique",
        metavar="UNTIL",
        help="One at a time of the same arguments until it has finished or started, or for so many "
        "SECONDS.",
    ),
]
ThrottleOption = Annotated[
    float | None, typer.Option("--throttle", help="Seconds in which the first job wins.")
]
DebounceOption = Annotated[
    float | None, typer.Option("--debounce", help="Seconds of quiet after which the last job wins.")
]
MaxWaitOption = Annotated[
    float | None,
    typer.Option("--max-wait", help="With --debounce: it is due so many seconds later at most."),
]
KeepLastOption = Annotated[
    bool, typer.Option("--keep-last", help="One runs, one waits: the newest.")
]
ByOption = Annotated[
    list[str] | None,
    typer.Option(
        "--by",
        metavar="ARGUMENT",
        help="Jobs are the same if this argument is; may be given several times. Default: with "
        "--unique all arguments, with the others none.",
    ),
]
