"""Several worker processes, or one that is started anew when its source changes."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from jobqueue.cli import banner
from jobqueue.cli.exits import CommandError, ExitCode, code_of
from jobqueue.cli.logs import configure
from jobqueue.cli.stopping import StopSignals
from jobqueue.cli.worker import BEYOND_GRACE, WorkerSettings, fail

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

logger = logging.getLogger("jobqueue")

FIRST_DELAY: Final = 0.5
"""Seconds before a process that died is started again; twice as long each time that it dies soon
after."""
LONGEST_DELAY: Final = 30.0
SETTLED: Final = 60.0
"""Seconds of life after which a process counts as sound again."""
_MESSAGE_BYTES: Final = 16 * 1024 * 1024
_MARGIN: Final = 3.0
"""Seconds that a process gets beyond the time in which it ends itself."""


def supervise(settings: WorkerSettings) -> int:
    """Run the worker processes until they are stopped, and return the worst of their codes."""
    formatter = configure(settings.log_format, settings.log_level)
    try:
        if settings.reload:
            _check_reload()
        supervisor = Supervisor(settings)
        signals = StopSignals(formatter, before_force=supervisor.kill)
        signals.install()
        return asyncio.run(supervisor.run(signals))
    except CommandError as error:
        fail(str(error), settings.log_format)
        return code_of(error)


def _check_reload() -> None:
    try:
        import watchfiles  # noqa: F401  # pyright: ignore[reportUnusedImport] - only whether it is there
    except ImportError:
        raise CommandError(
            "--reload needs the package watchfiles: pip install 'jobqueue[fast]'"
        ) from None


class WorkerProcess:
    """One worker process, and the line on which it says what became of its start.

    Attributes:
        info: What it said when it had started, or ``None``.
        failure: Why it could not start, as far as it said so.
        replaced: It was told to stop because another one takes its place.
        started_at: Monotonic time of its start.
    """

    def __init__(self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader) -> None:
        self._process = process
        self._reader = reader
        self.info: banner.ProcessInfo | None = None
        self.failure: str | None = None
        self.replaced = False
        self.started_at = time.monotonic()

    @classmethod
    async def start(cls, settings: WorkerSettings) -> tuple[WorkerProcess, asyncio.StreamWriter]:
        """Start a process. Its stop begins when the writer is closed, or when we end."""
        ours, its = socket.socketpair()
        with its:
            process = await asyncio.create_subprocess_exec(
                *_command(settings, its.fileno()), pass_fds=[its.fileno()]
            )
        reader, writer = await asyncio.open_connection(sock=ours, limit=_MESSAGE_BYTES)
        return cls(process, reader), writer

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, number: int) -> None:
        """Send a signal, if it still runs.

        Not by ``Process.send_signal``: that asks for the exit code first, and so can take it away
        from ``wait``, which then reports 255.
        """
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def wait(self) -> int:
        """Its exit code, once it has ended; negative for a signal."""
        return await self._process.wait()

    async def listen(self) -> None:
        """Take what it says about its start: ``info`` or ``failure`` is set then."""
        with suppress(OSError, ValueError):
            message: dict[str, Any] = json.loads(await self._reader.readline())
            self.failure = message.get("failed")
            if "ready" in message:
                self.info = banner.ProcessInfo.from_json(message["ready"])


class Supervisor:
    """Keeps as many worker processes running as were asked for.

    Args:
        settings: What was said on the command line.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._running: dict[int, WorkerProcess] = {}
        self._infos: dict[int, banner.ProcessInfo] = {}
        self._announced = False
        self._stop_signal = signal.SIGTERM
        self._stopping = asyncio.Event()
        self._changed = asyncio.Event()

    async def run(self, signals: StopSignals) -> int:
        """Supervise until all processes have ended for good; the worst of their codes."""
        loop = asyncio.get_running_loop()
        signals.notify(lambda: loop.call_soon_threadsafe(self._stop_by, signals.received))
        watching = asyncio.create_task(self._watch()) if self._settings.reload else None
        try:
            numbers = range(1, self._settings.processes + 1)
            codes = await asyncio.gather(*map(self._keep, numbers))
        finally:
            signals.forget()
            if watching is not None:
                watching.cancel()
                await asyncio.wait([watching])
        if self._announced:
            logger.info("all processes have stopped")
        return max(codes)

    def kill(self) -> None:
        """End every process at once."""
        for process in list(self._running.values()):
            process.signal(signal.SIGKILL)

    # -- one place ---------------------------------------------------------------------------------

    async def _keep(self, number: int) -> int:
        """Keep one process running; its last exit code."""
        failures = 0
        was_ready = False
        while not self._stopping.is_set():
            process, code = await self._run_once(number)
            was_ready = was_ready or process.info is not None
            if self._stopping.is_set() or (self._settings.burst and code == 0):
                return _last_code(process, code)
            if process.replaced:
                continue
            if self._settings.reload and process.info is None:
                await self._wait_for_mending(process)
                continue
            if not was_ready and code > 0:
                self._give_up(process)
                return code
            lived = time.monotonic() - process.started_at
            failures = 0 if lived > SETTLED else failures + 1
            await self._wait_before_restart(number, process, code, failures)
        return ExitCode.OK

    async def _run_once(self, number: int) -> tuple[WorkerProcess, int]:
        process, line = await WorkerProcess.start(self._settings)
        self._running[number] = process
        if self._stopping.is_set():
            process.signal(self._stop_signal)
        listening = asyncio.create_task(self._hear(number, process))
        try:
            code = await process.wait()
            # What it said last is in the buffer; a process that it left behind may hold the line.
            await asyncio.wait([listening], timeout=0.5)
        finally:
            listening.cancel()
            line.close()
            del self._running[number]
        return process, code

    async def _hear(self, number: int, process: WorkerProcess) -> None:
        await process.listen()
        if process.info is None:
            return
        self._infos[number] = process.info
        if self._announced:
            ids = ", ".join(dict.fromkeys(process.info.worker_ids))
            logger.info("process %d started, pid %d, worker %s", number, process.pid, ids)
        elif len(self._infos) == self._settings.processes:
            self._announced = True
            infos = [self._infos[each] for each in sorted(self._infos)]
            banner.announce(infos, self._settings.log_format)

    async def _wait_before_restart(
        self, number: int, process: WorkerProcess, code: int, failures: int
    ) -> None:
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** max(0, failures - 1))
        why = f": {process.failure}" if process.failure else ""
        logger.warning(
            "process %d, pid %d, ended unexpectedly (%s)%s; started again in %g s",
            number,
            process.pid,
            _ending(code),
            why,
            delay,
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._stopping.wait()

    # -- stopping ----------------------------------------------------------------------------------

    def _stop_by(self, number: signal.Signals | None) -> None:
        self._stop_signal = number or signal.SIGTERM
        grace = max((info.grace for info in self._infos.values()), default=0.0)
        count = len(self._running)
        logger.info(
            "stopping %d process%s, up to %g s; again to force",
            count,
            "" if count == 1 else "es",
            grace,
        )
        self._stop(grace)

    def _stop(self, grace: float) -> None:
        self._stopping.set()
        self._changed.set()
        for process in list(self._running.values()):
            process.signal(self._stop_signal)
        loop = asyncio.get_running_loop()
        loop.call_later(grace + BEYOND_GRACE + _MARGIN, self.kill)

    def _give_up(self, process: WorkerProcess) -> None:
        """None of them can start; say it once."""
        if not self._stopping.is_set():
            if process.failure:
                fail(process.failure, self._settings.log_format)
            self._stop(0.0)

    # -- reload ------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Replace all processes whenever source files change."""
        try:
            async for paths in _changes(os.getcwd()):
                logger.info("%s changed: starting anew", ", ".join(paths))
                for process in list(self._running.values()):
                    process.replaced = True
                    process.signal(signal.SIGTERM)
                self._changed.set()
        except Exception:
            logger.exception("source files are not watched any more")

    async def _wait_for_mending(self, process: WorkerProcess) -> None:
        logger.error("%s; waiting for a change", process.failure or "the process could not start")
        self._changed.clear()
        await self._changed.wait()


async def _changes(folder: str) -> AsyncIterator[list[str]]:
    """The changed source files below a folder, a list for each burst of changes."""
    from watchfiles import Change, DefaultFilter, awatch  # pyright: ignore[reportUnknownVariableType]

    wanted = DefaultFilter()

    def shown(path: str) -> str:
        return os.path.relpath(path, folder)

    def is_source(change: Change, path: str) -> bool:
        return path.endswith(".py") and wanted(change, shown(path))

    async for changes in awatch(folder, watch_filter=is_source, ignore_permission_denied=True):
        yield sorted({shown(path) for _, path in changes})


def _command(settings: WorkerSettings, descriptor: int) -> list[str]:
    options = {
        "--supervised": descriptor,
        "--processes": settings.processes,
        "--concurrency": settings.concurrency,
        "--grace": settings.grace,
        "--log-format": settings.log_format,
        "--log-level": settings.log_level,
    }
    command = [sys.executable, "-m", "jobqueue", "worker"]
    for name, value in options.items():
        if value is not None:
            command += [name, str(value)]
    if settings.burst:
        command.append("--burst")
    return [*command, "--", *settings.targets]


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"


def _last_code(process: WorkerProcess, code: int) -> int:
    """The exit code of a process that ended during the stop."""
    if process.info is None and -code in (signal.SIGINT, signal.SIGTERM):
        return ExitCode.OK  # it had not yet come to handle signals, nor to take a job
    return code if code >= 0 else ExitCode.ERROR
