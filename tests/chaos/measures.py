"""What is measured on each storage by itself, where no jobs are counted against a ledger."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from tests.chaos import away, manners, soak, steps
from tests.chaos.finding import Course, Finding
from tests.support.backends import BackendEntry, entries, server_entry
from tests.support.servers import ServerBinary, ServerPool, find_servers

Take: TypeAlias = Callable[[Course], Awaitable[Finding]]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One measure at its full size.

    Attributes:
        name: Its number in the campaign's list.
        title: What is measured.
        take: Measures once, on one storage.
        kinds: The kinds of storage where it says something.
        every_server: On each server of this machine, not only on the first.
    """

    name: str
    title: str
    take: Take
    kinds: tuple[str, ...] = ("sqlite", "redis")
    every_server: bool = True

    def places(self, binary: ServerBinary | None) -> Iterator[BackendEntry]:
        """Where it is taken; with a binary, on no other server."""
        binaries = find_servers() if binary is None else (binary,)
        servers = [server_entry(each) for each in binaries]
        without = [entry for entry in entries() if entry.server is None]
        for entry in (*without, *(servers if self.every_server else servers[:1])):
            if entry.kind in self.kinds:
                yield entry


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one measure found on one storage."""

    measure: Measure
    place: str
    seed: int
    scale: float
    finding: Finding
    seconds: float

    @property
    def good(self) -> bool:
        return not self.finding.problems

    def as_dict(self) -> dict[str, Any]:
        """All figures, as JSON can hold them."""
        return {
            "scenario": self.measure.name,
            "title": self.measure.title,
            "good": self.good,
            "storage": self.place,
            "seed": self.seed,
            "scale": self.scale,
            **self.finding.figures,
            "took": round(self.seconds, 2),
            "examples": self.finding.problems,
        }

    def line(self) -> str:
        """The figures in one line."""
        word = "good" if self.good else "BAD "
        head = f"{self.measure.name:<4} {word} seed {self.seed} {self.place}"
        return f"{head} · {' · '.join(self.finding.words)} · took {self.seconds:.1f} s"


async def measured(measure: Measure, entry: BackendEntry, *, seed: int, scale: float) -> Row:
    """Take a measure in an empty place of its own; afterwards nothing is left of it."""
    began = time.monotonic()
    with _place() as (folder, servers):
        course = Course(entry=entry, folder=folder, servers=servers, seed=seed, scale=scale)
        try:
            finding = await measure.take(course)
        except Exception as error:
            notes = getattr(error, "__notes__", [])
            said = "\n".join([f"{type(error).__name__}: {error}", *notes])
            finding = Finding(problems=[said])
    return Row(
        measure=measure,
        place=entry.label,
        seed=seed,
        scale=scale,
        finding=finding,
        seconds=time.monotonic() - began,
    )


@contextmanager
def _place() -> Iterator[tuple[Path, ServerPool]]:
    servers = ServerPool()
    try:
        with tempfile.TemporaryDirectory(prefix="jobqueue-chaos-") as folder:
            yield Path(folder), servers
    finally:
        servers.stop()


MEASURES: Final = {
    measure.name: measure
    for measure in (
        Measure(
            name="S15",
            title="random steps against the model",
            take=steps.take,
            kinds=("memory", "sqlite", "redis"),
        ),
        Measure(name="S20", title="a long run", take=soak.take, every_server=False),
        Measure(name="S21", title="handlers without manners", take=manners.take),
        Measure(
            name="AWAY",
            title="memory while the server is away",
            take=away.take,
            kinds=("redis",),
            every_server=False,
        ),
    )
}
