"""How a worker process is told to stop, and how its end is made sure of."""

from __future__ import annotations

import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import Final, NoReturn

from jobqueue.cli.exits import ExitCode
from jobqueue.cli.logs import write_now

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def leave(code: int) -> NoReturn:
    """End the process now, whatever its threads and its event loop do."""
    for stream in (sys.stdout, sys.stderr):
        # In a signal handler the stream may be in the middle of a write.
        with suppress(OSError, ValueError, RuntimeError):
            stream.flush()
    os._exit(code)


class StopSignals:
    """SIGINT and SIGTERM: the first asks for a stop, the second ends the process at once.

    Plain signal handlers, not the event loop's: they also run while a handler blocks the loop.

    Args:
        formatter: For the last words.
        supervised: The supervisor forces, so a further signal changes nothing. A terminal and a
            service manager send signals to every process of a group, which then come twice.
        before_force: Called before the process is ended by force.
    """

    def __init__(
        self,
        formatter: logging.Formatter,
        *,
        supervised: bool = False,
        before_force: Callable[[], object] | None = None,
    ) -> None:
        self._formatter = formatter
        self._supervised = supervised
        self._before_force = before_force
        self._on_stop: Callable[[], object] | None = None
        self.received: signal.Signals | None = None
        """The first signal, if there was one."""

    def install(self) -> None:
        """Handle both signals from now on. In the main thread only."""
        for number in SIGNALS:
            signal.signal(number, self._handle)

    def notify(self, on_stop: Callable[[], object]) -> None:
        """Call ``on_stop`` at the first signal; now, if that has come. It runs in the handler."""
        self._on_stop = on_stop
        if self.received is not None:
            on_stop()

    def forget(self) -> None:
        """Call nobody from now on: the stop is nearly done. A second signal still forces."""
        self._on_stop = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
            if self._on_stop is not None:
                self._on_stop()
        elif not self._supervised:
            if self._before_force is not None:
                self._before_force()
            name = signal.Signals(number).name
            write_now(self._formatter, logging.WARNING, f"{name} again: stopped by force")
            leave(128 + number)


@dataclass(frozen=True, slots=True)
class _Order:
    deadline: float
    code: int
    message: str


class Watchdog:
    """Ends the process when its stop takes too long: a handler that blocks the event loop, a thread
    that does not return, an exit handler that hangs.

    A thread of its own, which waits; it does not keep the process alive.
    """

    def __init__(self, formatter: logging.Formatter) -> None:
        self._formatter = formatter
        # A SimpleQueue may be used in a signal handler; locks and new threads may not.
        self._orders: queue.SimpleQueue[_Order] = queue.SimpleQueue()
        threading.Thread(target=self._watch, name="jobqueue-watchdog", daemon=True).start()

    def arm(self, seconds: float, code: ExitCode, message: str) -> None:
        """End the process in so many seconds, in place of what was said before."""
        self._orders.put(_Order(time.monotonic() + seconds, code, message))

    def _watch(self) -> None:
        order = self._orders.get()
        with suppress(queue.Empty):
            while True:
                order = self._orders.get(timeout=max(0.0, order.deadline - time.monotonic()))
        stuck = [
            thread.name
            for thread in threading.enumerate()
            if not thread.daemon and thread is not threading.main_thread()
        ]
        threads = f" (threads that still run: {', '.join(stuck)})" if stuck else ""
        write_now(self._formatter, logging.WARNING, order.message + threads)
        leave(order.code)
