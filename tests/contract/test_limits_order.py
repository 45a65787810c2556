"""Those that one limit holds back start in the order in which their turn came, however often they
are let go."""

from __future__ import annotations

import pytest

from jobqueue.flow import LimitKind
from jobqueue.storage.base import Storage
from tests.support.flows import high, keyed, set_limit
from tests.support.jobs import claim, claim_one, completed, enqueue, ids, new_job, settle


async def test_places_that_are_freed_one_by_one_go_to_the_longest_held(storage: Storage) -> None:
    await set_limit(storage, LimitKind.KEY, concurrency=3)
    await enqueue(storage, *keyed("k", "1", "2", "3", "a", "b", "c", "d"))
    running = await claim(storage)
    assert ids(running) == ["1", "2", "3"]
    for claimed in running:
        await settle(storage, completed(), claimed)
    assert ids([await claim_one(storage) for _ in range(3)]) == ["a", "b", "c"]


async def test_what_is_let_go_stays_before_what_came_later(storage: Storage) -> None:
    await set_limit(storage, LimitKind.KEY, concurrency=2)
    await enqueue(storage, *keyed("k", "1", "2", "a", "b"), *keyed("l", "3", "4", "c", "d"))
    first, second, third, fourth = await claim(storage)
    await settle(storage, completed(), first)
    await settle(storage, completed(), third)
    await settle(storage, completed(), second)
    await settle(storage, completed(), fourth)
    await enqueue(storage, "late")
    started = ids(await claim(storage))
    assert sorted(started) == ["a", "b", "c", "d", "late"]
    assert [id for id in started if id in "ab"] == ["a", "b"]
    assert [id for id in started if id in "cd"] == ["c", "d"]
    assert started[-1] == "late"


@pytest.mark.parametrize("times", [1, 2])
async def test_one_that_is_held_back_again_keeps_its_turn(storage: Storage, times: int) -> None:
    await set_limit(storage, LimitKind.TYPE, concurrency=1)
    await enqueue(storage, "runs", "a", "b")
    (running,) = await claim(storage)
    for number in range(times):
        # "a" is let go, but a job of a higher level comes before it and takes the place.
        await settle(storage, completed(), running)
        await enqueue(storage, *high(f"high-{number}"), new_job(f"free-{number}", name="other"))
        running, free = await claim(storage)
        assert ids([running, free]) == [f"high-{number}", f"free-{number}"]
    await settle(storage, completed(), running)
    running = await claim_one(storage)
    assert running.id == "a"
    await settle(storage, completed(), running)
    assert ids(await claim(storage)) == ["b"]
