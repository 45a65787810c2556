"""``jobqueue enqueue``, ``status`` and ``counts``: one look or one change, then out again."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from jobqueue.cli.exits import CommandError, code_of, usage_errors
from jobqueue.cli.output import (
    compact,
    jsonable,
    one_line,
    table,
    write,
    write_json,
    write_rows,
)
from jobqueue.errors import JobCancelled, JobError, JobFailed, JobNotFound, WaitTimeout
from jobqueue.ids import check_name
from jobqueue.job import JobInfo
from jobqueue.options import JobOptions
from jobqueue.queue import Queue
from jobqueue.receipt import JobSpec, Receipt
from jobqueue.values import UNSET

_WATCH_SECONDS: Final = 1.0
_SQLITE: Final = "sqlite:///"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which queue a command is about.

    Attributes:
        queue: Its name.
        url: Its storage; ``None`` for ``$JOBQUEUE_URL``, else SQLite in this folder.
        as_json: Whether to write one JSON document and nothing else.
    """

    queue: str
    url: str | None
    as_json: bool

    def open(self) -> Queue:
        """The queue, not yet connected.

        Raises:
            CommandError: There can be no such queue.
        """
        with usage_errors():
            queue = Queue(self.queue, self.url)
        if queue.storage.url.startswith("memory:"):
            raise CommandError(
                f"{queue.storage.url} lives in one process only, no other can see its jobs: give "
                "--url sqlite:///file.db or redis://..."
            )
        return queue


# -- enqueue --------------------------------------------------------------------------------------


def read_payload(text: str | None) -> Any:
    """The payload of a command line: JSON text, ``-`` for standard input, ``@file``.

    Raises:
        CommandError: It is no JSON, or cannot be read.
    """
    if text is None:
        return None
    try:
        return json.loads(_payload_text(text), parse_constant=_refuse_constant)
    except OSError as error:
        raise CommandError(f"the payload cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise CommandError(
            f"the payload is no JSON: {error}. Text needs its double quotes, as in '\"text\"'; "
            'a job type takes a map of its arguments, as in \'{"path": "a.jpg"}\''
        ) from error


def _payload_text(text: str) -> str:
    if text == "-":
        return sys.stdin.buffer.read().decode()
    if text.startswith("@"):
        return Path(text[1:]).read_bytes().decode()
    return text


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} does not exist in JSON")


def enqueue(place: Place, name: str, payload: str | None, options: dict[str, Any]) -> None:
    """Enqueue one job; with the option ``wait``, write its result.

    Args:
        place: Where.
        name: The job type.
        payload: As on the command line.
        options: Options of :class:`~jobqueue.JobOptions`; ``None`` for those that were not given.

    Raises:
        CommandError, JobQueueError: It is not enqueued.
        SystemExit: It did not end well within ``wait``.
    """
    given = {option: value for option, value in options.items() if value is not None}
    with usage_errors():
        check_name(name, "NAME")
        spec: JobSpec[Any] = JobSpec(name, read_payload(payload), JobOptions(**given))
    asyncio.run(_enqueue(place, spec))


async def _enqueue(place: Place, spec: JobSpec[Any]) -> None:
    async with place.open() as queue:
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
        write_json(_as_document(info))
    else:
        write_rows(f"job {one_line(info.id)}", _status_rows(info))


async def _get(place: Place, id: str) -> JobInfo | None:
    queue = place.open()
    _tell_if_new(queue)
    async with queue:
        return await queue.get(id)


def _as_document(info: JobInfo) -> dict[str, Any]:
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
        ("enqueued", _time(info.enqueued_at)),
        ("due", _time(info.due_at)),
        ("started", _time(info.started_at)),
        ("finished", _time(info.finished_at)),
        ("kept until", _time(info.expires_at)),
        ("worker", one_line(info.worker) if info.worker else None),
        ("result", compact(info.result) if info.state == "completed" else None),
        ("error", _error_line(info.error) if info.error else None),
    ]
    if info.error and info.error.traceback:
        rows += [("", one_line(line)) for line in info.error.traceback.splitlines()]
    return [(label, value) for label, value in rows if value is not None]


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="milliseconds")


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
    queue = place.open()
    _tell_if_new(queue)
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


def _tell_if_new(queue: Queue) -> None:
    """An empty answer from a file that did not exist is most often the wrong folder."""
    url = queue.storage.url
    if url.startswith(_SQLITE) and not os.path.exists(url.removeprefix(_SQLITE)):
        sys.stderr.write(
            f"note: {url.removeprefix(_SQLITE)} is new; for jobs that are elsewhere give --url, or "
            "run this in the folder of the worker\n"
        )
