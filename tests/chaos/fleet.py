"""The worker and producer processes of a run, and what may be done to them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from jobqueue.storage.url import FAILPOINT
from tests.chaos import clocks
from tests.chaos.ledger import Ledger, Pen
from tests.chaos.loads import PLAIN
from tests.chaos.orders import Orders, job_id
from tests.support.wait import wait_until

ROOT: Final = Path(__file__).parents[2]
PROGRAMS: Final = (sys.executable, "-m", "tests.chaos.programs")
START_SECONDS: Final = 120.0
STOP_SECONDS: Final = 30.0


class Fleet:
    """All processes. What is done to them is noted in the ledger.

    Args:
        ledger: Where the processes say that they are ready.
        pen: The driver's.
        programs: The command that a program's name and its orders are added to.
    """

    def __init__(self, ledger: Ledger, pen: Pen, programs: Sequence[str] = PROGRAMS) -> None:
        self._ledger = ledger
        self._pen = pen
        self._programs = programs
        self._all: list[subprocess.Popen[bytes]] = []
        self._meant_to_end: set[int] = set()
        self._frozen: set[int] = set()
        self._orders: Orders | None = None
        self.workers: list[subprocess.Popen[bytes]] = []
        self.producers: list[subprocess.Popen[bytes]] = []
        self._producing: list[tuple[str, Orders]] = []

    # -- starting --------------------------------------------------------------------------------

    async def start_workers(self, count: int, orders: Orders) -> None:
        """Start workers, and return when they work."""
        self._orders = orders
        self.workers += [self._start("work", orders) for _ in range(count)]
        wanted = {worker.pid for worker in self.workers}

        def are_ready() -> bool:
            self._ledger.refresh()
            return wanted <= self._ledger.ready or bool(self.deserters())

        await wait_until(are_ready, START_SECONDS, "the workers work")

    def start_producer(self, program: str, orders: Orders) -> None:
        """Start a producer, which ends by itself when all its jobs are accepted."""
        process = self._start(program, orders)
        self._meant_to_end.add(process.pid)
        self.producers.append(process)
        self._producing.append((program, orders))

    def start_hasty_producer(self, first: int, count: int, batch: int) -> None:
        """Start a producer of so many jobs that sends without regard to what is still queued."""
        assert self._orders is not None
        orders = replace(self._orders, first=first, count=count, batch=batch, backlog=sys.maxsize)
        self.start_producer("produce", orders)

    def start(self, program: str, orders: Orders, failpoint: str = "") -> subprocess.Popen[bytes]:
        """Start a process that nobody else here looks after but :meth:`end`.

        Args:
            program: What it runs.
            orders: What it is to do.
            failpoint: Where it is to end; empty for nowhere.
        """
        return self._start(program, orders, failpoint)

    def _start(self, program: str, orders: Orders, failpoint: str = "") -> subprocess.Popen[bytes]:
        command = [*self._programs, program, orders.dumps()]
        environment = clocks.environment(orders.seed, len(self._all), orders.skew_ms)
        with (self._ledger.folder / f"{len(self._all)}.stderr").open("wb") as errors:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | {FAILPOINT: failpoint} | environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        self._all.append(process)
        return process

    @property
    def producing(self) -> bool:
        """Whether a producer still has jobs to enqueue."""
        return any(producer.poll() is None for producer in self.producers)

    @property
    def alive(self) -> Iterator[subprocess.Popen[bytes]]:
        """The workers, and the producers that still have jobs to enqueue."""
        yield from self.workers
        yield from (producer for producer in self.producers if producer.poll() is None)

    @property
    def batches(self) -> Iterator[list[str]]:
        """The ids of each call of more than one job, where none of them may give way to others."""
        for _, orders in self._producing:
            if orders.batch > 1 and orders.load == PLAIN:
                for numbers in orders.batches:
                    yield [job_id(number) for number in numbers]

    def revive(self) -> None:
        """Start again what ended though nobody told it to, as a supervisor does."""
        for number, worker in enumerate(self.workers):
            if worker.poll() is not None:
                self._pen.note("died", worker.pid)
                self.workers[number] = self._start("work", self._the_workers_orders)
        for number, producer in enumerate(self.producers):
            if producer.poll():
                self._pen.note("producer_died", producer.pid)
                successor = self.producers[number] = self._start(*self._producing[number])
                self._meant_to_end.add(successor.pid)

    @property
    def _the_workers_orders(self) -> Orders:
        assert self._orders is not None
        return self._orders

    # -- harming ---------------------------------------------------------------------------------

    def kill(self, number: int) -> None:
        """SIGKILL a worker, and start another one in its place."""
        process = self.workers[number]
        self._pen.note("kill", process.pid)
        self._meant_to_end.add(process.pid)
        process.kill()
        process.wait()
        self._pen.note("killed", process.pid)
        self._frozen.discard(process.pid)
        self.workers[number] = self._start("work", self._the_workers_orders)

    def kill_producer(self, number: int) -> None:
        """SIGKILL a producer, and start another one that has the same jobs, from the first on that
        was not accepted."""
        process = self.producers[number]
        process.kill()
        process.wait()
        self._ledger.refresh()
        program, orders = self._producing[number]
        answered = self._ledger.accepted.keys() | self._ledger.merged.keys()
        self._producing[number] = program, orders.after(answered)
        self.producers[number] = self._start(*self._producing[number])
        self._meant_to_end.add(self.producers[number].pid)

    def kill_at_once(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        """SIGKILL some workers and producers before any other one starts in their place."""
        for process in processes:
            process.kill()
        for process in processes:
            if process in self.workers:
                self.kill(self.workers.index(process))
            else:
                self.kill_producer(self.producers.index(process))

    def freeze(self, process: subprocess.Popen[bytes]) -> None:
        """SIGSTOP a worker or a producer."""
        self._pen.note("freeze", process.pid)
        process.send_signal(signal.SIGSTOP)
        self._frozen.add(process.pid)

    def thaw(self, process: subprocess.Popen[bytes]) -> None:
        """SIGCONT a worker or a producer."""
        process.send_signal(signal.SIGCONT)
        self._frozen.discard(process.pid)
        self._pen.note("thaw", process.pid)

    # -- ending ----------------------------------------------------------------------------------

    def deserters(self) -> list[str]:
        """Processes that ended though nobody told them to, or not as they should, in words."""
        return [
            f"process {number} ({process.args[-2]}) ended with {process.returncode}: "  # type: ignore[index]
            f"{self._last_words(number)}"
            for number, process in enumerate(self._all)
            if process.poll() is not None
            and (process.pid not in self._meant_to_end or process.returncode not in (0, -9))
        ]

    def _last_words(self, number: int) -> str:
        text = (self._ledger.folder / f"{number}.stderr").read_text(errors="replace")
        return " | ".join(text.splitlines()[-8:])

    async def stop_workers(self) -> list[str]:
        """Stop the workers as a user would; what went wrong, in words."""
        for worker in self.workers:
            self._meant_to_end.add(worker.pid)
            with suppress(ProcessLookupError):
                worker.terminate()
        late = []
        for worker in self.workers:
            try:
                await asyncio.to_thread(worker.wait, STOP_SECONDS)
            except subprocess.TimeoutExpired:
                late.append(f"worker {worker.pid} did not stop within {STOP_SECONDS:g} s")
        return late

    def end(self) -> None:
        """Make sure that all have ended."""
        for process in self._all:
            if process.poll() is None:
                if process.pid in self._frozen:
                    os.kill(process.pid, signal.SIGCONT)
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()
