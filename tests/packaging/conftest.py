"""Builds the wheel and installs it into an empty environment, once for all tests of a run."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


@contextmanager
def made_once(folder: Path) -> Iterator[bool]:
    """Whether the folder is new and ours to fill; then it is, for all test processes of this run.

    The others wait until it is filled.
    """
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = folder.with_suffix(".made")
        yield not stamp.exists()
        stamp.touch()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all test processes of this run have in common."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def wheel(shared: Path) -> Path:
    folder = shared / "wheel"
    with made_once(folder) as new:
        if new:
            build = (*PIP, "wheel", "--no-deps", "--wheel-dir", str(folder), str(REPOSITORY))
            run([sys.executable, *build], shared)
    (built,) = folder.glob("jobqueue-*.whl")
    return built


@pytest.fixture(scope="session")
def environment(wheel: Path, shared: Path) -> Path:
    folder = shared / "environment"
    with made_once(folder) as new:
        if new:
            venv.create(folder, clear=True, symlinks=True, with_pip=True)
            run([str(folder / "bin" / "python"), *PIP, "install", str(wheel)], shared)
    return folder


@pytest.fixture
def installed(environment: Path, tmp_path: Path) -> Installed:
    return Installed(environment, tmp_path)
