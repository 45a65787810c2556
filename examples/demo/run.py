"""The demo: index the source of the standard library with two workers, and kill one half-way.

Starts a producer and two workers as processes of their own, watches, kills, and then checks what
came out against the files on disk. Exit code 0 only if not one file was lost.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING
from urllib.parse import quote

from processes import PRODUCER, WORKER, Process
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from jobqueue import JobInfo, JobQueueError

if TYPE_CHECKING:
    from app import Module

REPOSITORY = Path(__file__).resolve().parents[2]
STALLED_AFTER = 60.0
"""Seconds without progress after which the demo gives up."""
LARGEST = 8

console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)


class DemoFailed(Exception):
    """The demo cannot go on; the message says why."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Index the standard library; kill a worker.")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--url", help="storage to use (default: SQLite, in --folder)")
    where.add_argument("--redis", action="store_true", help="start a Redis or Valkey server")
    parser.add_argument(
        "--folder",
        type=Path,
        default=REPOSITORY / ".demo",
        help="for the SQLite file and the logs (default: .demo); those of an earlier run go",
    )
    parser.add_argument("--files", type=int, metavar="N", help="only the first N files")
    arguments = parser.parse_args()
    if (arguments.url or "").startswith("memory:"):
        parser.error("memory:// cannot be shared between processes; use sqlite:/// or redis://")

    folder: Path = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("jobs.db*"), *folder.glob("*.log")):
        old.unlink()
    url = arguments.url or f"sqlite:///{quote(str(folder / 'jobs.db'))}"
    try:
        with own_server() if arguments.redis else nullcontext(url) as url:
            # Before the app is imported, here and in the processes that are started from here. A
            # queue name of its own keeps this run apart from all others on a shared server.
            os.environ["JOBQUEUE_URL"] = url
            os.environ["DEMO_QUEUE"] = f"demo-{os.getpid()}-{time.time_ns()}"
            os.environ["DEMO_FILES"] = str(arguments.files or "")
            return asyncio.run(demo(folder))
    except (DemoFailed, JobQueueError) as error:
        console.print(f"The demo failed: {error}", style="red", markup=False)
    except KeyboardInterrupt:
        console.print("Interrupted.")
    return 1


def own_server() -> AbstractContextManager[str]:
    """A server for the time of the demo."""
    sys.path.append(str(REPOSITORY))
    from tests.support.servers import server

    return server()


async def demo(folder: Path) -> int:
    from app import STDLIB, queue, source_files

    files = source_files()
    console.print(f"{len(files)} files below {STDLIB}, one job each, kept in {queue.storage.url}")
    async with AsyncExitStack() as stack:
        producer = Process("producer", PRODUCER, folder)
        stack.callback(producer.stop)
        victim = Process("worker 1", WORKER, folder)
        stack.callback(victim.stop)
        survivor = Process("worker 2", WORKER, folder)
        stack.callback(survivor.stop)
        await stack.enter_async_context(queue)

        await watch(len(files), producer, victim, survivor)
        found = await check(files)
        await ask_for_the_largest(files)

        if survivor.stop() != 0:
            raise ended(survivor)
    for line in found.lost[:10]:
        print("lost:", line)
    results, lost = len(files) - len(found.lost), len(found.lost)
    print(f"{len(files)} files, {results} results, {lost} lost, {found.redelivered} redelivered")
    return 1 if lost else 0


async def watch(total: int, producer: Process, victim: Process, survivor: Process) -> None:
    """Show how far it is, and kill one worker when half of the results are in."""
    from app import LEASE, queue

    working = [victim, survivor]
    columns = ("indexing", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("indexing", total=total)
        done, moved = 0, time.monotonic()
        while done < total:
            await asyncio.sleep(0.05)
            counts = await queue.counts()
            before, done = done, counts["completed"] + counts["failed"] + counts["cancelled"]
            bar.update(task, completed=done)
            if done != before:
                moved = time.monotonic()
            elif time.monotonic() - moved > STALLED_AFTER:
                raise DemoFailed(f"no progress for {STALLED_AFTER:g} s at {done} of {total}")
            if producer.code:
                raise ended(producer)
            for worker in working:
                if worker.code is not None:
                    raise ended(worker)
            if victim in working and done >= total / 2:
                working.remove(victim)
                victim.kill()
                console.print(
                    f"{done} results are in: [bold]{victim.name} (process {victim.pid}) is killed "
                    "with SIGKILL[/bold], in the middle of its jobs. Nobody starts it again; when "
                    f"their lease of {LEASE:g} s runs out, {survivor.name} takes them over."
                )


def ended(process: Process) -> DemoFailed:
    """A process that should still be running, or have ended well."""
    return DemoFailed(
        f"{process.name} ended with exit code {process.code}:\n{process.last_words()}"
    )


@dataclass
class Found:
    """What the check found.

    Attributes:
        lost: What is wrong, for each file that has no right result.
        redelivered: Jobs that took more than one attempt.
    """

    lost: list[str] = field(default_factory=list)
    redelivered: int = 0


async def check(files: list[str]) -> Found:
    """Compare the results with the files themselves."""
    from app import STDLIB, job_id, queue

    found = Found()
    unparsable = 0
    for path in files:
        with (STDLIB / path).open("rb") as file:
            lines = sum(1 for _ in file)
        info = await queue.get(job_id(path))
        if fault := fault_of(info, lines):
            found.lost.append(f"{path}: {fault}")
            continue
        assert info is not None
        found.redelivered += info.attempt > 1
        unparsable += bool(info.result["note"])
    console.print(f"{unparsable} files are no valid Python (test data); their results say so.")
    return found


def fault_of(info: JobInfo | None, lines: int) -> str:
    """What is wrong with a job of a file that has so many lines; empty if nothing is."""
    if info is None:
        return "no job"
    if info.state != "completed":
        return f"{info.state}: {info.error}"
    if info.result["lines"] != lines:
        return f"the result says {info.result['lines']} lines, the file has {lines}"
    return ""


async def ask_for_the_largest(files: list[str]) -> None:
    """Request and response: a known id is answered with the stored result, a new one by running
    the job once more."""
    from app import STDLIB, index, job_id

    largest = sorted(files, key=lambda path: (STDLIB / path).stat().st_size, reverse=True)[:LARGEST]
    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 2, 0, 0))
    table.title = f"The {LARGEST} largest modules, by index.call(path)"
    for heading in ("lines", "functions", "classes"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("module", no_wrap=True)
    table.add_column("longest function", overflow="ellipsis")
    stored_ms: list[float] = []
    anew_ms: list[float] = []
    for path in largest:
        start = time.perf_counter()
        stored: Module = await index.options(id=job_id(path)).call(path)
        between = time.perf_counter()
        anew: Module = await index.call(path)
        stored_ms.append((between - start) * 1000)
        anew_ms.append((time.perf_counter() - between) * 1000)
        if anew != stored:
            raise DemoFailed(f"{path}: {anew} is not {stored}")
        longest = stored["longest"]
        table.add_row(
            str(stored["lines"]),
            str(stored["functions"]),
            str(stored["classes"]),
            path,
            Text(f"{longest['lines']}: {longest['name']}" if longest else "", no_wrap=True),
        )
    console.print(table)
    console.print(
        f"Answers came in {median(stored_ms):.1f} ms for a known id (the stored result), and in "
        f"{median(anew_ms):.0f} ms for a new one (parsed once more by the worker); medians."
    )


if __name__ == "__main__":
    sys.exit(main())
