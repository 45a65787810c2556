"""Rates and latencies of one queue on one storage: enqueue, drain, call.

    python benchmarks/throughput.py
    python benchmarks/throughput.py --url redis://127.0.0.1:6379/0 --jobs 20000 --rounds 5 --json

Every round takes all measurements once, in turn, so that a slow minute of the machine spoils a
round and not a measurement; what counts is the median over the rounds. ``README.md`` says what each
of them means.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from jobqueue import JobQueueError, JobType, Queue, __version__

IN_FLIGHT = 100
READY = "ready"
UNITS = {
    "enqueue": "jobs/s",
    "enqueue_many": "jobs/s",
    "drain": "jobs/s",
    "call": "ms",
    "call_p99": "ms",
    "calls": "calls/s",
}


class Bench:
    """One queue with one job type that does nothing, in this process."""

    def __init__(self, url: str, name: str) -> None:
        self.queue = Queue(name, url, concurrency=IN_FLIGHT, result_ttl=30)
        self.done = 0
        self.nothing: JobType[[int], int] = self.queue.job("nothing")(self._nothing)

    async def _nothing(self, number: int) -> int:
        self.done += 1
        return number

    async def enqueue(self, jobs: int) -> float:
        """Single enqueues, 100 in flight."""
        start = time.perf_counter()
        await at_a_time(IN_FLIGHT, (self.nothing.enqueue(number) for number in range(jobs)))
        return jobs / (time.perf_counter() - start)

    async def enqueue_many(self, jobs: int) -> float:
        """One call for all."""
        start = time.perf_counter()
        await self.queue.enqueue_many([self.nothing.spec(number) for number in range(jobs)])
        return jobs / (time.perf_counter() - start)

    async def drain(self) -> float:
        """A worker in this process, from its start until all that is queued is completed."""
        jobs = (await self.queue.counts())["queued"]
        start = time.perf_counter()
        async with self.queue.worker():
            while await self._unfinished(jobs):  # noqa: ASYNC110 - no event tells of the last result
                await asyncio.sleep(0.005)
            return jobs / (time.perf_counter() - start)

    async def _unfinished(self, jobs: int) -> bool:
        return self.done < jobs or (await self.queue.counts())["completed"] < jobs

    async def call(self, calls: int) -> tuple[float, float]:
        """Calls one after the other: median and 99th percentile, in milliseconds."""
        took: list[float] = []
        for number in range(calls):
            start = time.perf_counter()
            await self.nothing.call(number)
            took.append((time.perf_counter() - start) * 1000)
        return median(took), sorted(took)[int(len(took) * 0.99)]

    async def calls(self, calls: int) -> float:
        """Calls, 100 in flight."""
        start = time.perf_counter()
        await at_a_time(IN_FLIGHT, (self.nothing.call(number) for number in range(calls)))
        return calls / (time.perf_counter() - start)


async def at_a_time(limit: int, work: Iterator[Awaitable[Any]]) -> None:
    """Await all of ``work``, so many at a time."""

    async def slot() -> None:
        for one in work:
            await one

    await asyncio.gather(*(slot() for _ in range(limit)))


@contextmanager
def worker_process(url: str, name: str) -> Iterator[None]:
    """A worker in a process of its own, ready."""
    command = [sys.executable, __file__, "--url", url, "--serve", name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if process.stdout.readline().strip() != READY.encode():
                raise RuntimeError("the worker process did not start")
            yield
        finally:
            process.stdin.close()  # it ends when nobody holds the other end
            process.wait()


async def serve(url: str, name: str) -> None:
    """The worker process: work until standard input is closed."""
    async with Bench(url, name).queue.worker():
        print(READY, flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def one_round(
    url: str, jobs: int, calls: int, step: Callable[[str], None]
) -> dict[str, float]:
    """Take every measurement once, on queues of its own."""
    name = f"throughput-{os.getpid()}-{time.time_ns()}"
    figures: dict[str, float] = {}
    bench = Bench(url, name)
    async with bench.queue:
        step("enqueue")
        figures["enqueue"] = await bench.enqueue(jobs)
        step("enqueue_many")
        figures["enqueue_many"] = await bench.enqueue_many(jobs)
        step("drain")
        figures["drain"] = await bench.drain()
    bench = Bench(url, f"{name}-calls")
    with worker_process(url, f"{name}-calls"):
        async with bench.queue:
            await bench.nothing.call(0)
            step("call")
            figures["call"], figures["call_p99"] = await bench.call(calls)
            step("calls")
            figures["calls"] = await bench.calls(calls * 10)
    return figures


async def measure(url: str, jobs: int, calls: int, rounds: int) -> list[dict[str, float]]:
    columns = (
        TextColumn("{task.description:12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=rounds * 5)
        started = 0

        def step(name: str) -> None:
            nonlocal started
            bar.update(task, description=name, completed=started)
            started += 1

        return [await one_round(url, jobs, calls, step) for _ in range(rounds)]


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """As ``jobqueue worker`` does: on uvloop where it is installed."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        new_event_loop = None
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)


def report(storage: str, rounds: list[dict[str, float]], as_json: bool) -> None:
    medians = {name: median(figures[name] for figures in rounds) for name in UNITS}
    if as_json:
        results = {
            name: {
                "unit": unit,
                "median": round(medians[name], 3),
                "rounds": [round(figures[name], 3) for figures in rounds],
            }
            for name, unit in UNITS.items()
        }
        about = {
            "jobqueue": __version__,
            "python": platform.python_version(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "storage": storage,
        }
        print(json.dumps({**about, "results": results}, indent=2))
        return
    table = Table(title=f"{storage}, median of {len(rounds)} rounds")
    table.add_column("measurement")
    for heading in ("median", "lowest", "highest"):
        table.add_column(heading, justify="right")
    table.add_column("unit")
    for name, unit in UNITS.items():
        all_rounds = [figures[name] for figures in rounds]
        shown = "{:,.2f}" if unit == "ms" else "{:,.0f}"
        three = (medians[name], min(all_rounds), max(all_rounds))
        table.add_row(name, *(shown.format(figure) for figure in three), unit)
    Console().print(table)


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description="Rates and latencies of one queue.")
    parser.add_argument("--url", help="storage (default: a new SQLite file)")
    parser.add_argument("--jobs", type=positive, default=5000, help="of each enqueue (5000)")
    parser.add_argument("--calls", type=positive, default=500, help="one by one (500)")
    parser.add_argument("--rounds", type=positive, default=3, help="default 3")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--serve", metavar="QUEUE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if (arguments.url or "").startswith("memory:"):
        parser.error("memory:// cannot be shared between processes")
    if arguments.serve:
        run(serve(arguments.url, arguments.serve))
        return
    with tempfile.TemporaryDirectory(prefix="jobqueue-bench-") as folder:
        url = arguments.url or f"sqlite:///{quote(str(Path(folder) / 'jobs.db'))}"
        try:
            rounds = run(measure(url, arguments.jobs, arguments.calls, arguments.rounds))
        except JobQueueError as error:
            sys.exit(f"error: {error}")
        report(Queue("storage", url).storage.url, rounds, arguments.json)


if __name__ == "__main__":
    main()
