"""From ``module:queue`` on the command line to ``Queue`` objects."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from jobqueue.cli.exits import CommandError
from jobqueue.jobtype import JobType
from jobqueue.queue import Queue
from jobqueue.sync import SyncQueue


def load_queues(targets: Sequence[str]) -> list[Queue]:
    """Import the queues that are named; the working directory is importable.

    Args:
        targets: ``module:queue``, ``module:attribute.attribute``, or ``module`` when it has exactly
            one queue.

    Raises:
        CommandError: One of them is no queue; the message says what to do.
    """
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    queues: list[Queue] = []
    for target in targets:
        queue = _load(target)
        if any(queue is other for other in queues):
            raise CommandError(f"{target!r} names a queue that was named before: name it once")
        queues.append(queue)
    return queues


def _load(target: str) -> Queue:
    name, separator, path = target.partition(":")
    if name.endswith(".py") or "/" in name or not all(map(str.isidentifier, name.split("."))):
        raise CommandError(
            f"{target!r} is no module: write it as in an import statement, such as myapp.jobs:queue"
        )
    module = _import(name)
    if not separator:
        return _only_queue(module)
    found: Any = module
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise CommandError(f"{name!r} has no {path!r}: {_choices(module)}") from None
    if isinstance(found, SyncQueue):
        found = found.queue
    if not isinstance(found, Queue):
        raise CommandError(f"{target!r} is {_kind(found)}, not a Queue: {_choices(module)}")
    return found


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise CommandError(
                f"there is no module {error.name!r}: run the command in the folder that contains "
                "it, or set PYTHONPATH"
            ) from error
        raise _broken(name, error) from error
    except (Exception, SystemExit) as error:
        raise _broken(name, error) from error


def _broken(name: str, error: BaseException) -> CommandError:
    """The last line of the user's own that the error came through says most."""
    place = ""
    here = os.path.dirname(os.path.dirname(__file__))
    for frame in traceback.extract_tb(error.__traceback__):
        if not frame.filename.startswith((here, "<")) and "importlib" not in frame.filename:
            place = f" ({os.path.relpath(frame.filename)}, line {frame.lineno})"
    if isinstance(error, SyntaxError) and error.filename:
        place = f" ({os.path.relpath(error.filename)}, line {error.lineno})"
    what = error.msg if isinstance(error, SyntaxError) else str(error)
    return CommandError(
        f"importing {name!r} failed: {type(error).__name__}: {what}{place}; "
        f"python -c 'import {name}' shows the whole traceback"
    )


def _queues_of(module: ModuleType) -> dict[str, Queue]:
    """The queues of a module, each under its first name."""
    found: dict[str, Queue] = {}
    for name, value in vars(module).items():
        value = value.queue if isinstance(value, SyncQueue) else value
        if isinstance(value, Queue) and all(value is not other for other in found.values()):
            found[name] = value
    return found


def _only_queue(module: ModuleType) -> Queue:
    found = _queues_of(module)
    if len(found) == 1:
        return next(iter(found.values()))
    raise CommandError(f"{module.__name__!r} has {len(found) or 'no'} queues: {_choices(module)}")


def _choices(module: ModuleType) -> str:
    names = [f"{module.__name__}:{name}" for name in _queues_of(module)]
    if names:
        return f"use {' or '.join(names)}"
    return 'it has no queue at its top level; make one with queue = Queue("name")'


def _kind(value: object) -> str:
    if isinstance(value, JobType):
        return "a job type"
    if value is None:
        return "None"
    return f"of type {type(value).__name__}"
