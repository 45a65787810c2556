"""What a process of the campaign is to do, as it is handed over on its command line."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Final

QUEUE: Final = "chaos"
OTHER: Final = "other"
"""A queue that is cleared and obliterated."""
TICK_SECONDS: Final = 0.05
"""From one instant of a run's schedule to the next."""


def job_id(number: int) -> str:
    """The id of a run's job."""
    return f"job-{number}"


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What a process is to do.

    Attributes:
        url: The server.
        folder: Where the ledger is.
        lease: The queue's, in seconds.
        concurrency: Jobs that a worker runs at a time; requests that a producer has under way.
        sleep_ms: Shortest and longest run of a handler.
        first: Number of a producer's first job.
        count: Jobs of a producer.
        batch: Jobs that a producer sends in one call.
        backlog: A producer waits while more jobs are queued.
        pause: Longest wait of a producer that trickles after each of its calls, in seconds.
        seed: For the payloads.
        linger_ms: A worker's handlers run so much longer.
        grace: The queue's, in seconds.
        waits: The process does not begin before it is told to (SIGUSR1).
        skew_ms: The process's clock is wrong by up to so much.
        load: What the jobs are like, by its name in :data:`tests.chaos.loads.LOADS`.
        keys: How many keys they have, where they say nothing but their key.
    """

    url: str
    folder: str
    lease: float
    concurrency: int
    sleep_ms: tuple[int, int]
    first: int = 0
    count: int = 0
    batch: int = 1
    backlog: int = 0
    pause: float = 0.01
    seed: int = 0
    linger_ms: int = 0
    grace: float = 10.0
    waits: bool = False
    skew_ms: int = 0
    load: str = "plain"
    keys: int = 1

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    def after(self, answered: Container[str]) -> Orders:
        """What is left to do, from the first job on whose enqueue was not answered."""
        end = self.first + self.count
        left = (n for n in range(self.first, end) if job_id(n) not in answered)
        first = next(left, end)
        return replace(self, first=first, count=end - first)

    @property
    def batches(self) -> Iterator[range]:
        """The numbers of the jobs in each of a producer's calls."""
        end = self.first + self.count
        for start in range(self.first, end, self.batch):
            yield range(start, min(start + self.batch, end))

    @staticmethod
    def loads(text: str) -> Orders:
        return Orders(**json.loads(text))
