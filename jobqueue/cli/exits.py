"""How commands end: the exit codes, and which error gives which."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from enum import IntEnum
from typing import Final

from jobqueue.cli.output import one_line
from jobqueue.errors import (
    ConfigurationError,
    DrainTimeout,
    JobCancelled,
    JobFailed,
    JobNotFound,
    JobQueueError,
    QueueDraining,
    QueueFull,
    ScheduleNotFound,
    SerializationError,
    StorageUnavailable,
    WaitTimeout,
)


class ExitCode(IntEnum):
    """What scripts can tell the ends of a command by."""

    OK = 0
    ERROR = 1
    USAGE = 2
    UNAVAILABLE = 3
    NOT_FOUND = 4
    JOB_FAILED = 5
    WAIT_TIMEOUT = 6
    QUEUE_FULL = 7
    QUEUE_DRAINING = 8
    NOT_WAITING = 9
    INTERRUPTED = 128 + signal.SIGINT
    BROKEN_PIPE = 128 + signal.SIGPIPE
    TERMINATED = 128 + signal.SIGTERM


class CommandError(Exception):
    """The command ends here, with a message for a person and a code for a script.

    Attributes:
        code: The exit code.
    """

    def __init__(self, message: str, code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.code = code


_CODES: Final[tuple[tuple[type[Exception], ExitCode], ...]] = (
    (ConfigurationError, ExitCode.USAGE),
    (SerializationError, ExitCode.USAGE),
    (StorageUnavailable, ExitCode.UNAVAILABLE),
    (JobNotFound, ExitCode.NOT_FOUND),
    (ScheduleNotFound, ExitCode.NOT_FOUND),
    (JobFailed, ExitCode.JOB_FAILED),
    (JobCancelled, ExitCode.JOB_FAILED),
    (WaitTimeout, ExitCode.WAIT_TIMEOUT),
    (DrainTimeout, ExitCode.WAIT_TIMEOUT),
    (QueueFull, ExitCode.QUEUE_FULL),
    (QueueDraining, ExitCode.QUEUE_DRAINING),
)


def code_of(error: Exception) -> ExitCode:
    """The exit code for an error of the library."""
    if isinstance(error, CommandError):
        return error.code
    for error_type, code in _CODES:
        if isinstance(error, error_type):
            return code
    return ExitCode.ERROR


@contextmanager
def usage_errors() -> Generator[None]:
    """Where options are checked: what the library says about a value is the user's to mend."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise CommandError(str(error)) from error


@contextmanager
def exit_codes() -> Generator[None]:
    """Around a short command: errors that are expected end it with a message and their code."""
    try:
        yield
    except (CommandError, JobQueueError) as error:
        sys.stderr.write(f"error: {one_line(str(error))}\n")
        sys.exit(code_of(error))
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # Nobody reads any more: nothing is wrong with us. The interpreter flushes once more at its
        # end, and must find something that can be written to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.BROKEN_PIPE)
