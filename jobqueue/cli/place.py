"""Which queue a command is about."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Final

from jobqueue.cli.exits import CommandError, usage_errors
from jobqueue.queue import Queue

_SQLITE: Final = "sqlite:///"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which queue a command is about, and how it says what it saw.

    Attributes:
        queue: Its name.
        url: Its storage; ``None`` for ``$JOBQUEUE_URL``, else SQLite in this folder.
        as_json: Whether to write one JSON document and nothing else.
    """

    queue: str
    url: str | None
    as_json: bool

    def open(self) -> Queue:
        """The queue, not yet connected.

        Raises:
            CommandError: There can be no such queue.
        """
        with usage_errors():
            queue = Queue(self.queue, self.url)
        if queue.storage.url.startswith("memory:"):
            raise CommandError(
                f"{queue.storage.url} lives in one process only, no other can see its jobs: give "
                "--url sqlite:///file.db or redis://..."
            )
        return queue

    def open_to_look(self) -> Queue:
        """As :meth:`open`, with a word where there cannot be anything to see.

        An empty answer from a file that did not exist is most often the wrong folder.
        """
        queue = self.open()
        url = queue.storage.url
        if url.startswith(_SQLITE) and not os.path.exists(url.removeprefix(_SQLITE)):
            sys.stderr.write(
                f"note: {url.removeprefix(_SQLITE)} is new; for jobs that are elsewhere give "
                "--url, or run this in the folder of the worker\n"
            )
        return queue
