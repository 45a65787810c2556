"""Builds the wheel and installs it into an empty environment, once for all tests."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")


@dataclass(frozen=True, slots=True)
class Installed:
    """An environment that has the wheel and what it depends on, and nothing else.

    Attributes:
        folder: The environment.
        elsewhere: An empty folder outside of the checkout, where everything is run.
    """

    folder: Path
    elsewhere: Path

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    @property
    def command(self) -> str:
        """The console script."""
        return str(self.folder / "bin" / "jobqueue")

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command elsewhere, and expect it to succeed."""
        return run(command, self.elsewhere, environment)


def run(
    command: Sequence[str], folder: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        command,
        cwd=folder,
        env=clean | (environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = (*PIP, "wheel", "--no-deps", "--wheel-dir", str(folder), str(REPOSITORY))
    run([sys.executable, *build], folder)
    (built,) = folder.glob("jobqueue-*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    place = Installed(tmp_path_factory.mktemp("venv"), tmp_path_factory.mktemp("elsewhere"))
    venv.create(place.folder, with_pip=True)
    place.run(place.python, *PIP, "install", str(wheel))
    return place
