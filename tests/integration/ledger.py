"""The oracle of tests with several processes: a file to which each run of a handler is added."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from jobqueue import Job


class Run(NamedTuple):
    """One entry: a handler was called, or reached a point of interest."""

    what: str
    id: str
    attempt: int
    process: int
    at: float


class Ledger:
    """Appends whole lines, so that any number of processes may write."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.path.touch()

    def note(self, what: str, job: Job) -> None:
        """Add an entry; it is in the file when this returns."""
        entry: list[Any] = [what, job.id, job.attempt, os.getpid(), time.time()]
        with self.path.open("ab", buffering=0) as file:
            file.write(json.dumps(entry).encode() + b"\n")

    def read(self, what: str | None = None) -> list[Run]:
        """All entries so far, in order, or those of one kind."""
        # A reader may see the beginning of a line that is just being written.
        whole, _, _ = self.path.read_bytes().rpartition(b"\n")
        runs = [Run(*json.loads(line)) for line in whole.splitlines()]
        return [run for run in runs if what is None or run.what == what]
