"""Batches: what arrives while one is under way forms the next."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobqueue import batcher as batcher_module
from jobqueue.batcher import Batcher, Outbox, batches


@given(st.lists(st.integers(0, 20), max_size=40), st.integers(1, 10), st.integers(1, 50))
def test_cutting_keeps_all_items_in_order_within_the_limits(
    sizes: list[int], max_count: int, max_bytes: int
) -> None:
    items = list(enumerate(sizes))
    cut = list(batches(items, lambda item: item[1], max_count, max_bytes))
    assert [item for batch in cut for item in batch] == items
    for batch in cut:
        assert 1 <= len(batch) <= max_count
        assert len(batch) == 1 or sum(size for _, size in batch) <= max_bytes


def test_nothing_is_cut_into_nothing() -> None:
    assert list(batches([], len, 5)) == []


class Sender:
    """Answers each item with its double, when the gate is open; keeps what it was sent."""

    def __init__(self) -> None:
        self.sent: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, items: list[int]) -> list[int]:
        self.sent.append(items)
        await self.gate.wait()
        return [2 * item for item in items]


def make(send: Any, max_count: int = 100) -> Batcher[int, int]:
    return Batcher(send, lambda item: 1, max_count)


async def test_a_lone_item_goes_at_once() -> None:
    send = Sender()
    assert await make(send).submit(1) == 2
    assert send.sent == [[1]]


async def test_what_comes_in_one_turn_goes_together_and_in_order() -> None:
    send = Sender()
    batcher = make(send)
    assert await asyncio.gather(*(batcher.submit(n) for n in range(5))) == [0, 2, 4, 6, 8]
    assert send.sent == [[0, 1, 2, 3, 4]]


async def test_what_comes_meanwhile_forms_the_next_batch() -> None:
    send = Sender()
    send.gate.clear()
    batcher = make(send)
    futures = [batcher.submit(1)]
    await asyncio.sleep(0)
    futures += [batcher.submit(2), batcher.submit(3)]
    assert len(batcher) == 2
    send.gate.set()
    assert await asyncio.gather(*futures) == [2, 4, 6]
    assert send.sent == [[1], [2, 3]]
    assert len(batcher) == 0


async def test_a_batch_has_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    send = Sender()
    batcher = make(send, max_count=2)
    await asyncio.gather(*(batcher.submit(n) for n in range(5)))
    assert send.sent == [[0, 1], [2, 3], [4]]

    monkeypatch.setattr(batcher_module, "MAX_BATCH_BYTES", 3)
    send = Sender()
    batcher = make(send)
    await asyncio.gather(*(batcher.submit(n) for n in range(5)))
    assert send.sent == [[0, 1, 2], [3, 4]]


async def test_an_error_is_everybodys_in_that_batch_and_nobodys_in_the_next() -> None:
    async def send(items: list[int]) -> list[int]:
        if 0 in items:
            raise ValueError("not this one")
        return items

    batcher = make(send, max_count=2)
    answers = await asyncio.gather(*(batcher.submit(n) for n in range(4)), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["not this one", "not this one", "2", "3"]


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
async def test_an_error_that_nobody_waits_for_is_not_complained_about() -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda loop, context: complaints.append(context)
    )

    async def send(items: list[int]) -> list[int]:
        raise ValueError

    batcher = make(send)
    batcher.submit(1)
    await batcher.flushed()
    assert complaints == []


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_a_wrong_number_of_answers_leaves_nobody_waiting(count: int) -> None:
    async def send(items: list[int]) -> list[int]:
        return [0] * count if 1 in items else items

    batcher = make(send, max_count=2)
    answers = await asyncio.wait_for(
        asyncio.gather(*(batcher.submit(n) for n in (1, 2, 3)), return_exceptions=True), 5
    )
    assert [type(answer) for answer in answers] == [ValueError, ValueError, int]


async def test_who_gave_up_before_it_was_sent_is_left_out() -> None:
    send = Sender()
    send.gate.clear()
    batcher = make(send)
    first = batcher.submit(1)
    await asyncio.sleep(0)
    second, third = batcher.submit(2), batcher.submit(3)
    second.cancel()
    send.gate.set()
    assert (await first, await third) == (2, 6)
    assert send.sent == [[1], [3]]


async def test_who_gave_up_after_it_was_sent_disturbs_nobody() -> None:
    send = Sender()
    send.gate.clear()
    batcher = make(send)
    first, second = batcher.submit(1), batcher.submit(2)
    await asyncio.sleep(0)
    first.cancel()
    send.gate.set()
    assert await second == 4


async def test_no_batch_is_sent_when_everybody_gave_up() -> None:
    send = Sender()
    batcher = make(send)
    batcher.submit(1).cancel()
    await batcher.flushed()
    assert send.sent == []


async def test_flushed_waits_for_all_and_returns_when_there_is_nothing() -> None:
    send = Sender()
    batcher = make(send, max_count=1)
    await batcher.flushed()
    futures = [batcher.submit(n) for n in range(3)]
    await batcher.flushed()
    assert all(future.done() for future in futures)
    assert await batcher.submit(5) == 10


async def test_a_batcher_rests_without_a_task() -> None:
    before = asyncio.all_tasks()
    batcher = make(Sender())
    await batcher.submit(1)
    await batcher.flushed()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


class Gate:
    """Takes batches, and has done with them when it is open."""

    def __init__(self) -> None:
        self.sent: list[list[int]] = []
        self.open = asyncio.Event()

    async def __call__(self, items: list[int]) -> None:
        self.sent.append(items)
        await self.open.wait()


@pytest.mark.parametrize("turns", [0, 1, 3])
async def test_an_outbox_that_was_abandoned_can_be_used_again(turns: int) -> None:
    gate = Gate()
    outbox = Outbox[int](gate, lambda item: 1, 1)
    for n in range(3):
        outbox.put(n)
    for _ in range(turns):
        await asyncio.sleep(0)
    await outbox.abandon()
    assert len(outbox) == 0
    await outbox.abandon()
    gate.open.set()
    outbox.put(5)
    await outbox.flushed()
    assert gate.sent == ([[0], [5]] if turns else [[5]])


async def test_two_batches_may_be_under_way_and_the_third_waits() -> None:
    gate = Gate()
    outbox = Outbox[int](gate, lambda item: 1, 3, in_flight=2)
    for n in range(4):
        outbox.put(n)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert gate.sent == [[0, 1, 2], [3]]
    outbox.put(4)
    outbox.put(5)
    await asyncio.sleep(0.01)
    assert gate.sent == [[0, 1, 2], [3]]
    assert len(outbox) == 2
    gate.open.set()
    await outbox.flushed()
    assert gate.sent == [[0, 1, 2], [3], [4, 5]]


async def test_what_is_put_in_while_a_batch_ends_is_sent() -> None:
    gate = Gate()
    gate.open.set()
    outbox = Outbox[int](gate, lambda item: 1, 1)
    loop = asyncio.get_running_loop()
    outbox.put(1)
    # Just when the task has ended, before anybody else may have noticed.
    loop.call_soon(outbox.put, 2)
    loop.call_soon(outbox.put, 3)
    async with asyncio.timeout(5):
        while gate.sent != [[1], [2], [3]]:
            await asyncio.sleep(0)


async def test_a_lone_question_is_sent_in_the_task_that_asks() -> None:
    senders: list[object] = []

    async def send(items: list[int]) -> list[int]:
        senders.append(asyncio.current_task())
        await asyncio.sleep(0)
        return items

    batcher = make(send)
    assert await batcher.ask(1) == 1
    assert senders == [asyncio.current_task()]


async def test_questions_asked_meanwhile_go_together_and_flushed_waits_for_all() -> None:
    send = Sender()
    send.gate.clear()
    batcher = make(send)
    tasks = [asyncio.create_task(batcher.ask(n)) for n in range(3)]
    await asyncio.sleep(0)
    flushed = asyncio.create_task(batcher.flushed())
    await asyncio.sleep(0)
    assert not flushed.done()
    send.gate.set()
    await flushed
    assert await asyncio.gather(*tasks) == [0, 2, 4]
    assert send.sent == [[0], [1, 2]]


async def test_who_gave_up_is_forgotten_while_nothing_is_answered() -> None:
    send = Sender()
    send.gate.clear()
    batcher = make(send)
    patient = [asyncio.create_task(batcher.ask(n)) for n in range(100)]
    await asyncio.sleep(0)
    longest = 0
    for _ in range(50):
        hasty = [asyncio.create_task(batcher.ask(-1)) for _ in range(100)]
        await asyncio.sleep(0)
        longest = max(longest, len(batcher))
        for task in hasty:
            task.cancel()
        await asyncio.wait(hasty)
    assert longest <= 4 * 100  # of the 200 at most who wait at a time
    send.gate.set()
    assert await asyncio.gather(*patient) == [2 * n for n in range(100)]
    assert sorted(n for batch in send.sent for n in batch) == list(range(100))
