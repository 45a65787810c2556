"""The demo's processes: one producer, two workers. Each writes its output to a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORKER = ["-m", "jobqueue", "worker", "app:queue", "--concurrency", "4", "--log-format", "plain"]
PRODUCER = [str(HERE / "produce.py")]


class Process:
    """A Python process with a name and a log."""

    def __init__(self, name: str, arguments: list[str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name.replace(' ', '-')}.log"
        paths = [str(HERE), os.environ.get("PYTHONPATH", "")]  # where app.py is found
        with self.log.open("wb") as log:
            self._popen = subprocess.Popen(
                [sys.executable, *arguments],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is the conductor's business
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def code(self) -> int | None:
        """The exit code; ``None`` while it runs."""
        return self._popen.poll()

    def kill(self) -> None:
        """SIGKILL: no clean-up, no last words, as when the machine runs out of memory."""
        self._popen.kill()
        self._popen.wait()

    def stop(self, seconds: float = 10.0) -> int:
        """Ask it to end (SIGTERM), and insist after a while. Gives the exit code."""
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGTERM)
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._popen.returncode

    def last_words(self, lines: int = 15) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
