"""The examples and the demo run, and say what they should."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.packaging.conftest import REPOSITORY, run
from tests.support.backends import Backend

pytestmark = pytest.mark.timeout(180)

EXAMPLES = REPOSITORY / "examples"


def test_retries(tmp_path: Path) -> None:
    said = run([sys.executable, str(EXAMPLES / "retries.py")], tmp_path).stdout
    assert "flaky:        done at attempt 3" in said
    assert "rate_limited: let through" in said
    assert "failed after 1 attempt: NoSuchAccount" in said
    assert "TimeoutError" in said


def test_embedded_worker(tmp_path: Path) -> None:
    said = run([sys.executable, str(EXAMPLES / "embedded_worker.py")], tmp_path).stdout
    assert "alpha 8ed3f6ad685b959e" in said
    assert "completed digest:gamma" in said
    assert "again: completed" in said


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("delays", ["waiting:    bread tea", "laundry    after 0.", "run now:    finished"]),
        (
            "schedules",
            ["the books are closed", "4 ticks of 4 instants", "0:00:00.500000         paused"],
        ),
        (
            "priorities",
            [
                "levels: high1 high2 normal1 normal2 low1 low2",
                "share:  high1 high2 high3 low1 high4 high5 high6 low2 high7 high8",
                "groups: a1 b1 c1 a2 a3 a4",
            ],
        ),
        ("expiry", ["expired before it was started", "ran: in time", "1 completed, 2 cancelled"]),
        (
            "uniqueness",
            [
                "export   queued duplicate duplicate",
                "alert    queued the first, completed the first, completed the first",
                "reindex  queued the first, replaced the first, replaced the first",
                "sync     queued the first, queued the second, replaced the second",
            ],
        ),
        ("limits", ["bill: 1 at a time of one customer", "type bill pinned", "key bill declared"]),
        ("queue_control", ["full: 3 wait", "drained: 3 completed", "cleared: 1", "obliterated: 4"]),
    ],
)
def test_time_and_flow(name: str, lines: list[str], tmp_path: Path) -> None:
    said = run([sys.executable, str(EXAMPLES / f"{name}.py")], tmp_path).stdout
    for line in lines:
        assert line in said


@pytest.mark.parametrize("where", ["sqlite", "redis"])
def test_the_demo_loses_nothing(where: str, tmp_path: Path) -> None:
    demo = [sys.executable, str(EXAMPLES / "demo" / "run.py"), "--files", "300"]
    demo += ["--folder", str(tmp_path), *(["--redis"] if where == "redis" else [])]
    said = run(demo, tmp_path).stdout
    assert "is killed with SIGKILL" in " ".join(said.split())
    last = said.splitlines()[-1]
    assert re.fullmatch(r"300 files, 300 results, 0 lost, \d+ redelivered", last)


@pytest.mark.storages("sqlite")
def test_throughput(backend: Backend, tmp_path: Path) -> None:
    script = str(REPOSITORY / "benchmarks" / "throughput.py")
    small = ["--url", backend.url, "--jobs", "50", "--calls", "5", "--rounds", "1", "--json"]
    assert '"calls/s"' in run([sys.executable, script, *small], tmp_path).stdout
