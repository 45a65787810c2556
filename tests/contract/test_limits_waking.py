"""Claims that wait behind a limit start as soon as it lets them."""

from __future__ import annotations

import pytest

from jobqueue.flow import LimitKind, Rate, RateKind
from jobqueue.states import JobState
from jobqueue.storage.base import Storage
from tests.support.backends import MakeStorage
from tests.support.flows import alone, keyed, lift_limit, set_limit
from tests.support.jobs import (
    QUEUE,
    claim,
    claim_one,
    completed,
    enqueue,
    ids,
    new_job,
    only,
    released,
    retrying,
    settle,
)
from tests.support.wait import wait_until
from tests.support.waiting import waiting

every_scope = pytest.mark.parametrize("scope", LimitKind)


async def one_runs(storage: Storage, scope: LimitKind):
    await set_limit(storage, scope, concurrency=1)
    await enqueue(storage, *keyed("k", "a", "b", "c"))
    return await claim_one(storage, worker="w2")


@every_scope
async def test_when_a_place_is_freed(make_storage: MakeStorage, scope: LimitKind) -> None:
    one, other = await make_storage(), await make_storage()
    claimed = await one_runs(other, scope)
    async with waiting(one, 5) as waiter:
        await settle(other, completed(), claimed, worker="w2")
        assert ids(await waiter.claims()) == ["b"]
    assert await other.counts(QUEUE) == only(completed=1, running=1, queued=1)


@every_scope
async def test_when_a_place_is_freed_after_a_claim_in_vain(
    make_storage: MakeStorage, scope: LimitKind
) -> None:
    one, other = await make_storage(), await make_storage()
    claimed = await one_runs(other, scope)
    assert await claim(other, worker="w3") == []
    async with waiting(one, 5) as waiter:
        await settle(other, retrying(60_000), claimed, worker="w2")
        assert ids(await waiter.claims()) == ["b"]


@every_scope
async def test_when_the_limit_is_raised(make_storage: MakeStorage, scope: LimitKind) -> None:
    one, other = await make_storage(), await make_storage()
    await one_runs(other, scope)
    async with waiting(one, 5) as waiter:
        await set_limit(other, scope, concurrency=2)
        assert ids(await waiter.claims()) == ["b"]


@every_scope
async def test_when_the_limit_ends(make_storage: MakeStorage, scope: LimitKind) -> None:
    one, other = await make_storage(), await make_storage()
    await one_runs(other, scope)
    async with waiting(one, 5) as waiter:
        await lift_limit(other, scope)
        assert ids(await waiter.claims()) == ["b", "c"]


async def test_when_the_one_that_runs_alone_has_ended(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    await enqueue(one, *alone("x", "a", "b"))
    claimed = await claim_one(other, worker="w2")
    async with waiting(one) as waiter:
        await settle(other, completed(), claimed, worker="w2")
        assert ids(await waiter.claims()) == ["b"]


async def test_when_one_of_another_limit_comes(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    await one_runs(other, LimitKind.TYPE)
    async with waiting(one) as waiter:
        await enqueue(other, new_job("o", name="other"))
        assert ids(await waiter.claims()) == ["o"]


async def test_several_waiting_claims_share_the_places(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    await set_limit(one, LimitKind.TYPE, concurrency=2)
    await enqueue(one, "a", "b", "c", "d", "e")
    claims = await claim(other, worker="w0")
    async with waiting(one, worker="w1") as first, waiting(other, worker="w2") as second:
        await settle(other, completed(), *claims, worker="w0")
        got = await first.claims() + await second.claims()
    assert sorted(ids(got)) == ["c", "d"]
    assert (await one.counts(QUEUE))[JobState.RUNNING] == 2


async def test_a_waiting_claim_gets_no_more_than_a_limit_allows(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    await set_limit(one, LimitKind.TYPE, concurrency=1)
    async with waiting(one, 5, worker="w1") as first, waiting(other, 5, worker="w2") as second:
        await enqueue(one, "a", "b", "c")
        await wait_until(lambda: first.ended() or second.ended())
        assert await claim(other, worker="w3") == []
        assert (first.ended(), second.ended()) != (True, True)
        assert (await one.counts(QUEUE))[JobState.RUNNING] == 1


async def test_when_the_released_one_is_the_only_one(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    await set_limit(one, LimitKind.TYPE, concurrency=1)
    await enqueue(one, "a")
    claimed = await claim_one(other, worker="w2")
    async with waiting(one) as waiter:
        await settle(other, released(), claimed, worker="w2")
        assert ids(await waiter.claims()) == ["a"]


@every_scope
@pytest.mark.parametrize("kind", RateKind)
async def test_when_a_rate_allows_the_next(
    make_storage: MakeStorage, scope: LimitKind, kind: RateKind
) -> None:
    one, other = await make_storage(), await make_storage()
    await set_limit(one, scope, rate=Rate(1, 300, kind))
    await enqueue(other, *keyed("k", "a", "b"))
    assert ids(await claim(other, worker="w2")) == ["a"]
    async with waiting(one) as waiter:
        assert ids(await waiter.claims()) == ["b"]


async def test_when_a_slow_rate_ends(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    await set_limit(one, LimitKind.TYPE, rate=Rate(1, 3_600_000))
    await enqueue(other, "a", "b")
    assert ids(await claim(other, worker="w2")) == ["a"]
    async with waiting(one) as waiter:
        await set_limit(other, LimitKind.TYPE, rate=Rate(2, 3_600_000))
        assert ids(await waiter.claims()) == ["b"]
