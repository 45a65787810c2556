"""The commands about time and flow: what they do, what they write, and how they end."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from jobqueue import Job, Limit, Queue, Rate
from jobqueue.cli import main
from jobqueue.cli.output import write_table
from tests.support.wait import wait_until

T = TypeVar("T")


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


class Shell:
    """A user's shell in a folder with a database of its own.

    Attributes:
        url: The database.
    """

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        self.url = f"sqlite:///{folder}/jobs.db"
        self._monkeypatch = monkeypatch
        self._capfd = capfd
        monkeypatch.setenv("JOBQUEUE_URL", self.url)
        monkeypatch.setattr(sys, "stdin", io.StringIO())

    def __call__(self, *arguments: str) -> Done:
        """Run a command to its end."""
        self._monkeypatch.setattr(sys, "argv", ["jobqueue", *arguments])
        with pytest.raises(SystemExit) as exit:
            main()
        out, err = self._capfd.readouterr()
        assert "Traceback" not in err
        return Done(int(exit.value.code or 0), out, err)

    def json(self, *arguments: str) -> Any:
        """The document that a command writes, which must end well and say nothing else."""
        done = self(*arguments, "--json")
        assert (done.code, done.err) == (0, "")
        return done.document

    def text(self, *arguments: str) -> str:
        """What a command writes, which must end well and say nothing else."""
        done = self(*arguments)
        assert (done.code, done.err) == (0, "")
        return done.out

    def see(self, work: Callable[[Queue], Coroutine[Any, Any, T]]) -> T:
        """Ask the queue itself."""

        async def ask() -> T:
            async with Queue("default", self.url) as queue:
                return await work(queue)

        return asyncio.run(ask())


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Shell:
    shell = Shell(tmp_path, monkeypatch, capfd)
    shell.see(Queue.counts)  # the file is there
    return shell


# -- a whole queue --------------------------------------------------------------------------------


def test_a_queue_is_paused_drained_and_resumed(shell: Shell) -> None:
    assert shell.text("pause") == "default: paused\n"
    assert shell.see(Queue.control).paused
    assert shell.json("drain") == {
        "queue": "default",
        "paused": True,
        "draining": True,
        "max_length": None,
        "low_share": None,
    }
    assert shell.see(Queue.control).draining
    refused = shell("enqueue", "task")
    assert (refused.code, refused.out) == (8, "")
    assert "is draining" in refused.err
    assert shell.text("resume") == "default: open\n"
    assert shell.json("pause", "--queue", "other")["queue"] == "other"
    assert not shell.see(Queue.control).paused
    assert shell.text("drain", "--wait", "5") == "default: draining\n"
    assert shell.json("resume")["draining"] is False


def test_a_drain_that_takes_too_long(shell: Shell) -> None:
    shell.text("enqueue", "task")
    late = shell("drain", "--wait", "0.05", "--json")
    assert (late.code, late.document["remaining"], late.document["draining"]) == (6, 1, True)
    assert "still holds 1 job" in late.err
    assert shell.see(Queue.control).draining


def test_the_length_and_the_share_of_low_jobs(shell: Shell) -> None:
    first = shell.json("configure", "--max-length", "1", "--low-share", "0.1")
    assert (first["max_length"], first["low_share"]) == (1, 0.1)
    shell.text("enqueue", "task", "--delay", "60")
    full = shell("enqueue", "task", "--json")
    assert (full.code, full.out) == (7, "")
    assert "holds its limit of 1 waiting jobs; try again in" in full.err
    assert shell.text("configure", "--max-length", "none") == "default: low share 0.1\n"
    assert shell.text("configure", "--low-share", "none") == "default: open\n"
    assert shell.text("enqueue", "task").startswith("queued ")


def test_queues_are_seen_side_by_side(shell: Shell) -> None:
    shell.text("pause", "--queue", "b")
    shell.text("configure", "--max-length", "9", "--queue", "b")
    shell.text("enqueue", "task", "--queue", "b")
    assert shell.text("queues", "-q", "b", "-q", "default") == (
        "queue\tb\tdefault\npaused\tyes\t-\ndraining\t-\t-\nmax length\t9\t-\n"
        "low share\t-\t-\nscheduled\t0\t0\nqueued\t1\t0\nrunning\t0\t0\nretrying\t0\t0\n"
        "completed\t0\t0\nfailed\t0\t0\ncancelled\t0\t0\n"
    )
    (b,) = shell.json("queues", "-q", "b", "-q", "b")
    assert (b["queue"], b["paused"], b["max_length"], b["counts"]["queued"]) == ("b", True, 9, 1)


def test_a_queue_is_cleared_and_obliterated(shell: Shell) -> None:
    for _ in range(3):
        shell.text("enqueue", "task")
    asked = shell("clear")
    assert (asked.code, asked.out) == (2, "")
    assert "give --yes" in asked.err
    assert shell.see(Queue.counts)["queued"] == 3
    assert shell.text("clear", "--yes") == "cancelled 3\n"
    assert shell.see(Queue.counts)["cancelled"] == 3
    assert shell.json("clear", "--yes") == {"queue": "default", "cancelled": 0}
    shell.text("schedules", "set", "often", "task", "--every", "9999")
    wrong = shell("obliterate", "--confirm", "defualt")
    assert wrong.code == 2
    assert shell.see(Queue.counts)["cancelled"] == 3
    assert shell.json("obliterate", "--confirm", "default") == {"queue": "default", "forgotten": 3}
    assert sum(shell.see(Queue.counts).values()) == 0
    assert shell.json("schedules", "list") == []
    assert shell.text("obliterate", "--confirm", "default") == "forgotten 0\n"


def test_running_jobs_are_only_forgotten_by_force(shell: Shell) -> None:
    def obliterate(*force: str) -> Done:
        return shell("obliterate", "--confirm", "default", *force)

    async def while_one_runs() -> list[Done]:
        async with Queue("default", shell.url, lease=0.6) as queue:
            started = asyncio.Event()

            @queue.handler("hang")
            async def hang(job: Job) -> None:
                started.set()
                await asyncio.sleep(3600)

            async with queue.worker() as worker:
                await queue.enqueue("hang")
                await started.wait()
                refused = await asyncio.to_thread(obliterate)
                forced = await asyncio.to_thread(obliterate, "--force")
                await wait_until(lambda: worker.active_count == 0, timeout=20)
                return [refused, forced]

    refused, forced = asyncio.run(while_one_runs())
    assert refused.code == 2
    assert "still running" in refused.err
    assert "--force" in refused.err
    assert (forced.code, forced.out) == (0, "forgotten 1\n")


def test_a_terminal_is_asked_and_sees_a_bar(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shell.text("enqueue", "task")
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    declined = shell("clear")
    assert (declined.code, declined.out) == (1, "")
    assert "nothing was done" in declined.err
    assert shell.see(Queue.counts)["queued"] == 1
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    assert shell("clear").out == "cancelled 1\n"
    assert "1/1" in screen.getvalue()


# -- jobs that wait for their time ----------------------------------------------------------------


def test_jobs_that_wait_are_listed_and_get_another_time(shell: Shell) -> None:
    shell.text("enqueue", "task", "--id", "late", "--run-at", "2034-05-06T07:08:09+02:00")
    shell.text("enqueue", "task", "--id", "soon", "--delay", "3600")
    shell.text("enqueue", "task", "--id", "ready")
    assert [job["id"] for job in shell.json("scheduled", "list")] == ["soon", "late"]
    assert [job["id"] for job in shell.json("scheduled", "list", "--count", "1")] == ["soon"]
    table = shell.text("scheduled", "list").splitlines()
    assert table[0] == "id\tname\tstate\tdue"
    assert table[2] == "late\ttask\tscheduled\t2034-05-06T05:08:09.000+00:00"
    moved = shell.json("reschedule", "soon", "--at", "2035-01-01T00:00:00Z")
    assert moved == {
        "id": "soon",
        "status": "updated",
        "state": "scheduled",
        "due_at": "2035-01-01T00:00:00+00:00",
    }
    assert shell.text("reschedule", "late", "--in", "60").startswith("updated late: due 20")
    late = shell.see(lambda queue: queue.get("late"))
    assert late is not None
    assert late.due_at is not None
    assert late.due_at - late.enqueued_at < timedelta(seconds=120)
    assert shell.text("run-now", "late") == "updated late: due now\n"
    again = shell("run-now", "late", "--json")
    assert (again.code, again.document["status"]) == (9, "queued")
    assert "is queued: it waits for no time" in again.err
    unknown = shell("run-now", "nobody", "--json")
    assert (unknown.code, unknown.document["status"]) == (4, "not_found")


# -- schedules ------------------------------------------------------------------------------------


def test_a_schedule_from_the_shell(shell: Shell) -> None:
    rule = ("--cron", "30 2 * * *", "--tz", "Europe/Rome", "--misfire", "all", "--overlap", "skip")
    made = shell.json("schedules", "set", "nightly", "report", '{"days": 1}', *rule)
    next_at = datetime.fromisoformat(made.pop("next_at"))
    assert next_at.minute == 30
    assert made == {
        "id": "nightly",
        "spec": "30 2 * * * (Europe/Rome)",
        "job": "report",
        "last_at": None,
        "last_id": None,
        "paused": False,
        "misfire": "all",
        "overlap": "skip",
    }
    text = shell.text("schedules", "set", "often", "task", "--every", "90", "--misfire-grace", "5")
    assert "when\tevery 0:01:30\n" in text
    table = shell.text("schedules", "list").splitlines()
    assert table[0] == "id\twhen\tjob\tnext\tlast"
    assert [line.split("\t")[0] for line in table[1:]] == ["nightly", "often"]
    assert [each["id"] for each in shell.json("schedules", "list")] == ["nightly", "often"]
    assert "next\tpaused\n" in shell.text("schedules", "pause", "nightly")
    assert shell.json("schedules", "show", "nightly")["next_at"] is None
    ran = shell.json("schedules", "run", "nightly")
    assert (ran["schedule"], ran["status"], ran["state"]) == ("nightly", "queued", "queued")
    job = shell.see(lambda queue: queue.get(ran["id"]))
    assert job is not None
    assert (job.name, job.payload) == ("report", {"days": 1})
    assert shell.json("schedules", "resume", "nightly")["next_at"] == next_at.isoformat()
    assert shell.text("schedules", "run", "nightly").startswith("queued ")
    assert shell.text("schedules", "delete", "nightly") == "deleted nightly\n"
    gone = shell("schedules", "delete", "nightly", "--json")
    assert (gone.code, gone.document) == (4, {"id": "nightly", "deleted": False})


def test_what_a_schedule_says_of_its_jobs(shell: Shell) -> None:
    options = ("--priority", "high", "--expires", "600", "--group", "g", "--max-attempts", "7")
    shell.text("schedules", "set", "s", "task", "--every", "9999", *options)
    ran = shell.json("schedules", "run", "s")
    job = shell.see(lambda queue: queue.get(ran["id"]))
    assert job is not None
    assert (job.priority, job.group, job.max_attempts) == ("high", "g", 7)
    assert job.start_by == job.enqueued_at + timedelta(seconds=600)


# -- limits ---------------------------------------------------------------------------------------


def test_limits_from_the_shell(shell: Shell) -> None:
    assert shell.text("limits", "set", "--rate", "200/s") == "the whole queue: 200/s\n"
    of_type = ("limits", "set", "--type", "mail", "--concurrency", "4")
    bucket = ("--rate", "100/60s", "--kind", "bucket", "--burst", "5")
    mail = {
        "kind": "type",
        "name": "mail",
        "concurrency": 4,
        "rate": {"count": 100, "per": 60.0, "kind": "bucket", "burst": 5},
        "pinned": True,
        "running": 0,
        "held_back": 0,
    }
    assert shell.json(*of_type, *bucket) == mail
    assert shell.text("limits", "set", "--key", "customer", "-c", "1") == (
        "each key of customer: 1 at a time\n"
    )
    limits = shell.see(lambda queue: queue.limits.list())
    assert [(each.kind, each.name) for each in limits] == [
        ("queue", ""),
        ("type", "mail"),
        ("key", "customer"),
    ]
    assert limits[0].limit == Limit(rate=Rate(200))
    assert limits[1].limit == Limit(concurrency=4, rate=Rate(100, 60.0, "bucket", 5))
    assert shell.json("limits", "list")[1] == mail
    assert shell.text("limits", "list") == (
        "kind\tname\tconcurrency\trate\tpinned\trunning\theld back\n"
        "queue\t-\t-\t200/s\tyes\t0\t0\n"
        "type\tmail\t4\t100/60s bucket of 5\tyes\t0\t0\n"
        "key\tcustomer\t1\t-\tyes\t0\t0\n"
    )
    assert shell.json("limits", "remove", "--type", "mail") == mail
    assert shell.text("limits", "remove") == "the whole queue: no limit; it was 200/s\n"
    none = shell("limits", "remove", "--json")
    assert (none.code, none.document) == (4, None)
    assert len(shell.json("limits", "list")) == 1


# -- one job --------------------------------------------------------------------------------------


def test_a_job_says_when_it_may_start(shell: Shell) -> None:
    shell.text(
        *("enqueue", "task", "--id", "j", "--priority", "low", "--expires", "60"),
        *("--group", "tenant", "--limit", "customer", "--key", "c1"),
    )
    document = shell.json("status", "j")
    assert (document["priority"], document["group"]) == ("low", "tenant")
    assert (document["limit"], document["limit_key"]) == ("customer", "c1")
    text = shell.text("status", "j")
    for line in ("priority\tlow", "group\ttenant", "limit\tcustomer", "limit key\tc1"):
        assert f"{line}\n" in text
    assert "start by\t" in text


@pytest.mark.parametrize(
    ("rule", "same", "other", "status"),
    [
        (["--unique", "finished"], '{"a": 1}', '{"a": 2}', "duplicate"),
        (["--unique", "60", "--by", "a"], '{"a": 1, "b": 2}', '{"a": 2}', "duplicate"),
        (["--throttle", "60", "--by", "a"], '{"a": 1}', '{"a": 2}', "duplicate"),
        (["--debounce", "60", "--max-wait", "90"], '{"a": 3}', None, "replaced"),
        (["--keep-last", "--by", "a"], '{"a": 1}', '{"a": 2}', "replaced"),
    ],
)
def test_the_receipt_says_what_became_of_a_second_job(
    shell: Shell, rule: list[str], same: str, other: str | None, status: str
) -> None:
    first = shell.json("enqueue", "task", '{"a": 1}', *rule)
    second = shell.json("enqueue", "task", same, *rule)
    assert (second["id"], second["status"]) == (first["id"], status)
    if other is not None:
        assert shell.json("enqueue", "task", other, *rule)["status"] == "queued"


# -- wrong usage ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (["configure"], 2, "give --max-length, --low-share or both"),
        (["configure", "--max-length", "many"], 2, "--max-length must be a number or none"),
        (["configure", "--max-length", "0"], 2, "max_length must be between 1"),
        (["configure", "--low-share", "0.9"], 2, "low_share must be between"),
        (["drain", "--wait", "0"], 2, "wait must be more than 0"),
        (["obliterate"], 2, "--confirm"),
        (["queues", "--queue", ""], 2, "must not be empty"),
        (["queues", "--url", "redis://127.0.0.1:1/0"], 3, "cannot serve now"),
        (["pause", "--url", "memory://"], 2, "one process only"),
        (["reschedule", "j"], 2, "give --in or --at"),
        (["reschedule", "j", "--in", "5", "--at", "2034-05-06T07:08:09Z"], 2, "not both"),
        (["reschedule", "j", "--at", "2034-05-06 07:08"], 2, "needs an offset from UTC"),
        (["reschedule", "j", "--at", "tomorrow"], 2, "must be a date and time such as"),
        (["reschedule", "j", "--in", "-1"], 2, "--in must be at least 0"),
        (["reschedule", "nobody", "--in", "1"], 4, "'nobody' is not known"),
        (["schedules", "set", "s", "task"], 2, "give --cron or --every"),
        (["schedules", "set", "s", "task", "--cron", "* * * *"], 2, "it has 4 fields"),
        (["schedules", "set", "s", "task", "--every", "5", "--tz", "UTC"], 2, "goes with --cron"),
        (
            ["schedules", "set", "s", "task", "--cron", "0 0 * * *", "--tz", "Europe/Roma"],
            2,
            "'Europe/Rome'",
        ),
        (["schedules", "set", "s", "task", "{", "--every", "5"], 2, "is no JSON"),
        (["schedules", "set", "s", "task", "--every", "5", "--overlap", "never"], 2, "--overlap"),
        (["schedules", "set", "", "task", "--every", "5"], 2, "must not be empty"),
        (["schedules", "show", "nobody"], 4, "schedule 'nobody' is not known"),
        (["schedules", "pause", "nobody"], 4, "schedule 'nobody' is not known"),
        (["schedules", "run", "nobody"], 4, "schedule 'nobody' is not known"),
        (["limits", "set"], 2, "give --concurrency, --rate or both"),
        (["limits", "set", "--rate", "fast"], 2, "such as 200/s"),
        (["limits", "set", "--rate", "0/s"], 2, "Rate(count)"),
        (["limits", "set", "--burst", "2", "-c", "1"], 2, "go with --rate"),
        (["limits", "set", "--rate", "5/s", "--kind", "leaky"], 2, "Rate(kind)"),
        (["limits", "set", "-c", "1", "--type", "a", "--key", "b"], 2, "not both"),
        (["limits", "remove", "--key", "nobody"], 4, "no such limit"),
        (["enqueue", "task", "--unique", "soon"], 2, "finished, started or seconds"),
        (["enqueue", "task", "--max-wait", "5"], 2, "goes with --debounce"),
        (["enqueue", "task", "--by", "a"], 2, "--by goes with"),
        (["enqueue", "task", "--unique", "5", "--keep-last"], 2, "unique or keep_last, not both"),
        (["enqueue", "task", "--keep-last", "--by", "a"], 2, "needs a payload"),
        (["enqueue", "task", "--limit", "a"], 2, "limit and key go together"),
        (["enqueue", "task", "--priority", "urgent"], 2, "--priority"),
        (["enqueue", "task", "--expires", "5", "--delay", "6"], 2, "could never start"),
        (["enqueue", "task", "--run-at", "2034-05-06"], 2, "needs an offset from UTC"),
    ],
)
def test_errors_have_a_message_and_a_code(
    shell: Shell, arguments: list[str], code: int, hint: str
) -> None:
    done = shell(*arguments)
    assert (done.code, done.out) == (code, "")
    assert hint in " ".join(done.err.replace("│", "").split())
    assert sum(shell.see(Queue.counts).values()) == 0


def test_help_tells_the_exit_codes(shell: Shell) -> None:
    assert "the queue is draining; nothing was stored" in shell.text("enqueue", "--help")
    assert "no such schedule" in shell.text("schedules", "pause", "--help")
    for command in ("queues", "drain", "obliterate", "run-now", "schedules", "limits"):
        assert command in shell.text("--help")


def test_a_terminal_gets_a_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    write_table("title", ("one", "two"), [("a", None), ("[red]b", "c")])
    out = capsys.readouterr().out
    assert "╭" in out
    assert "[red]b" in out
