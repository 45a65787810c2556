"""The README's code, as a newcomer would run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A folder with the first block as ``app.py``, and nothing else."""
    (tmp_path / "app.py").write_text(BLOCKS[0])
    return tmp_path


def test_the_first_screen_is_one_example_of_a_few_lines() -> None:
    lines = [line for line in BLOCKS[0].splitlines() if line.strip()]
    assert len(lines) <= 15
    first_screen = README.read_text().splitlines()[:45]
    assert any("jobqueue worker app:queue" in line for line in first_screen)
    assert any("python app.py" in line for line in first_screen)


def test_the_two_commands_run_a_worker_and_print_results(app: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "JOBQUEUE_URL"}
    worker = subprocess.Popen(
        [sys.executable, "-m", "jobqueue", "worker", "app:queue"],
        cwd=app,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        program = subprocess.run(
            [sys.executable, "app.py"],
            cwd=app,
            env=environment,
            capture_output=True,
            text=True,
            timeout=40,
        )
        assert program.stderr == ""
        assert program.stdout == "b.jpg at 256 px\na.jpg at 128 px\n"
        assert program.stdout in README.read_text()
    finally:
        worker.terminate()
        output, _ = worker.communicate(timeout=20)
    assert worker.returncode == 0, output.decode()


async def test_the_other_blocks_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOBQUEUE_URL", f"sqlite:///{tmp_path / 'readme.db'}")
    module = types.ModuleType("app")
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"README.md block {number}", "exec"), module.__dict__)
    queue = module.queue
    failures: list[str] = []
    queue.on("failed")(lambda event: failures.append(f"{event.name}: {event.error}"))
    async with queue:
        async with queue.worker():
            await module.examples()
            assert await module.thumbnail.call("x.jpg") == "x.jpg at 256 px"
            info = await queue.enqueue_and_wait("no such name", [1, 2])
            assert info == {"name": "no such name", "payload": [1, 2]}
        await module.serve()
    assert failures == []
    assert "thumb:a.jpg queued queued" in capsys.readouterr().out
