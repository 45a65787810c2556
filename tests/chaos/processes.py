"""The processes of a measure: a worker as users start it, and programs that answer lines."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, Final

ROOT: Final = Path(__file__).parents[2]
START_SECONDS: Final = 60.0


class Program:
    """One process of this Python.

    Args:
        arguments: Of Python.
        url: What it gets as ``$JOBQUEUE_URL``.
        errors: A file for what it says on its standard error.
    """

    def __init__(self, arguments: list[str], url: str, errors: Path) -> None:
        self._errors = errors
        with errors.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env={**os.environ, "JOBQUEUE_URL": url},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    async def ask(self, line: object, seconds: float) -> Any:
        """Send a line, and wait for the answer, which is one of JSON.

        Raises:
            AssertionError: There is none, or not in time.
        """
        into, out = _pipe(self.process.stdin), _pipe(self.process.stdout)
        into.write(f"{line}\n".encode())
        into.flush()
        async with asyncio.timeout(seconds):
            answer = await asyncio.to_thread(out.readline)
        assert answer, self.last_words()
        return json.loads(answer)

    def last_words(self) -> str:
        """The end of what it said on its standard error."""
        return "\n".join(self._errors.read_text(errors="replace").splitlines()[-15:])

    def end(self) -> None:
        """Make sure that it has ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            _pipe(pipe).close()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


@contextmanager
def program(arguments: list[str], url: str, folder: Path) -> Iterator[Program]:
    """A process for the time of the block."""
    number = len(list(folder.glob("*.stderr")))
    made = Program(arguments, url, folder / f"{number}.stderr")
    try:
        yield made
    finally:
        made.end()


def worker(app: str, url: str, folder: Path, *options: str) -> AbstractContextManager[Program]:
    """``jobqueue worker`` for the time of the block."""
    return program(["-m", "jobqueue", "worker", app, *options], url, folder)
