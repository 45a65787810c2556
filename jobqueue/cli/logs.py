"""Log lines of a worker process. The library only logs; what becomes of it is decided here."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from jobqueue.cli.output import one_line
from jobqueue.hooks import HookEvent
from jobqueue.job import Event
from jobqueue.queue import Queue

logger = logging.getLogger("jobqueue")


class LogFormat(StrEnum):
    """What a log line looks like."""

    AUTO = "auto"
    """Plain, in colour on a terminal."""
    PLAIN = "plain"
    JSON = "json"


class LogLevel(StrEnum):
    """The least important lines that are shown."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


FIELDS: Final = "jobqueue_fields"
"""Attribute of a record: a mapping of more fields for a JSON line."""
TRACEBACK: Final = "jobqueue_traceback"
"""Attribute of a record: a traceback as text, of an error that happened in another place."""

_COLOURS: Final = {"DEBUG": "2", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}


class PlainFormatter(logging.Formatter):
    """One line for people: time, level, process, logger, message; tracebacks below."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__("%(asctime)s %(levelname)-7s [%(process)d] %(name)s: %(message)s")
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        more = getattr(record, TRACEBACK, "")
        if more:
            text = f"{text}\n{more.rstrip()}"
        code = _COLOURS.get(record.levelname) if self._colour else None
        return text if code is None else f"\x1b[{code}m{text}\x1b[0m"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, pid, and exc for a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
            **getattr(record, FIELDS, {}),
        }
        exc = getattr(record, TRACEBACK, "") or record.exc_text or ""
        if record.exc_info:
            exc = self.formatException(record.exc_info)
        if exc:
            line["exc"] = exc
        return json.dumps(line, default=str)


def formatter_for(log_format: LogFormat) -> logging.Formatter:
    """The formatter; ``auto`` looks at standard error and ``$NO_COLOR``."""
    if log_format is LogFormat.JSON:
        return JsonFormatter()
    wanted = log_format is LogFormat.AUTO and not os.environ.get("NO_COLOR")
    return PlainFormatter(colour=wanted and sys.stderr.isatty())


def configure(log_format: LogFormat, level: LogLevel) -> logging.Formatter:
    """Send every logger of this process to standard error, and return the formatter."""
    formatter = formatter_for(log_format)
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(log_format is LogFormat.JSON)
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it says each change a second time
    return formatter


def write_now(formatter: logging.Formatter, level: int, message: str) -> None:
    """Write a log line past the logging module, whose locks may be held by what is stuck."""
    record = logging.LogRecord(logger.name, level, __file__, 0, message, None, None)
    with suppress(OSError):
        os.write(2, (formatter.format(record) + "\n").encode("utf-8", "backslashreplace"))


def fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """``extra`` for a log call whose JSON line has more fields."""
    return {FIELDS: values}


def log_jobs(queue: Queue) -> None:
    """Log what becomes of jobs: failures always, the ordinary course only at DEBUG.

    Hooks that nobody wants cost something for each job, so none is registered in vain.
    """
    queue.on("failed")(_failed)
    queue.on("retrying")(_retrying)
    if logger.isEnabledFor(logging.DEBUG):
        for type in ("started", "completed", "cancelled", "released"):
            queue.on(type)(_went_well)


def _went_well(event: Event) -> None:
    logger.debug("job %r (%r) %s, attempt %d", event.id, event.name, event.type, event.attempt)


def _retrying(event: Event) -> None:
    logger.warning(
        "job %r (%r): attempt %d failed, will be retried: %s",
        event.id,
        event.name,
        event.attempt,
        _reason(event),
    )


def _failed(event: Event) -> None:
    error = event.error if isinstance(event, HookEvent) else None
    logger.error(
        "job %r (%r) failed for good at attempt %d: %s",
        event.id,
        event.name,
        event.attempt,
        _reason(event),
        extra={TRACEBACK: error.traceback if error else ""},
    )


def _reason(event: Event) -> str:
    error = event.error if isinstance(event, HookEvent) else None
    return "no reason is known" if error is None else one_line(f"{error.type}: {error.message}")
