"""Fixtures of the integration tests: queues, workers, and further processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobqueue import Queue
from jobqueue.storage.base import Storage
from tests.integration.crew import Crew
from tests.integration.idle import Workers
from tests.integration.ledger import Ledger
from tests.integration.programs import MakeQueue
from tests.support.backends import Backend, RedisBackend


@pytest.fixture
async def make_queue(backend: Backend) -> AsyncIterator[MakeQueue]:
    """Makes queues on the backend, each on a handle of its own, as further processes have them."""
    queues: list[Queue] = []

    def make(name: str = "q", **options: object) -> Queue:
        options.setdefault("storage", backend.handle())
        queue = Queue(name, **options)  # type: ignore[arg-type]
        queues.append(queue)
        return queue

    yield make
    for queue in reversed(queues):
        await queue.close()


@pytest.fixture
def queue(make_queue: MakeQueue) -> Queue:
    """A queue with the default options."""
    return make_queue()


@pytest.fixture
async def crew(backend: Backend) -> AsyncIterator[Crew]:
    """Starts programs in processes of their own; on memory, in threads with a loop of their own."""
    crew = Crew(backend)
    yield crew
    await crew.dismiss()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """What really ran, written outside the storage by whatever process ran it."""
    return Ledger(tmp_path / "ledger")


@pytest.fixture
async def workers(backend: RedisBackend, storage: Storage) -> AsyncIterator[Workers]:
    """Workers that offer to take jobs; on a server."""
    made = Workers(backend, storage)
    yield made
    await made.close()
