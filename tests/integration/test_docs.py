"""The pages about time and flow: their programs run, their commands say what is shown, and the
tests and files that they name exist."""

from __future__ import annotations

import asyncio
import doctest
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from jobqueue import Queue
from jobqueue.cli import main

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = (
    "delays",
    "schedules",
    "priorities",
    "expiry",
    "uniqueness",
    "limits",
    "queue-control",
)
LENIENT: Final = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def text_of(page: str) -> str:
    return (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")


def blocks_of(page: str, language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", text_of(page), re.MULTILINE | re.DOTALL)
    assert found
    return found


@pytest.mark.parametrize("page", PAGES)
def test_the_start_runs(page: str) -> None:
    (program,) = blocks_of(page, "python")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_say_what_is_shown(
    page: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db"
    monkeypatch.setenv("JOBQUEUE_URL", url)
    monkeypatch.setattr(sys, "stdin", io.StringIO())

    async def make_the_file() -> None:
        async with Queue("default", url):
            pass

    asyncio.run(make_the_file())
    (session,) = blocks_of(page, "console")
    for step in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
        command, _, shown = step.partition("\n")
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        with pytest.raises(SystemExit) as exit:
            main()
        out, err = capfd.readouterr()
        assert doctest.OutputChecker().check_output(shown, out + err, LENIENT), (command, out, err)
        assert bool(exit.value.code) == shown.startswith("error: "), command


@pytest.mark.parametrize("page", PAGES)
def test_what_is_named_exists(page: str) -> None:
    text = text_of(page)
    for path in re.findall(r"tests/[\w/]+(?:\.py)?", text):
        assert (ROOT / path).exists(), path
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert (ROOT / "docs" / link).exists(), link
    assert f"(docs/{page}.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
