"""``jobqueue enqueue``: one job, and if asked for its result."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from jobqueue.cli.exits import code_of, exit_codes, usage_errors
from jobqueue.cli.options import (
    ByOption,
    DebounceOption,
    ExpiresOption,
    GroupOption,
    JsonOption,
    KeepLastOption,
    KeyOption,
    LimitOption,
    MaxAttemptsOption,
    MaxWaitOption,
    NameArgument,
    PayloadArgument,
    PriorityOption,
    QueueOption,
    ResultTtlOption,
    ThrottleOption,
    TimeoutOption,
    UniqueOption,
    UrlOption,
    exit_codes_help,
)
from jobqueue.cli.output import one_line, write, write_json
from jobqueue.cli.place import Place
from jobqueue.cli.reading import read_moment, read_payload, read_rule
from jobqueue.errors import JobCancelled, JobFailed, WaitTimeout
from jobqueue.ids import check_name
from jobqueue.options import JobOptions
from jobqueue.queue import Queue
from jobqueue.receipt import JobSpec, Receipt
from jobqueue.values import UNSET


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    epilog = exit_codes_help(
        _5="with --wait: the job failed, expired or was cancelled",
        _6="with --wait: no result in time; the job goes on",
        _7="the queue is full; nothing was stored, try again later",
        _8="the queue is draining; nothing was stored",
        _130="interrupted",
    )
    app.command(epilog=epilog)(enqueue)


def enqueue(
    name: NameArgument,
    payload: PayloadArgument = None,
    queue: QueueOption = "default",
    url: UrlOption = None,
    id: Annotated[
        str | None, typer.Option("--id", help="The job's id. Default: a new one.")
    ] = None,
    delay: Annotated[
        float | None, typer.Option("--delay", help="Seconds until the job is due.")
    ] = None,
    run_at: Annotated[
        str | None,
        typer.Option(
            "--run-at", metavar="TIME", help="When it is due, such as 2026-03-29T02:30:00+02:00."
        ),
    ] = None,
    priority: PriorityOption = None,
    expires: ExpiresOption = None,
    unique: UniqueOption = None,
    throttle: ThrottleOption = None,
    debounce: DebounceOption = None,
    max_wait: MaxWaitOption = None,
    keep_last: KeepLastOption = False,
    by: ByOption = None,
    group: GroupOption = None,
    limit: LimitOption = None,
    key: KeyOption = None,
    timeout: TimeoutOption = None,
    max_attempts: MaxAttemptsOption = None,
    result_ttl: ResultTtlOption = None,
    wait: Annotated[
        float | None,
        typer.Option("--wait", help="Wait so many seconds for the result, and write it."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Enqueue one job."""
    with exit_codes():
        given: dict[str, Any] = {
            "id": id,
            "delay": delay,
            "run_at": read_moment(run_at, "--run-at"),
            "priority": priority,
            "expires": expires,
            "group": group,
            "limit": limit,
            "key": key,
            "timeout": timeout,
            "max_attempts": max_attempts,
            "result_ttl": result_ttl,
            "wait": wait,
            **read_rule(
                unique=unique,
                throttle=throttle,
                debounce=debounce,
                max_wait=max_wait,
                keep_last=keep_last,
                by=by,
            ),
        }
        spec = job_spec(name, payload, given)
        asyncio.run(_enqueue(Place(queue=queue, url=url, as_json=as_json), spec))


def job_spec(name: str, payload: str | None, options: dict[str, Any]) -> JobSpec[Any]:
    """A job as a command line describes it.

    Args:
        name: The job type.
        payload: As on the command line.
        options: Options of :class:`~jobqueue.JobOptions`; ``None`` for those that were not given.

    Raises:
        CommandError: It cannot be.
    """
    given = {option: value for option, value in options.items() if value is not None}
    with usage_errors():
        check_name(name, "NAME")
        return JobSpec(name, read_payload(payload), JobOptions(**given))


async def _enqueue(place: Place, spec: JobSpec[Any]) -> None:
    async with place.open() as queue:
        with usage_errors():
            receipt = await queue.producer.enqueue_spec(spec)
        document: dict[str, Any] = {
            "id": receipt.id,
            "name": spec.name,
            "queue": queue.name,
            "status": receipt.status,
            "state": receipt.state,
        }
        if spec.options.wait is UNSET:
            if place.as_json:
                write_json(document)
            else:
                write(_receipt_line(receipt))
            return
        if not place.as_json:
            sys.stderr.write(_receipt_line(receipt) + "\n")
        try:
            result = await receipt.result(spec.options.wait)
        except (JobFailed, JobCancelled, WaitTimeout) as error:
            if place.as_json:
                document["state"] = await _state_now(queue, receipt)
                document["error"] = asdict(error.error) if isinstance(error, JobFailed) else None
                write_json(document)
            sys.stderr.write(f"error: {one_line(str(error))}\n")
            sys.exit(code_of(error))
        if place.as_json:
            write_json({**document, "state": "completed", "result": result})
        else:
            write_json(result, indent=2)


def _receipt_line(receipt: Receipt[Any]) -> str:
    existing = f" ({receipt.state})" if receipt.status == "duplicate" else ""
    return f"{receipt.status} {one_line(receipt.id)}{existing}"


async def _state_now(queue: Queue, receipt: Receipt[Any]) -> str:
    info = await queue.get(receipt.id)
    return receipt.state if info is None else info.state
