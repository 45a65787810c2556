"""``jobqueue worker``: one worker process, from its start to its last words."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from jobqueue.cli import banner
from jobqueue.cli.exits import CommandError, ExitCode, code_of, usage_errors
from jobqueue.cli.load import load_queues
from jobqueue.cli.logs import LogFormat, LogLevel, configure, log_jobs
from jobqueue.cli.output import one_line
from jobqueue.cli.stopping import StopSignals, Watchdog
from jobqueue.errors import JobQueueError
from jobqueue.queue import Queue
from jobqueue.worker import Worker

logger = logging.getLogger("jobqueue")

BEYOND_GRACE: Final = 2.0
"""Seconds after the grace period at which a stop that is not done is ended by force; the library's
own stop takes one at most."""
_ALL_OVER: Final = 0.75
"""Seconds after the grace period until which tasks and threads may end that outlast the worker: so
the process is gone a second after it."""
_LAST_SECONDS: Final = 0.1
"""Seconds that they get to end when the worker has stopped, at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """What was said on the command line.

    Attributes:
        targets: ``module:queue``, at least one.
        concurrency: Jobs at a time for each queue, or ``None`` for each queue's own.
        processes: Worker processes.
        burst: End when nothing is queued.
        reload: Start anew when source files change.
        grace: Seconds that a stop waits for running jobs, or ``None`` for each queue's own.
        log_format: What log lines look like.
        log_level: The least important lines that are shown.
        supervised: File descriptor of the supervisor's channel, in a process that has one.
    """

    targets: tuple[str, ...]
    concurrency: int | None = None
    processes: int = 1
    burst: bool = False
    reload: bool = False
    grace: float | None = None
    log_format: LogFormat = LogFormat.AUTO
    log_level: LogLevel = LogLevel.INFO
    supervised: int | None = None


class Channel:
    """The line to the supervisor: says what became of the start, and breaks when the supervisor is
    gone."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        # What handlers start must not keep the line open.
        self._socket.set_inheritable(False)

    def send(self, message: dict[str, Any]) -> None:
        """Tell the supervisor."""
        with suppress(OSError):  # it has ended, and so will we
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        """Leave the line, when the event loop that watched it is closed."""
        self._socket.close()

    def on_break(self, call: Callable[[], object]) -> None:
        """Call when the supervisor has ended. On the running event loop."""
        loop = asyncio.get_running_loop()

        def broken() -> None:
            loop.remove_reader(self._socket)
            call()

        loop.add_reader(self._socket, broken)


def run_worker(settings: WorkerSettings) -> int:
    """Run one worker process until it is stopped, and return its exit code."""
    formatter = configure(settings.log_format, settings.log_level)
    channel = None if settings.supervised is None else Channel(settings.supervised)
    signals = StopSignals(formatter, supervised=channel is not None)
    signals.install()
    try:
        queues = load_queues(settings.targets)
        _check(queues, settings)
        for queue in queues:
            log_jobs(queue)
        with usage_errors():
            worker = Worker(*queues, concurrency=settings.concurrency)
        run = _Run(worker, settings, signals, Watchdog(formatter), channel)
        return run.run()
    except (CommandError, JobQueueError) as error:
        fail(str(error), settings.log_format, channel)
        return code_of(error)
    except Exception as error:
        logger.critical("unexpected error, please report it", exc_info=error)
        return ExitCode.ERROR
    finally:
        if channel is not None:
            channel.close()


def fail(message: str, log_format: LogFormat, channel: Channel | None = None) -> None:
    """Say why there is no worker: to the supervisor, which knows whom to tell, or on stderr."""
    if channel is not None:
        channel.send({"failed": message})
    elif log_format is LogFormat.JSON:
        logger.critical(message)
    else:
        with suppress(OSError):
            sys.stderr.write(f"error: {one_line(message)}\n")


def _check(queues: Sequence[Queue], settings: WorkerSettings) -> None:
    """Refuse what can only go wrong, and apply the grace period.

    Raises:
        CommandError: The message says what to do.
    """
    for queue in queues:
        if settings.processes > 1 and queue.storage.url.startswith("memory:"):
            raise CommandError(
                f"--processes {settings.processes} cannot share queue {queue.name!r} on "
                f"{queue.storage.url}: jobs in memory belong to one process. Use sqlite:///file.db "
                "or redis://, or --processes 1"
            )
        if settings.processes > 1 and queue.worker_id is not None:
            raise CommandError(
                f"--processes {settings.processes} cannot all be worker {queue.worker_id!r}: leave "
                f"out worker_id in Queue({queue.name!r}), or use --processes 1"
            )
        if settings.grace is not None:
            with usage_errors():
                queue.registry.options = replace(queue.registry.options, grace=settings.grace)


class _Run:
    """The life of one worker in this process."""

    def __init__(
        self,
        worker: Worker,
        settings: WorkerSettings,
        signals: StopSignals,
        watchdog: Watchdog,
        channel: Channel | None,
    ) -> None:
        self._worker = worker
        self._settings = settings
        self._signals = signals
        self._watchdog = watchdog
        self._channel = channel
        self._stop_requested_at: float | None = None
        self._grace = max(queue.registry.options.grace_seconds for queue in worker.queues)

    def run(self) -> int:
        """Work until stopped, and return the exit code.

        Raises:
            JobQueueError: The worker could not start.
        """
        code = ExitCode.ERROR
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            try:
                runner.run(self._serve())
                code = ExitCode.OK
            except JobQueueError as error:
                code = code_of(error)
                raise
            finally:
                self._signals.forget()
                # The loop's close and the interpreter's end wait for every task and thread, and
                # nobody can stop the thread of a handler, or a task that ignores it.
                self._watchdog.arm(
                    max(_LAST_SECONDS, self._give_up_at() - time.monotonic()),
                    code,
                    "leaving handlers behind that ignore the stop",
                )
        return code

    async def _serve(self) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._signals.notify(lambda: self._request_stop(loop, stop))
        if self._channel is not None:
            self._channel.on_break(lambda: self._request_stop(loop, stop))
        if stop.is_set() or not await self._start(stop):
            return
        try:
            self._say_started()
            if self._settings.burst:
                await _unless_stopped(stop, self._worker.wait_until_empty())
            else:
                await stop.wait()
            self._say_stopping()
        finally:
            await self._worker.stop()
        logger.info("stopped")

    async def _start(self, stop: asyncio.Event) -> bool:
        """Start the worker; whether that was done before a stop.

        One that serves waits for its storage; one that is to end by itself says that it cannot.
        """
        if self._settings.burst:
            return await _unless_stopped(stop, self._worker.start())
        return await _unless_stopped(stop, self._worker.start_when_available())

    def _request_stop(self, loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
        """Also called in a signal handler, while the loop may be blocked."""
        self._stop_requested_at = time.monotonic()
        self._watchdog.arm(
            self._grace + BEYOND_GRACE,
            ExitCode.ERROR,
            "the stop takes too long, a handler may block the event loop: leaving; what runs here "
            "is recovered when its lease is over",
        )
        loop.call_soon_threadsafe(stop.set)

    def _give_up_at(self) -> float:
        requested_at = self._stop_requested_at
        begin = time.monotonic() if requested_at is None else requested_at
        return begin + self._grace + _ALL_OVER

    def _say_started(self) -> None:
        info = banner.describe(self._worker, self._settings.concurrency, self._grace)
        if self._channel is None:
            banner.announce([info], self._settings.log_format)
        else:
            self._channel.send({"ready": info.to_json()})

    def _say_stopping(self) -> None:
        if self._stop_requested_at is None:
            return
        count = self._worker.active_count
        logger.info(
            "stopping: finishing %d running job%s, up to %g s%s",
            count,
            "" if count == 1 else "s",
            self._grace,
            "" if self._channel else "; again to force",
        )


async def _unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work, or give it up at a stop; whether it was done."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    is_done = working.done()
    working.cancel()
    await asyncio.wait([working, stopping])
    if is_done:
        working.result()
    return is_done


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's event loop where it is installed, else the standard one."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
