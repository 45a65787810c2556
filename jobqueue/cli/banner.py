"""What a worker says when it has started."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from jobqueue._version import __version__
from jobqueue.cli.logs import LogFormat, fields
from jobqueue.cli.output import one_line
from jobqueue.worker import Worker

logger = logging.getLogger("jobqueue")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueInfo:
    """One queue of a worker.

    Attributes:
        name: The queue's name.
        url: Its storage, any password masked.
        concurrency: Jobs at a time in one process.
        job_types: The registered names; ``*`` for all others.
    """

    name: str
    url: str
    concurrency: int
    job_types: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessInfo:
    """One worker process that has started.

    Attributes:
        pid: The process.
        worker_ids: Its name in each queue.
        grace: Seconds that its stop waits for running jobs.
        queues: What it serves.
    """

    pid: int
    worker_ids: list[str]
    grace: float
    queues: list[QueueInfo]

    def to_json(self) -> dict[str, Any]:
        """Plain values, for another process."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ProcessInfo:
        """What :meth:`to_json` gave."""
        return cls(
            pid=values["pid"],
            worker_ids=values["worker_ids"],
            grace=values["grace"],
            queues=[QueueInfo(**queue) for queue in values["queues"]],
        )


def describe(worker: Worker, concurrency: int | None, grace: float) -> ProcessInfo:
    """What there is to say about the worker of this process."""
    return ProcessInfo(
        pid=os.getpid(),
        worker_ids=worker.worker_ids,
        grace=grace,
        queues=[
            QueueInfo(
                name=queue.name,
                url=queue.storage.url,
                concurrency=concurrency or queue.options.concurrency,
                job_types=queue.registry.names,
            )
            for queue in worker.queues
        ],
    )


def announce(processes: Sequence[ProcessInfo], log_format: LogFormat) -> None:
    """Say that all processes have started: a block for people, one line in a JSON log."""
    first = processes[0]
    if log_format is LogFormat.JSON:
        values = {
            "version": __version__,
            "processes": [
                {"pid": process.pid, "worker_ids": process.worker_ids} for process in processes
            ],
            "queues": [asdict(queue) for queue in first.queues],
        }
        logger.info("worker started", extra=fields(values))
    else:
        with suppress(OSError):  # a worker does not need anybody to read this
            sys.stderr.write(_block(processes, os.getpid()))
            sys.stderr.flush()
    for queue in first.queues:
        if not queue.job_types:
            logger.warning(
                "queue %r has no job types: every job of it will fail; import the modules that "
                "register them from the one that was named",
                queue.name,
            )


def _block(processes: Sequence[ProcessInfo], pid: int) -> str:
    lines: list[tuple[str, str]] = []
    for queue in processes[0].queues:
        count = len(queue.job_types)
        names = ", ".join(map(one_line, queue.job_types)) or "none"
        lines += [
            ("queue", f"{one_line(queue.name)} on {one_line(queue.url)}"),
            ("job types", f"{names} ({count})" if count > 1 else names),
            ("concurrency", str(queue.concurrency)),
        ]
    for process in processes:
        ids = ", ".join(map(one_line, dict.fromkeys(process.worker_ids)))
        lines.append(("worker", ids if process.pid == pid else f"{ids} (pid {process.pid})"))
    lines.append(("processes", f"{len(processes)}, pid {pid}"))
    body = "".join(f"  {label:<12} {value}\n" for label, value in lines)
    return f"jobqueue {__version__}\n{body}  press Ctrl+C to stop\n"
