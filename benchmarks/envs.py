"""An environment for each system, with exact versions, made when it is first needed.

``requirements/<env>.txt`` is a complete ``pip freeze``; ``requirements/package-lock.json`` is the
same for the Node peers, and brings its own Node. An environment is made anew when its list changes.
Our own code is a copy, taken once for a run, so that an edit in the meantime spoils nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parent
LISTS = HERE / "requirements"
ENVIRONMENTS = HERE / ".env"
SNAPSHOT = ENVIRONMENTS / "jobqueue-source"
INSTALL_SECONDS = 900


class NotInstalled(Exception):
    """A system's environment could not be made; the message is what its installer said."""


def command(env: str, program: tuple[str, ...]) -> list[str]:
    """How to start an adapter in its environment, which is made if it is missing.

    Raises:
        NotInstalled: It cannot be made.
    """
    if env != "node":
        return [str(_python_env(env)), "-m", *program]
    folder = _node_env()
    adapters = folder / "adapters"
    adapters.mkdir(exist_ok=True)
    for source in (HERE / "adapters").glob("*.mjs"):
        shutil.copy(source, adapters)  # imports are looked for beside the file
    return [str(folder / "node_modules" / ".bin" / "node"), str(adapters / program[0])]


def take_snapshot() -> None:
    """Copy our package and its scripts to where the adapters import them from."""
    shutil.rmtree(SNAPSHOT, ignore_errors=True)
    for folder in ("jobqueue", "lua"):
        shutil.copytree(
            REPOSITORY / folder,
            SNAPSHOT / folder,
            ignore=shutil.ignore_patterns("__pycache__"),
        )


def variables() -> dict[str, str]:
    """The environment variables of an adapter's process."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(HERE), str(SNAPSHOT)))}


def _python_env(env: str) -> Path:
    listed = LISTS / f"{env}.txt"
    folder = ENVIRONMENTS / env
    python = folder / "bin" / "python"
    if _is_made(folder, [listed]):
        return python
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--requirement", str(listed)])
    _mark_made(folder, [listed])
    return python


def _node_env() -> Path:
    lists = [LISTS / "package.json", LISTS / "package-lock.json"]
    folder = ENVIRONMENTS / "node"
    if _is_made(folder, lists):
        return folder
    if shutil.which("npm") is None:
        raise NotInstalled("npm was not found")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for listed in lists:
        shutil.copy(listed, folder)
    # Not `npm ci`: it refuses a lock file without other platforms' optional packages.
    _run(["npm", "install", "--no-audit", "--no-fund", "--loglevel", "error"], folder)
    _run([str(folder / "node_modules" / ".bin" / "node"), "--version"])
    _mark_made(folder, lists)
    return folder


def _digest(lists: list[Path]) -> str:
    text = b"".join(listed.read_bytes() for listed in lists)
    return hashlib.sha256(text + sys.version.encode()).hexdigest()


def _is_made(folder: Path, lists: list[Path]) -> bool:
    stamp = folder / ".is-made"
    return stamp.is_file() and stamp.read_text() == _digest(lists)


def _mark_made(folder: Path, lists: list[Path]) -> None:
    (folder / ".is-made").write_text(_digest(lists))


def _run(arguments: list[str], folder: Path = HERE) -> None:
    environment = {**os.environ, "PIP_NO_INPUT": "1"}
    try:
        done = subprocess.run(
            arguments,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(str(error)) from error
    if done.returncode:
        lines = (done.stderr or done.stdout).splitlines()
        said = [line.strip()[:200] for line in lines if "error" in line.lower()]
        raise NotInstalled(said[0] if said else f"{arguments[0]} failed")
