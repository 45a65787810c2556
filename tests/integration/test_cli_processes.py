"""``jobqueue worker --processes`` and ``--reload``: a supervisor and the processes below it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobqueue import Queue
from jobqueue.cli.supervise import WorkerProcess
from tests.integration.test_cli import Command, Project, project_in
from tests.support.wait import wait_until

APP = """
import asyncio, os
from pathlib import Path
from jobqueue import Queue

queue = Queue("default", "sqlite:///jobs.db", lease=0.5, grace=20)

@queue.job()
async def meet() -> int:
    # Comes to an end only when it runs in two processes at the same time.
    Path(f"met-{os.getpid()}").touch()
    while len(list(Path().glob("met-*"))) < 2:
        await asyncio.sleep(0.01)
    return os.getpid()

@queue.job()
async def add(a: int, b: int) -> int:
    return a + b

@queue.job()
async def wait_for_go() -> int:
    Path(f"started-{os.getpid()}").touch()
    while not Path("go").exists():
        await asyncio.sleep(0.01)
    return os.getpid()
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with project_in(tmp_path) as project:
        project.write("app.py", APP)
        yield project


async def supervised(project: Project, *options: str) -> Command:
    """Two worker processes that have started."""
    command = project.start("worker", "app:queue", "--processes", "2", *options)
    await command.says("press Ctrl+C")
    return command


async def runner_of_waiting_job(project: Project) -> int:
    """The process that runs the job which waits."""
    (path,) = await wait_until(
        lambda: list(project.folder.glob("started-*")), timeout=20, what="the job starts"
    )
    return int(path.name.removeprefix("started-"))


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def state_of(queue: Queue, id: str) -> Any:
    info = await queue.get(id)
    assert info is not None
    return info.state


# -- processes ------------------------------------------------------------------------------------


async def test_two_processes_share_the_work(project: Project) -> None:
    command = await supervised(project, "--concurrency", "1")
    async with project.queue() as queue:
        receipts = [await queue.enqueue("meet", {}) for _ in range(2)]
        pids = [await receipt.result(wait=20) for receipt in receipts]
        infos = [await receipt.info() for receipt in receipts]
    command.signal(signal.SIGINT)
    done = await command.done()
    assert done.code == 0, done.err
    assert len({*pids}) == 2
    assert command.process.pid not in pids
    assert done.err.count("press Ctrl+C") == 1
    assert f"processes    2, pid {command.process.pid}" in done.err
    for pid, info in zip(pids, infos, strict=True):
        assert info is not None
        assert f"{info.worker} (pid {pid})" in done.err
    assert "all processes have stopped" in done.err
    assert not any(map(is_alive, pids))


async def test_a_killed_process_is_replaced_and_its_job_recovered(project: Project) -> None:
    command = await supervised(project)
    async with project.queue() as queue:
        receipt = await queue.enqueue("wait_for_go", {}, id="job")
        victim = await runner_of_waiting_job(project)
        os.kill(victim, signal.SIGKILL)
        await command.says(f"pid {victim}, ended unexpectedly (killed by SIGKILL)")
        project.write("go", "")
        await command.says("started, pid ")
        assert await receipt.result(wait=20) != victim
        info = await receipt.info()
        assert info is not None
        assert info.attempt == 2
    command.signal(signal.SIGTERM)
    assert (await command.done()).code == 0


async def test_a_stop_that_reaches_every_process_is_still_graceful(project: Project) -> None:
    command = await supervised(project)
    async with project.queue() as queue:
        await queue.enqueue("wait_for_go", {}, id="job")
        pid = await runner_of_waiting_job(project)
        # As a terminal and a service manager do it: so each process is told twice.
        os.killpg(command.process.pid, signal.SIGTERM)
        await command.says("stopping 2 processes, up to 20 s; again to force")
        await command.says("stopping: finishing 1 running job")
        os.kill(pid, signal.SIGTERM)  # for the case that the first two came as one
        project.write("go", "")
        done = await command.done()
        assert done.code == 0, done.err
        assert "by force" not in done.err
        assert await state_of(queue, "job") == "completed"


async def test_a_second_signal_ends_all_processes_at_once(project: Project) -> None:
    command = await supervised(project)
    async with project.queue() as queue:
        await queue.enqueue("wait_for_go", {}, id="job")
        pid = await runner_of_waiting_job(project)
        command.signal(signal.SIGINT)
        await command.says("stopping 2 processes")
        command.signal(signal.SIGINT)
        assert (await command.done(timeout=5)).code == 130
        await wait_until(lambda: not is_alive(pid))


async def test_processes_without_their_supervisor_stop_gracefully(project: Project) -> None:
    command = await supervised(project)
    async with project.queue() as queue:
        await queue.enqueue("wait_for_go", {}, id="job")
        pid = await runner_of_waiting_job(project)
        command.signal(signal.SIGKILL)
        await command.done()
        await wait_until(lambda: "finishing 1 running job" in command.err, timeout=10)
        project.write("go", "")
        await wait_until(lambda: not is_alive(pid), timeout=10)
        assert await state_of(queue, "job") == "completed"


async def test_a_burst_with_several_processes(project: Project) -> None:
    async with project.queue() as queue:
        receipts = [await queue.enqueue("add", {"a": n, "b": 1}) for n in range(20)]
        done = await project.run(
            *("worker", "app:queue", "--processes", "2", "--burst", "--log-format", "json")
        )
        assert done.code == 0, done.err
        assert [await receipt.result(wait=1) for receipt in receipts] == [*range(1, 21)]
    lines = [json.loads(line) for line in done.err.splitlines()]
    starts = [line for line in lines if line["message"] == "worker started"]
    # One that finds nothing to do may be gone before the other has started.
    assert len(starts) <= 1
    assert all(len(start["processes"]) == 2 for start in starts)


async def test_processes_that_cannot_start_end_it_with_one_message(project: Project) -> None:
    head = "from jobqueue import Queue\n"
    project.write("memory.py", f"{head}queue = Queue('q', 'memory://x')")
    project.write("named.py", f"{head}queue = Queue('q', 'sqlite:///q.db', worker_id='me')")
    project.write("far.py", f"{head}queue = Queue('q', 'redis://127.0.0.1:1')")
    cases = [
        ("memory:queue", 2, "jobs in memory belong to one process"),
        ("named:queue", 2, "cannot all be worker 'me'"),
        ("far:queue", 3, "cannot serve now"),
    ]
    commands = [
        project.start("worker", target, "--processes", "2", "--burst") for target, _, _ in cases
    ]
    for command, (_, code, message) in zip(commands, cases, strict=True):
        done = await command.done()
        assert done.code == code, done.err
        assert done.err.count("error: ") == 1
        assert message in done.err
        assert "Traceback" not in done.err


# -- reload ---------------------------------------------------------------------------------------


async def test_reload_takes_up_new_code(project: Project) -> None:
    command = project.start("worker", "app:queue", "--reload")
    await command.says("press Ctrl+C")
    async with project.queue() as queue:
        assert await queue.enqueue_and_wait("add", {"a": 1, "b": 2}, wait=10) == 3

        project.write("app.py", APP.replace("a + b", "a * b * 100"))
        await command.says("app.py changed: starting anew")
        await command.says("process 1 started")
        assert await queue.enqueue_and_wait("add", {"a": 1, "b": 2}, wait=10) == 200

        project.write("app.py", "oops")
        await command.says("NameError: name 'oops' is not defined (app.py, line 1)")
        await command.says("waiting for a change")
        project.write("app.py", APP)
        assert await queue.enqueue_and_wait("add", {"a": 1, "b": 2}, wait=20) == 3
    assert "Traceback" not in command.err
    command.signal(signal.SIGINT)
    assert (await command.done()).code == 0


async def test_reload_says_what_to_install(project: Project) -> None:
    project.write("watchfiles.py", "raise ImportError")
    done = await project.run("worker", "app:queue", "--reload")
    assert done.code == 2
    assert "pip install 'jobqueue[fast]'" in done.err
    assert "Traceback" not in done.err


async def test_a_signal_does_not_take_away_the_exit_code_of_a_process_that_ends() -> None:
    theirs, ours = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    try:
        for _ in range(5):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", "import time; time.sleep(0.1); raise SystemExit(7)"
            )
            worker = WorkerProcess(process, reader)
            signals_until = time.monotonic() + 1
            while not has_ended(worker.pid) and time.monotonic() < signals_until:
                worker.signal(0)
            worker.signal(0)
            assert await worker.wait() == 7
    finally:
        writer.close()
        theirs.close()


def has_ended(pid: int) -> bool:
    """Whether a child has ended; its exit code stays where it is."""
    try:
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, pid, flags) is not None
    except ChildProcessError:
        return True
