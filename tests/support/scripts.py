"""Programs that a test runs from their text."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]


def run(program: str, *arguments: str) -> list[str]:
    """Run a program that must end by itself, with nothing to complain of; its lines."""
    # From 3.12 on, Python warns of every fork beside a thread, which is what some of these do.
    quiet = "ignore:This process:DeprecationWarning"
    script = textwrap.dedent(program)
    done = subprocess.run(
        [sys.executable, "-W", "default", "-W", quiet, "-c", script, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()
