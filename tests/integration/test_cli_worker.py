"""``jobqueue worker`` in one process: start, logs, burst, and every way to stop."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobqueue import JobSpec
from jobqueue.cli.exits import CommandError
from jobqueue.cli.load import load_queues
from jobqueue.cli.worker import BEYOND_GRACE
from tests.integration.test_cli import Command, Project, project_in
from tests.support.wait import wait_until

APP = """
import asyncio, logging, time
from pathlib import Path
from jobqueue import Queue

queue = Queue("default", "sqlite:///jobs.db", lease=60, grace=20)

@queue.job()
async def add(a: int, b: int) -> int:
    logging.getLogger("app").info("adding")
    return a + b

@queue.job(max_attempts=1)
async def fail() -> None:
    raise ValueError("as it must")

@queue.job()
async def wait_for_go() -> str:
    Path("started").touch()
    while not Path("go").exists():
        await asyncio.sleep(0.01)
    return "went"

@queue.job()
async def hang() -> None:
    Path("started").touch()
    await asyncio.sleep(3600)

@queue.job()
async def ignore() -> None:
    Path("started").touch()
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

@queue.job()
def stick() -> None:
    Path("started").touch()
    time.sleep(3600)

@queue.job()
async def block() -> None:
    Path("started").touch()
    time.sleep(3600)
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with project_in(tmp_path) as project:
        project.write("app.py", APP)
        yield project


async def working(
    project: Project, job: str, *options: str, started: str = "press Ctrl+C"
) -> Command:
    """A worker in the middle of a job with the id ``job``."""
    async with project.queue() as queue:
        await queue.enqueue(job, {}, id="job")
    worker = project.start("worker", "app:queue", *options)
    await wait_until((project.folder / "started").exists, timeout=20, what="the job starts")
    await worker.says(started)
    return worker


# -- start ----------------------------------------------------------------------------------------


async def test_it_works_and_says_what_it_is(project: Project) -> None:
    worker = project.start("worker", "app:queue", "--concurrency", "3")
    await worker.says("press Ctrl+C to stop")
    async with project.queue() as queue:
        receipt = await queue.enqueue("add", {"a": 1, "b": 2})
        assert await receipt.result(wait=10) == 3
        info = await receipt.info()
    worker.signal(signal.SIGTERM)
    done = await worker.done()
    assert (done.code, done.out) == (0, "")
    assert info is not None
    assert info.worker is not None
    pid = worker.process.pid
    for text in (
        f"default on {project.url}",
        "add, block",
        "concurrency  3",
        info.worker,
        f"{pid}",
    ):
        assert text in done.err
    assert "INFO" in done.err
    assert "app: adding" in done.err
    assert "\x1b" not in done.err
    assert done.err.endswith("jobqueue: stopped\n")


async def test_json_logs_are_one_object_a_line(project: Project) -> None:
    async with project.queue() as queue:
        await queue.enqueue("add", {"a": 1, "b": 2}, id="good")
        await queue.enqueue("fail", {}, id="bad")
    done = await project.run(
        *("worker", "app:queue", "--burst", "--log-format", "json", "--log-level", "DEBUG")
    )
    lines = [json.loads(line) for line in done.err.splitlines()]
    assert done.code == 0
    for line in lines:
        assert {"time", "level", "logger", "message"} <= line.keys()
        assert datetime.fromisoformat(line["time"]).tzinfo == UTC
    (started,) = [line for line in lines if line["message"] == "worker started"]
    assert started["queues"][0]["url"] == project.url
    assert started["processes"][0]["pid"] == started["pid"]
    (failed,) = [line for line in lines if line["level"] == "ERROR"]
    assert "'bad'" in failed["message"]
    assert "ValueError: as it must" in failed["exc"]
    assert any("'good'" in line["message"] and line["level"] == "DEBUG" for line in lines)


async def test_several_queues_in_one_worker(project: Project) -> None:
    project.write(
        "more.py",
        "from types import SimpleNamespace\n"
        "from jobqueue import Queue\n"
        "deep = SimpleNamespace(er=Queue('deeper', 'sqlite:///jobs.db'))\n"
        "@deep.er.job()\n"
        "async def double(n: int) -> int: return 2 * n\n",
    )
    async with project.queue("deeper") as deeper, project.queue() as default:
        receipts = [
            await deeper.enqueue("double", {"n": 4}),
            await default.enqueue("add", {"a": 1, "b": 1}),
        ]
        done = await project.run("worker", "app", "more:deep.er", "--burst")
        assert done.code == 0, done.err
        assert [await receipt.result(wait=1) for receipt in receipts] == [8, 2]


async def test_a_burst_ends_when_nothing_is_queued(project: Project) -> None:
    async with project.queue() as queue:
        specs = [JobSpec("add", {"a": n, "b": 1}) for n in range(200)]
        receipts = await queue.enqueue_many(specs)
        later = await queue.enqueue("add", {"a": 0, "b": 0}, delay=3600)
        done = await project.run("worker", "app:queue", "--burst")
        assert done.code == 0, done.err
        assert [await receipt.result(wait=1) for receipt in receipts] == [*range(1, 201)]
        info = await later.info()
    assert info is not None
    assert info.state == "scheduled"
    assert receipts[0].id not in done.err  # only DEBUG shows each job


# -- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("missing:queue", "there is no module 'missing'"),
        ("missing.inner:queue", "there is no module 'missing'"),
        ("one:nothing", "has no 'nothing': use one:queue"),
        ("one:task", "is a job type, not a Queue: use one:queue"),
        ("one:queue.name.more", "has no 'queue.name.more'"),
        ("one.py", "is no module"),
        ("./one:queue", "is no module"),
        ("none", "'none' has no queues: it has no queue at its top level"),
        ("two", "'two' has 2 queues: use two:first or two:second"),
        ("broken:queue", "NameError: name 'oops' is not defined (broken.py, line 2)"),
        ("wrong:queue", "(wrong.py, line 1)"),
        ("needy:queue", "No module named 'not_installed' (needy.py, line 1)"),
        ("address:queue", "ConfigurationError: the storage URL 'mysql://host' has no known scheme"),
        ("quits:queue", "SystemExit: 3 (quits.py, line 1)"),
    ],
)
def test_what_is_no_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, hint: str
) -> None:
    modules = {
        "one": "from jobqueue import Queue\nqueue = same = Queue('q', 'memory://')\n"
        "@queue.job()\ndef task(): ...\n",
        "none": "",
        "two": "from jobqueue import Queue\n"
        "first, second = Queue('a', 'memory://'), Queue('b', 'memory://')\n",
        "broken": "\noops\n",
        "wrong": "def\n",
        "needy": "import not_installed\n",
        "address": "from jobqueue import Queue\nqueue = Queue('q', 'mysql://host')\n",
        "quits": "raise SystemExit(3)\n",
    }
    for name, text in modules.items():
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    try:
        with pytest.raises(CommandError) as error:
            load_queues([target])
        assert hint in str(error.value)
        assert error.value.code == 2
        (queue,) = load_queues(["one"])
        assert queue.name == "q"
        with pytest.raises(CommandError, match="named before"):
            load_queues(["one:queue", "one:same"])
    finally:
        for name in modules:
            sys.modules.pop(name, None)


async def test_what_cannot_work_is_refused(project: Project) -> None:
    project.write(
        "far.py", "from jobqueue import Queue\nq = Queue('q', 'redis://:secret@127.0.0.1:1')"
    )
    cases = [
        (2, "broken.py, line 1", ["broken:queue"]),
        (2, "grace must be at most ten years", ["app:queue", "--grace", "1e300"]),
        (2, "exclude each other", ["app:queue", "--burst", "--reload"]),
        (3, "redis://:***@127.0.0.1:1 cannot serve now", ["far:q", "--burst"]),
    ]
    project.write("broken.py", "1 / 0")
    commands = [project.start("worker", *arguments) for _, _, arguments in cases]
    for command, (code, hint, _) in zip(commands, cases, strict=True):
        done = await command.done()
        assert (done.code, done.out) == (code, ""), done.err
        assert hint in done.err
        assert "Traceback" not in done.err
        assert "Ctrl+C" not in done.err


# -- stop -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_lets_running_jobs_finish(project: Project, number: int) -> None:
    worker = await working(project, "wait_for_go")
    worker.signal(number)
    await worker.says("stopping: finishing 1 running job, up to 20 s; again to force")
    async with project.queue() as queue:
        late = await queue.enqueue("add", {"a": 1, "b": 2})
        assert worker.process.poll() is None
        project.write("go", "")
        done = await worker.done()
        assert done.code == 0
        info = await queue.get("job")
        assert info is not None
        assert (info.state, info.result, info.attempt) == ("completed", "went", 1)
        late_info = await late.info()
        assert late_info is not None
        assert late_info.state == "queued"


async def test_what_outlasts_the_grace_period_goes_back(project: Project) -> None:
    worker = await working(project, "hang", "--grace", "0.2")
    worker.signal(signal.SIGTERM)
    done = await worker.done()
    assert done.code == 0
    assert "up to 0.2 s" in done.err
    async with project.queue() as queue:
        info = await queue.get("job")
    assert info is not None
    assert (info.state, info.attempt) == ("queued", 0)


@pytest.mark.parametrize(
    ("job", "code", "state"),
    # A blocked loop cannot give its jobs back: their lease has to run out.
    [("stick", 0, "queued"), ("ignore", 0, "queued"), ("block", 1, "running")],
)
async def test_the_process_ends_whatever_its_handlers_do(
    project: Project, job: str, code: int, state: str
) -> None:
    worker = await working(project, job, "--grace", "0.2")
    worker.signal(signal.SIGTERM)
    started = time.monotonic()
    done = await worker.done()
    assert done.code == code, done.err
    assert time.monotonic() - started < 0.2 + BEYOND_GRACE + 4
    # The thread of a sync handler does not hold the process up.
    assert ("leaving" in done.err) == (job != "stick")
    assert "Traceback" not in done.err
    async with project.queue() as queue:
        info = await queue.get("job")
    assert info is not None
    assert info.state == state


@pytest.mark.parametrize(
    ("job", "first", "second", "code"),
    [
        ("hang", signal.SIGINT, signal.SIGINT, 130),
        ("stick", signal.SIGINT, signal.SIGTERM, 143),
    ],
)
async def test_a_second_signal_ends_at_once(
    project: Project, job: str, first: signal.Signals, second: signal.Signals, code: int
) -> None:
    worker = await working(project, job)
    worker.signal(first)
    await worker.says("stopping")
    worker.signal(second)
    done = await worker.done(timeout=5)
    assert done.code == code
    assert f"{second.name} again: stopped by force" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_a_second_signal_is_heard_while_the_loop_is_blocked(
    project: Project, loop: str
) -> None:
    if loop == "asyncio":
        project.write("uvloop.py", "raise ImportError")
    worker = await working(project, "block", "--log-format", "json", started="worker started")
    worker.signal(signal.SIGTERM)
    # Two signals that come at once are one; nothing tells from outside when the first is taken.
    for _ in range(50):
        worker.signal(signal.SIGTERM)
        if await asyncio.to_thread(_ended, worker, 0.1):
            break
    done = await worker.done(timeout=0.1)
    assert done.code == 143
    last = json.loads(done.err.splitlines()[-1])
    assert last["message"] == "SIGTERM again: stopped by force"


def _ended(command: Command, seconds: float) -> bool:
    try:
        command.process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True
