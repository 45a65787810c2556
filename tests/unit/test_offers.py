"""What a consumer does with a job that it is handed, in the orders that are rare on a server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobqueue import StorageUnavailable
from jobqueue.consumer.active import Slots
from jobqueue.consumer.offers import OFFER_FOR_MS, Offers
from jobqueue.storage.types import Claim, Message, Offer, Sink, handed
from tests.support.wait import wait_until

LEASE_MS = 30_000


class Subscribed:
    """What the stub's ``listen`` gives."""

    is_closed = False

    async def close(self) -> None:
        self.is_closed = True


class Stub:
    """As much of a storage as ``Offers`` uses.

    Attributes:
        sink: Who hears what is handed over.
        left: What ``withdraw`` answers.
        away: How many times it raises first.
        withdrawn: Calls of ``withdraw`` so far.
    """

    def __init__(self) -> None:
        self.sink: Sink
        self.left: Claim | None = None
        self.away = 0
        self.withdrawn = 0
        self.subscribed = Subscribed()

    async def listen(self, queue: str, topic: str, sink: Sink) -> Subscribed:
        assert (queue, topic) == ("q", handed("w1"))
        self.sink = sink
        return self.subscribed

    async def withdraw(self, queue: str, worker: str) -> Claim | None:
        assert (queue, worker) == ("q", "w1")
        self.withdrawn += 1
        await asyncio.sleep(0)
        if self.away:
            self.away -= 1
            raise StorageUnavailable("no answer")
        return self.left


class Bench:
    """``Offers`` of a consumer with two slots of which one claim asks for one."""

    def __init__(self, count: int = 2, most: int = 1) -> None:
        self.storage = Stub()
        self.slots = Slots(count, most)
        self.started: list[str] = []
        self.refused: list[str] = []
        storage: Any = self.storage
        self.offers = Offers(
            storage,
            "q",
            "w1",
            LEASE_MS,
            self.slots,
            lambda claim: self.started.append(claim.id),
            lambda claim: self.refused.append(claim.id),
        )

    def hear(self, *messages: Message) -> None:
        self.storage.sink(messages)

    def miss(self) -> None:
        self.storage.sink(None)


@pytest.fixture
async def bench() -> Bench:
    bench = Bench()
    await bench.offers.start()
    return bench


def job(id: str, fence: int) -> Claim:
    return Claim(
        id=id,
        name="task",
        spec=b"",
        fence=fence,
        attempt=1,
        enqueued_ms=0,
        ttl_ms=0,
        worker="w1",
        cancel_requested=False,
    )


# -- what is handed over ---------------------------------------------------------------------------


async def test_a_job_takes_a_slot_and_starts(bench: Bench) -> None:
    bench.hear(job("a", 5))
    assert (bench.started, bench.refused, bench.slots.free) == (["a"], [], 1)


async def test_without_a_free_slot_it_is_refused(bench: Bench) -> None:
    bench.slots.take()
    await bench.slots.reserve()
    bench.hear(job("a", 5))
    assert (bench.started, bench.refused) == ([], ["a"])
    assert (bench.slots.free, bench.slots.reserved) == (0, 1)


async def test_while_stopping_it_is_refused(bench: Bench) -> None:
    bench.offers.halt()
    bench.hear(job("a", 5))
    assert (bench.started, bench.refused, bench.slots.free) == ([], ["a"], 2)


async def test_what_a_withdrawal_brings_while_stopping_is_refused(bench: Bench) -> None:
    bench.offers.halt()
    bench.storage.left = job("a", 5)
    await bench.offers.withdraw()
    assert (bench.started, bench.refused, bench.slots.free) == ([], ["a"], 2)


async def test_one_that_starts_again_takes_jobs_again(bench: Bench) -> None:
    bench.offers.halt()
    await bench.offers.close()
    assert bench.storage.subscribed.is_closed
    await bench.offers.start()
    bench.hear(job("a", 5))
    assert bench.started == ["a"]


@pytest.mark.parametrize("is_heard_first", [True, False])
async def test_a_job_that_is_heard_and_asked_for_starts_once(
    bench: Bench, is_heard_first: bool
) -> None:
    bench.storage.left = job("a", 5)
    if is_heard_first:
        bench.hear(job("a", 5))
        await bench.offers.withdraw()
    else:
        await bench.offers.withdraw()
        bench.hear(job("a", 5))
    assert (bench.started, bench.slots.free) == (["a"], 1)


async def test_a_refused_job_that_is_asked_for_is_not_refused_again(bench: Bench) -> None:
    bench.offers.halt()
    bench.hear(job("a", 5))
    bench.storage.left = job("a", 5)
    await bench.offers.withdraw()
    assert bench.refused == ["a"]


async def test_the_same_id_under_a_new_fence_is_another_job(bench: Bench) -> None:
    bench.hear(job("a", 5), job("a", 6))
    assert bench.started == ["a", "a"]


# -- messages that may have been missed ------------------------------------------------------------


async def test_after_a_gap_an_unheard_job_is_asked_for_and_starts(bench: Bench) -> None:
    bench.storage.left = job("a", 5)
    bench.miss()
    await wait_until(lambda: bench.started == ["a"])
    assert bench.slots.free == 1


async def test_after_a_gap_with_nothing_in_it_nothing_starts(bench: Bench) -> None:
    bench.hear(job("a", 5))
    bench.storage.left = job("a", 5)
    bench.miss()
    await wait_until(lambda: bench.storage.withdrawn == 1)
    bench.storage.left = None
    bench.miss()
    await wait_until(lambda: bench.storage.withdrawn == 2)
    assert (bench.started, bench.refused) == (["a"], [])


async def test_a_storage_that_is_away_after_a_gap_is_asked_until_it_answers(bench: Bench) -> None:
    bench.storage.left = job("a", 5)
    bench.storage.away = 2
    bench.miss()
    await wait_until(lambda: bench.started == ["a"])
    assert bench.storage.withdrawn == 3


async def test_every_gap_is_looked_into_also_one_while_another_is(bench: Bench) -> None:
    bench.miss()
    bench.miss()
    bench.storage.left = job("a", 5)
    await wait_until(lambda: bench.started == ["a"])


async def test_close_ends_a_look_that_gets_no_answer(bench: Bench) -> None:
    bench.storage.away = 1_000_000
    bench.miss()
    await wait_until(lambda: bench.storage.withdrawn)
    await bench.offers.close()
    asked = bench.storage.withdrawn
    names = {task.get_name() for task in asyncio.all_tasks() if not task.cancelling()}
    assert "jobqueue-handed" not in names
    assert bench.storage.withdrawn == asked


# -- what is offered -------------------------------------------------------------------------------


async def test_an_idle_consumer_offers_its_lease_for_one_wait(bench: Bench) -> None:
    assert bench.offers.current == Offer(OFFER_FOR_MS, LEASE_MS)


async def test_a_slot_that_a_claim_under_way_may_use_is_not_offered(bench: Bench) -> None:
    await bench.slots.reserve()
    assert bench.offers.current is not None
    bench.slots.take()
    assert bench.offers.current is None


@pytest.mark.parametrize(("count", "most"), [(1, 1), (2, 2), (10, 10)])
async def test_slots_that_one_claim_could_take_are_not_offered(count: int, most: int) -> None:
    bench = Bench(count, most)
    await bench.offers.start()
    assert bench.offers.current is None


async def test_a_consumer_that_stops_offers_nothing(bench: Bench) -> None:
    bench.offers.halt()
    assert bench.offers.current is None
