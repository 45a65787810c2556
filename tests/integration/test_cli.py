"""``jobqueue enqueue``, ``status``, ``counts`` and help, as a shell runs them."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest

from jobqueue import Job, Queue
from jobqueue._version import __version__
from jobqueue.cli import main
from jobqueue.cli.output import jsonable, one_line
from jobqueue.cli.reading import read_payload
from tests.support.wait import wait_until

ROOT: Final = Path(__file__).parents[2]
PATIENCE: Final = 20.0
"""Seconds after which a command that is not done counts as hung."""


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output as the one JSON document that it must be."""
        return json.loads(self.out)


class Command:
    """A ``python -m jobqueue ...`` that runs, its output in files, so that no pipe can fill up."""

    def __init__(self, folder: Path, arguments: Sequence[str], number: int) -> None:
        self._out = folder / f"out-{number}"
        self._err = folder / f"err-{number}"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jobqueue", *arguments],
                cwd=folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def says(self, text: str, timeout: float = PATIENCE) -> None:
        """Wait until it has written this on standard error."""

        def said() -> bool:
            assert self.process.poll() is None or text in self.err, self.err
            return text in self.err

        try:
            await wait_until(said, timeout=timeout)
        except AssertionError:
            raise AssertionError(f"it did not say {text!r}:\n{self.err}") from None

    async def done(self, timeout: float = PATIENCE) -> Done:
        """Wait until it has ended."""
        try:
            await wait_until(lambda: self.process.poll() is not None, timeout=timeout)
        except AssertionError:
            raise AssertionError(f"it has not ended:\n{self.err}") from None
        return Done(self.process.returncode, self.out, self.err)

    def end(self) -> None:
        """Make sure that it, and all that it started, has ended."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Project:
    """A user's folder, with a database of its own.

    Attributes:
        folder: Where commands run.
        url: The database in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder}/jobs.db"
        self._commands: list[Command] = []

    def write(self, name: str, text: str) -> Path:
        """A file in the folder."""
        path = self.folder / name
        path.write_text(text)
        return path

    def start(self, *arguments: str) -> Command:
        """Start a command."""
        command = Command(self.folder, arguments, len(self._commands))
        self._commands.append(command)
        return command

    async def run(self, *arguments: str) -> Done:
        """Run a command to its end."""
        return await self.start(*arguments).done()

    @asynccontextmanager
    async def queue(self, name: str = "default") -> AsyncIterator[Queue]:
        """A queue on the database, in this process."""
        async with Queue(name, self.url) as queue:
            yield queue

    def end(self) -> None:
        """End every command."""
        for command in self._commands:
            command.end()


@contextmanager
def project_in(folder: Path) -> Iterator[Project]:
    """A project whose commands are ended afterwards."""
    project = Project(folder)
    try:
        yield project
    finally:
        project.end()


def environment() -> dict[str, str]:
    """The environment of a user who has installed this package, and configured nothing."""
    values = {key: value for key, value in os.environ.items() if not key.startswith("JOBQUEUE")}
    return values | {"PYTHONPATH": str(ROOT), "COLUMNS": "100", "NO_COLOR": "1"}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with project_in(tmp_path) as project:
        yield project


@pytest.fixture
async def served(project: Project) -> AsyncIterator[Queue]:
    """The project's queue, with a worker in this process."""
    async with project.queue() as queue:

        @queue.handler("echo")
        async def echo(job: Job) -> Any:
            return job.payload

        @queue.handler("types")
        async def types(job: Job) -> Any:
            return {
                "bytes": b"\x00\xff",
                "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
                "price": Decimal("1.10"),
                7: {3, 1, 2},
            }

        @queue.handler("fail", max_attempts=1)
        async def fail(job: Job) -> None:
            raise ValueError("no\x1b[31m such thing")

        @queue.handler("hang")
        async def hang(job: Job) -> None:
            await asyncio.sleep(3600)

        async with queue.worker() as worker:
            yield queue
            await queue.cancel("hanging")
            await wait_until(lambda: worker.active_count == 0)


# -- the command itself ---------------------------------------------------------------------------


def shell(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: str
) -> Done:
    """A command that is run in this process, for all that does not depend on having its own."""
    monkeypatch.setattr(sys, "argv", ["jobqueue", *arguments])
    with pytest.raises(SystemExit) as exit:
        main()
    out, err = capfd.readouterr()
    return Done(int(exit.value.code or 0), out, err)


async def test_version(project: Project) -> None:
    done = await project.run("--version")
    assert done == Done(0, f"jobqueue {__version__}\n", "")


def test_help(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    help = shell(monkeypatch, capfd, "--help")
    assert help.code == 0
    for command in ("worker", "enqueue", "status", "counts"):
        assert command in help.out
    nothing = shell(monkeypatch, capfd)
    assert "Usage" in nothing.out + nothing.err
    worker_help = shell(monkeypatch, capfd, "worker", "--help")
    assert worker_help.code == 0
    for text in ("--processes", "--burst", "--reload", "Exit codes", "130", "143"):
        assert text in worker_help.out
    assert "--supervised" not in worker_help.out
    wrong = shell(monkeypatch, capfd, "wörk")
    assert wrong.code == 2
    assert "Traceback" not in wrong.err


def test_help_loads_no_storage() -> None:
    script = (
        "import sys\n"
        "from jobqueue.cli import main\n"
        "try:\n    main()\nexcept SystemExit as exit:\n    assert not exit.code, exit.code\n"
        "print('loaded:', *sorted({'redis', 'sqlite3', 'uvloop', 'watchfiles'} & {*sys.modules}))"
    )

    done = subprocess.run(
        [sys.executable, "-c", script, "worker", "--help"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "loaded:"


# -- enqueue, status, counts ----------------------------------------------------------------------


async def test_a_job_from_the_shell_and_back(project: Project, served: Queue) -> None:
    url = ("--url", project.url)
    payload = '{"text": "grüße", "n": [1, 2.5, null]}'
    enqueued = await project.run("enqueue", "echo", payload, "--id", "j 1", "--json", *url)
    assert enqueued.code == 0
    assert enqueued.err == ""
    assert enqueued.document == {
        "id": "j 1",
        "name": "echo",
        "queue": "default",
        "status": "queued",
        "state": "queued",
    }
    await served.result("j 1", wait=5)
    status, plain_status, counts, again = [
        await command.done()
        for command in (
            project.start("status", "j 1", "--json", *url),
            project.start("status", "j 1", *url),
            project.start("counts", "--json", *url),
            project.start("enqueue", "echo", "--id", "j 1", "--wait", "5", "--json", *url),
        )
    ]
    document = status.document
    assert (status.code, document["state"], document["attempt"]) == (0, "completed", 1)
    assert document["payload"] == document["result"] == json.loads(payload)
    assert document["error"] is None
    for moment in ("enqueued_at", "started_at", "finished_at", "expires_at"):
        assert datetime.fromisoformat(document[moment]).tzinfo is not None
    assert plain_status.code == 0
    assert "state\tcompleted\n" in plain_status.out
    assert 'result\t{"text": "grüße"' in plain_status.out
    assert counts.document == await served.counts()
    assert counts.document["completed"] == 1
    assert again.document["status"] == "completed"
    assert again.document["result"] == json.loads(payload)


async def test_wait_writes_the_result(project: Project, served: Queue) -> None:
    url = ("--url", project.url, "--wait", "10")
    plain, types, failed, failed_json, late = [
        await command.done()
        for command in (
            project.start("enqueue", "echo", '"text"', *url),
            project.start("enqueue", "types", "--json", *url),
            project.start("enqueue", "fail", *url),
            project.start("enqueue", "fail", "--json", *url),
            project.start("enqueue", "hang", "--id", "hanging", "--json", *url, "--wait", "0.2"),
        )
    ]
    assert (plain.code, plain.out) == (0, '"text"\n')
    assert plain.err.startswith("queued ")
    assert types.document["result"] == {
        "bytes": "AP8=",
        "at": "2026-01-02T03:04:05+00:00",
        "price": "1.10",
        "7": [1, 2, 3],
    }
    assert (failed.code, failed.out) == (5, "")
    assert "ValueError: no\\x1b[31m such thing" in failed.err
    assert "Traceback" not in failed.err
    assert failed_json.code == 5
    assert failed_json.document["state"] == "failed"
    assert failed_json.document["error"]["type"] == "ValueError"
    assert late.code == 6
    assert late.document["state"] == "running"
    assert late.document["id"] == "hanging"
    assert "no result" in late.err


def test_the_payload_comes_from_the_line_a_file_or_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "payload.json").write_text('{"from": "file"}')
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO('"grüße"'.encode())))
    assert read_payload(None) is None
    assert read_payload('[1, "a", null]') == [1, "a", None]
    assert read_payload(f"@{tmp_path}/payload.json") == {"from": "file"}
    assert read_payload("-") == "grüße"


async def test_options_of_an_enqueue_are_stored(project: Project) -> None:
    done = await project.run(
        *("enqueue", "task", "--url", project.url, "--queue", "other", "--id", "late"),
        *("--delay", "60", "--timeout", "5", "--max-attempts", "7", "--result-ttl", "9"),
    )
    assert (done.code, done.out) == (0, "queued late\n")
    async with project.queue("other") as queue:
        info = await queue.get("late")
    assert info is not None
    assert (info.state, info.max_attempts) == ("scheduled", 7)
    assert info.due_at is not None
    assert timedelta(seconds=59) < info.due_at - info.enqueued_at < timedelta(seconds=61)


async def test_defaults_are_the_environment_and_the_folder(project: Project) -> None:
    done = await project.run("enqueue", "task", "--id", "here")
    assert done.code == 0
    assert (project.folder / "jobqueue.db").exists()
    elsewhere = await project.run("counts", "--json", "--url", project.url)
    assert (elsewhere.code, elsewhere.document["queued"]) == (0, 0)
    assert "jobs.db is new" in elsewhere.err


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (["status", "nobody"], 4, "'nobody' is not known"),
        (["status", "nobody", "--json"], 4, "'nobody' is not known"),
        (["status", ""], 2, "ID must not be empty"),
        (["enqueue", "task", "{oops"], 2, "the payload is no JSON"),
        (["enqueue", "task", "NaN"], 2, "NaN does not exist in JSON"),
        (["enqueue", "task", "@missing.json"], 2, "missing.json"),
        (["enqueue", "task", "--delay", "0"], 2, "delay must be more than 0"),
        (["enqueue", "task", "--delay", "soon"], 2, "--delay"),
        (["enqueue", "task", "--max-attempts", "0"], 2, "max_attempts"),
        (["enqueue", "x" * 300], 2, "NAME must be at most 255 bytes"),
        (["counts", "--url", "mysql://host/db"], 2, "has no known scheme"),
        (["counts", "--url", "sqlite:///missing/folder/jobs.db"], 2, "missing"),
        (["enqueue", "task", "--url", "memory://"], 2, "one process only"),
        (["counts", "--json", "--watch"], 2, "exclude each other"),
        (["counts", "--json", "--url", "redis://:secret@127.0.0.1:1/0"], 3, "cannot serve now"),
    ],
)
def test_errors_have_a_message_and_a_code(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    hint: str,
) -> None:
    monkeypatch.setenv("JOBQUEUE_URL", f"sqlite:///{tmp_path}/jobs.db")
    done = shell(monkeypatch, capfd, *arguments)
    assert done.code == code, done.err
    assert hint in " ".join(done.err.replace("│", "").split())
    assert "Traceback" not in done.err
    assert "secret" not in done.err
    assert done.out == ("null\n" if code == 4 and "--json" in arguments else "")


async def test_a_reader_that_goes_away_leaves_no_traceback(project: Project) -> None:
    reading, writing = os.pipe()
    with (project.folder / "err").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "jobqueue", "counts", "--watch", "--url", project.url],
            cwd=project.folder,
            env=environment(),
            stdout=writing,
            stderr=err,
        )
    os.close(writing)
    assert await asyncio.to_thread(os.read, reading, 1)
    os.close(reading)
    assert await asyncio.to_thread(process.wait, PATIENCE) == 128 + signal.SIGPIPE
    assert "Traceback" not in (project.folder / "err").read_text()
    assert "Exception" not in (project.folder / "err").read_text()


async def test_ctrl_c_leaves_no_traceback(project: Project) -> None:
    command = project.start("enqueue", "task", "--wait", "60", "--url", project.url)
    await command.says("queued ")
    command.signal(signal.SIGINT)
    done = await command.done()
    assert (done.code, done.out) == (130, "")
    assert "Traceback" not in done.err


async def test_a_terminal_gets_a_table(project: Project) -> None:
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "jobqueue", "counts", "--url", project.url],
        env=environment() | {"TERM": "xterm"},
        stdout=its,
        stderr=subprocess.DEVNULL,
    )
    os.close(its)
    output = b""
    with suppress(OSError):  # the other end of a terminal that was closed
        while data := await asyncio.to_thread(os.read, ours, 65536):
            output += data
    os.close(ours)
    assert process.wait(PATIENCE) == 0
    assert "╭" in output.decode()
    assert "scheduled" in output.decode()


# -- how values are shown -------------------------------------------------------------------------


def test_every_value_that_a_job_can_return_has_a_form_in_json() -> None:
    values: dict[Any, Any] = {
        "none": None,
        "big": 2**70,
        "nan": float("nan"),
        "date": date(2026, 1, 2),
        "span": timedelta(minutes=1.5),
        "uuid": UUID(int=1),
        "set": frozenset({"b", "a"}),
        "tuple": (b"x", True),
        None: {1.5: "keys"},
    }
    assert json.loads(json.dumps(jsonable(values), allow_nan=False)) == {
        "none": None,
        "big": 2**70,
        "nan": "nan",
        "date": "2026-01-02",
        "span": 90.0,
        "uuid": "00000000-0000-0000-0000-000000000001",
        "set": ["a", "b"],
        "tuple": ["eA==", True],
        "null": {"1.5": "keys"},
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain ü 🎉", "plain ü 🎉"), ("a\nb\x1b[2J\0", "a\\nb\\x1b[2J\\x00"), ("\u202e", "\\u202e")],
)
def test_names_cannot_steer_a_terminal(text: str, shown: str) -> None:
    assert one_line(text) == shown
