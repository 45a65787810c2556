"""What the memory storage does where the port leaves it a choice, and what it keeps."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from jobqueue.flow import Flow, Limit, LimitKind, Rate
from jobqueue.states import JobState
from jobqueue.storage.memory import MemoryStorage
from jobqueue.storage.memory.limits import Limits
from jobqueue.storage.memory.rows import Row
from jobqueue.storage.types import StoredJob
from tests.support.flows import (
    limit_info,
    replacing,
    scope_of,
    set_limit,
)
from tests.support.jobs import (
    cancel,
    claim,
    completed,
    enqueue,
    ids,
    released,
    settle,
    stored,
)

NOW = 1_700_000_000_000


@pytest.fixture
async def storage() -> AsyncIterator[MemoryStorage]:
    async with MemoryStorage() as storage:
        yield storage


def running(name: str, flow: Flow | None = None) -> Row:
    job = StoredJob(
        id=name,
        name="task",
        spec=b"",
        state=JobState.RUNNING,
        attempt=1,
        fence=1,
        enqueued_ms=NOW,
        flow=flow,
    )
    return Row(job, request="")


async def test_what_is_given_back_is_before_what_it_held_back(storage: MemoryStorage) -> None:
    await set_limit(storage, LimitKind.TYPE, concurrency=1)
    await enqueue(storage, "a", "b")
    (a,) = await claim(storage)
    await settle(storage, released(), a)
    assert ids(await claim(storage)) == ["a"]


async def test_a_place_is_kept_for_one_that_was_called(storage: MemoryStorage) -> None:
    await set_limit(storage, LimitKind.TYPE, concurrency=2)
    await enqueue(storage, "a", "b", "c", "d", "e")
    a, _ = await claim(storage)
    await claim(storage)
    await settle(storage, completed(), a)
    assert (await limit_info(storage, LimitKind.TYPE)).held_back == 2
    await set_limit(storage, LimitKind.TYPE, concurrency=3)
    assert (await limit_info(storage, LimitKind.TYPE)).held_back == 1
    assert ids(await claim(storage)) == ["c", "d"]


async def test_the_place_of_one_that_is_cancelled_is_for_the_next(storage: MemoryStorage) -> None:
    await set_limit(storage, LimitKind.TYPE, concurrency=1)
    await enqueue(storage, "a", "b", "c", "d")
    (a,) = await claim(storage)
    await settle(storage, completed(), a)
    await cancel(storage, "b")
    assert (await limit_info(storage, LimitKind.TYPE)).held_back == 1
    assert ids(await claim(storage)) == ["c"]


async def test_the_last_requests_that_replaced_a_job_are_known(storage: MemoryStorage) -> None:
    later = [replacing(f"{n}", spec=b"%d" % n) for n in range(17)]
    await enqueue(storage, replacing("a"), *later[:16])
    await enqueue(storage, later[0])
    assert (await stored(storage, "a")).spec == b"15"
    await enqueue(storage, later[16], later[0])
    assert (await stored(storage, "a")).spec == b"0"


def test_lanes_that_say_nothing_are_forgotten() -> None:
    limits = Limits()
    limits.set(scope_of(LimitKind.KEY), Limit(rate=Rate(1, 1_000)), [])
    limits.set(scope_of(LimitKind.TYPE), Limit(concurrency=1), [])
    row = running("a", Flow(limit="customer", key="k", alone="x"))
    limits.start(row, NOW)
    limits.end(row)
    limits.tidy(NOW + 1_000)
    assert limits.who_refuses(row, NOW + 1_000) is not None, "the start still counts"
    limits.tidy(NOW + 1_001)
    assert not limits._lanes  # pyright: ignore[reportPrivateUsage] - that is what it is about
    assert limits.who_refuses(row, NOW + 1_001) is None
