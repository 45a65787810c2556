"""The turns of those that limits hold back, and let go."""

from __future__ import annotations

from jobqueue.flow import Flow, LimitKind
from jobqueue.storage.base import Storage
from jobqueue.storage.types import NewJob
from tests.support.flows import alone, grouped, high, keyed, set_limit
from tests.support.jobs import claim, completed, enqueue, ids, new_job, released, retrying, settle


def both(id: str, text: str, key: str) -> NewJob:
    """A job that runs alone, and is under a limit by key too."""
    return new_job(id, flow=Flow(alone=text, limit="customer", key=key))


async def test_places_that_are_freed_one_by_one_keep_the_order(storage: Storage) -> None:
    await set_limit(storage, LimitKind.TYPE, concurrency=2)
    await enqueue(storage, "a", "b", "c", "d")
    a, b = await claim(storage)
    await settle(storage, completed(), a)
    await settle(storage, completed(), b)
    assert ids(await claim(storage)) == ["c", "d"]


async def test_those_of_several_limits_go_on_in_the_order_of_their_turns(
    storage: Storage,
) -> None:
    jobs = [*alone("x", "a"), *alone("y", "b"), *alone("y", "c"), *alone("x", "d")]
    await enqueue(storage, *jobs)
    await settle(storage, completed(), *await claim(storage))
    assert ids(await claim(storage)) == ["c", "d"]


async def test_new_groups_of_what_is_released_take_turns_in_its_order(
    storage: Storage,
) -> None:
    await enqueue(storage, *grouped("g", "a"), *grouped("h", "b"))
    await settle(storage, released(), *await claim(storage))
    assert ids(await claim(storage)) == ["a", "b"]


async def test_one_that_is_held_back_again_has_its_old_turn(storage: Storage) -> None:
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


async def test_one_that_comes_again_has_a_new_turn(storage: Storage) -> None:
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
    storage: Storage,
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
