"""What the memory storage does where the port leaves it a choice, and what it keeps."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from jobqueue.flow import Flow, Limit, LimitKind, Rate
from jobqueue.states import JobState
from jobqueue.storage.base import NewJob, StoredJob
from jobqueue.storage.memory import MemoryStorage
from jobqueue.storage.memory.limits import Limits
from jobqueue.storage.memory.rows import Row
from tests.support.flows import (
    alone,
    grouped,
    high,
    keyed,
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
    new_job,
    released,
    retrying,
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


def both(id: str, text: str, key: str) -> NewJob:
    """A job that runs alone, and is under a limit by key too."""
    return new_job(id, flow=Flow(alone=text, limit="customer", key=key))


async def test_places_that_are_freed_one_by_one_keep_the_order(storage: MemoryStorage) -> None:
    await set_limit(storage, LimitKind.TYPE, concurrency=2)
    await enqueue(storage, "a", "b", "c", "d")
    a, b = await claim(storage)
    await settle(storage, completed(), a)
    await settle(storage, completed(), b)
    assert ids(await claim(storage)) == ["c", "d"]


async def test_what_is_given_back_is_before_what_it_held_back(storage: MemoryStorage) -> None:
    await set_limit(storage, LimitKind.TYPE, concurrency=1)
    await enqueue(storage, "a", "b")
    (a,) = await claim(storage)
    await settle(storage, released(), a)
    assert ids(await claim(storage)) == ["a"]


async def test_those_of_several_limits_go_on_in_the_order_of_their_turns(
    storage: MemoryStorage,
) -> None:
    jobs = [*alone("x", "a"), *alone("y", "b"), *alone("y", "c"), *alone("x", "d")]
    await enqueue(storage, *jobs)
    await settle(storage, completed(), *await claim(storage))
    assert ids(await claim(storage)) == ["c", "d"]


async def test_new_groups_of_what_is_released_take_turns_in_its_order(
    storage: MemoryStorage,
) -> None:
    await enqueue(storage, *grouped("g", "a"), *grouped("h", "b"))
    await settle(storage, released(), *await claim(storage))
    assert ids(await claim(storage)) == ["a", "b"]


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


async def test_one_that_is_held_back_again_has_its_old_turn(storage: MemoryStorage) -> None:
    await set_limit(storage, LimitKind.TYPE, concurrency=1)
    await enqueue(storage, "a", "b", "c")
    (a,) = await claim(storage)
    assert await claim(storage) == []
    await settle(storage, completed(), a)
    await enqueue(storage, *high("h"))
    (h,) = await claim(storage)
    assert await claim(storage) == []
    await settle(storage, completed(), h)
    assert [h.id, *ids(await claim(storage))] == ["h", "b"]


async def test_one_that_comes_again_has_a_new_turn(storage: MemoryStorage) -> None:
    await set_limit(storage, LimitKind.TYPE, concurrency=1)
    await enqueue(storage, "a", "b")
    (a,) = await claim(storage)
    assert await claim(storage) == []
    await settle(storage, completed(), a)
    (b,) = await claim(storage)
    await enqueue(storage, "c", "d")
    assert await claim(storage) == []
    await settle(storage, retrying(0), b)
    (c,) = await claim(storage)
    assert await claim(storage) == []
    await settle(storage, completed(), c)
    assert [c.id, *ids(await claim(storage))] == ["c", "d"]


async def test_who_goes_from_one_limit_to_another_makes_room_in_the_same_claim(
    storage: MemoryStorage,
) -> None:
    await set_limit(storage, LimitKind.KEY, concurrency=1)
    await enqueue(storage, *keyed("k", "first"), both("a", "x", "free"))
    first, a = await claim(storage)
    await enqueue(storage, both("b", "x", "k"), both("c", "x", "other"))
    assert await claim(storage) == []
    # One place of "x" is free: that is for b, whom now the key holds back; so it is for c.
    await settle(storage, completed(), a)
    assert ids(await claim(storage)) == ["c"]
    await settle(storage, completed(), first)
    assert await claim(storage) == []


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
