"""Flow and control of a queue without ``await``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from jobqueue import (
    DrainTimeout,
    JobSpec,
    Limit,
    QueueControl,
    QueueDraining,
    QueueFull,
    Rate,
    SyncQueue,
    SyncReceipt,
)
from jobqueue.options import JobOptions
from tests.support.backends import Backend


@pytest.fixture
def queue(backend: Backend) -> Iterator[SyncQueue]:
    with SyncQueue("q", backend.handle()) as queue:
        yield queue


def test_limits(queue: SyncQueue) -> None:
    queue.limits.set(Limit(rate=Rate(10, per=60, kind="bucket", burst=5)), key="customers")
    queue.limits.set(Limit(concurrency=9))
    assert [(each.kind, each.name, each.limit, each.pinned) for each in queue.limits.list()] == [
        ("queue", "", Limit(concurrency=9), True),
        ("key", "customers", Limit(rate=Rate(10, 60.0, "bucket", 5)), True),
    ]
    queue.limits.remove(key="customers")
    queue.limits.remove()
    assert queue.limits.list() == []


def test_control(queue: SyncQueue) -> None:
    queue.pause()
    queue.set_low_share(0.1)
    queue.set_max_length(2)
    assert queue.control() == QueueControl(paused=True, max_length=2, low_share=0.1)
    specs = [JobSpec("task", n, JobOptions(delay=600, id=f"id {n}")) for n in range(3)]
    with pytest.raises(QueueFull) as caught:
        queue.enqueue_many(specs)
    stored = caught.value.receipts
    assert [each and each.id for each in stored] == ["id 0", "id 1", None]
    assert isinstance(stored[0], SyncReceipt)
    assert stored[0].info() is not None
    with pytest.raises(DrainTimeout, match="paused"):
        queue.drain(wait=0.05)
    with pytest.raises(QueueDraining):
        queue.enqueue("task")
    queue.resume()
    queue.set_max_length(None)
    assert queue.clear() == 2
    assert queue.obliterate("q") == 2
    assert sum(queue.counts().values()) == 0


def test_due_times(queue: SyncQueue) -> None:
    queue.enqueue("task", delay=600, id="one")
    at = datetime(2040, 1, 2, tzinfo=UTC)
    assert queue.reschedule("one", at) == "updated"
    assert [(info.id, info.due_at) for info in queue.scheduled()] == [("one", at)]
    assert queue.run_now("one") == "updated"
    assert queue.scheduled(limit=5) == []


def test_job_types(queue: SyncQueue) -> None:
    @queue.job(unique=True, priority="low", group_by="a")
    def work(a: int) -> None: ...

    first, second = work.enqueue_sync(1), work.enqueue_sync(1)
    assert (second.id, second.status) == (first.id, "duplicate")
    info = second.info()
    assert info is not None
    assert (info.priority, info.group) == ("low", "1")
    replaced = [queue.enqueue("save", n, debounce=600).status for n in range(2)]
    assert replaced == ["queued", "replaced"]
