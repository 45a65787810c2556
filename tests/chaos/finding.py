"""What a measure is given, and what it says."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.backends import Backend, BackendEntry
from tests.support.servers import ServerPool


@dataclass(frozen=True, kw_only=True)
class Course:
    """What a measure is given.

    Attributes:
        entry: The storage.
        folder: An empty folder.
        servers: Starts the storage's server, where it has one.
        seed: Of all that is drawn.
        scale: Part of the full size.
    """

    entry: BackendEntry
    folder: Path
    servers: ServerPool
    seed: int
    scale: float

    def backend(self) -> Backend:
        """An empty place for jobs."""
        return self.entry.make(self.folder, self.servers)


@dataclass
class Finding:
    """What a measure says.

    Attributes:
        figures: By name, as JSON can hold them.
        words: The same for people, one figure each.
        problems: What is not as it must be, in words.
    """

    figures: dict[str, Any] = field(default_factory=dict[str, Any])
    words: list[str] = field(default_factory=list[str])
    problems: list[str] = field(default_factory=list[str])

    def add(self, name: str, value: Any, words: str) -> None:
        """Note a figure."""
        self.figures[name] = value
        self.words.append(words)
