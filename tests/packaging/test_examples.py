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
