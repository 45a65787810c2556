"""Who waits for which job: a message is a hint, the storage has the truth."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from jobqueue import replies as replies_module
from jobqueue.errors import JobNotFound, StorageError, StorageUnavailable
from jobqueue.replies import Replies, Wait
from jobqueue.states import EventType, JobState
from jobqueue.storage.types import CancelRequested, Reply, Sink, StorageEvent, StoredResult
from jobqueue.storage.types import replies as topic_of
from tests.support.wait import wait_until

DONE = StoredResult(JobState.COMPLETED, b"value")
RUNNING = StoredResult(JobState.RUNNING, None)


class FakeStorage:
    """Answers from a table, and records what it was asked."""

    def __init__(self) -> None:
        self.stored: dict[str, StoredResult] = {}
        self.asked: list[tuple[str, list[str], str | None]] = []
        self.topics: list[tuple[str, str]] = []
        self.sink: Sink | None = None
        self.failure: Exception | None = None
        self.closed = 0

    async def listen(self, queue: str, topic: str, sink: Sink) -> FakeStorage:
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        self.topics.append((queue, topic))
        self.sink = sink
        return self

    async def close(self) -> None:
        self.closed += 1

    async def results(
        self, queue: str, ids: Sequence[str], reply_to: str | None = None
    ) -> list[StoredResult | None]:
        self.asked.append((queue, list(ids), reply_to))
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        return [self.stored.get(id) for id in ids]

    def say(self, *messages: Any) -> None:
        assert self.sink is not None
        self.sink(messages)

    def lose_some(self) -> None:
        assert self.sink is not None
        self.sink(None)


@pytest.fixture
def fake() -> FakeStorage:
    return FakeStorage()


@pytest.fixture
async def replies(fake: FakeStorage) -> AsyncIterator[Replies]:
    made = Replies(fake, "q")  # type: ignore[arg-type]
    await made.subscribe()
    yield made
    await made.close()


async def _ending(wait: Wait) -> StoredResult:
    return await asyncio.wait_for(wait.ending, 5)


async def test_one_subscription_however_many_ask(fake: FakeStorage) -> None:
    made = Replies(fake, "q")  # type: ignore[arg-type]
    await asyncio.gather(*[made.subscribe() for _ in range(9)])
    assert fake.topics == [("q", topic_of(made.address))]
    await made.close()
    assert fake.closed == 1


async def test_a_subscription_that_failed_is_tried_again(fake: FakeStorage) -> None:
    made = Replies(fake, "q")  # type: ignore[arg-type]
    fake.failure = StorageUnavailable("away")
    with pytest.raises(StorageUnavailable):
        await made.subscribe()
    fake.failure = None
    await made.subscribe()
    assert len(fake.topics) == 1
    await made.close()


async def test_addresses_differ(fake: FakeStorage) -> None:
    assert Replies(fake, "q").address != Replies(fake, "q").address  # type: ignore[arg-type]


async def test_a_reply_reaches_all_who_wait_for_that_job_alone(
    fake: FakeStorage, replies: Replies
) -> None:
    with (
        replies.waiting("a") as one,
        replies.waiting("a") as two,
        replies.waiting("b") as other,
    ):
        fake.say(Reply("a", JobState.COMPLETED, b"value"))
        assert await _ending(one) == await _ending(two) == DONE
        assert not other.ending.done()
    assert fake.asked == []


async def test_the_first_of_several_replies_counts(fake: FakeStorage, replies: Replies) -> None:
    with replies.waiting("a") as wait:
        fake.say(Reply("a", JobState.COMPLETED, b"value"), Reply("a", JobState.FAILED, b"late"))
        assert await _ending(wait) == DONE


async def test_other_messages_are_passed_over(fake: FakeStorage, replies: Replies) -> None:
    with replies.waiting("a") as wait:
        fake.say(
            CancelRequested("a"),
            StorageEvent(EventType.COMPLETED, "a", "n", 1, 1, "w"),
            Reply("unknown", JobState.COMPLETED, b"x"),
        )
        assert not wait.ending.done()


async def test_a_value_too_large_for_a_message_is_fetched(
    fake: FakeStorage, replies: Replies
) -> None:
    fake.stored["a"] = DONE
    with replies.waiting("a") as wait:
        fake.say(Reply("a", JobState.COMPLETED, None), Reply("nobody's", JobState.COMPLETED, None))
        assert await _ending(wait) == DONE
    assert fake.asked == [("q", ["a"], replies.address)]


async def test_after_a_gap_everything_that_waits_is_looked_up(
    fake: FakeStorage, replies: Replies
) -> None:
    fake.stored |= {"done": DONE, "running": RUNNING}
    with (
        replies.waiting("done") as done,
        replies.waiting("running") as running,
        replies.waiting("not yet stored") as unstored,
        replies.waiting("gone") as gone,
    ):
        gone.stored = True
        fake.lose_some()
        assert await _ending(done) == DONE
        with pytest.raises(JobNotFound, match="'gone'"):
            await _ending(gone)
        assert not running.ending.done()
        assert not unstored.ending.done()


async def test_a_gap_with_many_waiting_is_filled_a_hundred_at_a_time(
    fake: FakeStorage, replies: Replies
) -> None:
    fake.stored |= {str(number): DONE for number in range(250)}
    with contextlib.ExitStack() as stack:
        waits = [stack.enter_context(replies.waiting(str(number))) for number in range(250)]
        fake.lose_some()
        assert [await _ending(wait) for wait in waits] == [DONE] * 250
    assert [len(ids) for _, ids, _ in fake.asked] == [100, 100, 50]


async def test_what_a_lost_message_said_is_found_out_in_time(
    fake: FakeStorage, replies: Replies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies_module, "RECHECK_EVERY", 0.01)
    fake.stored["a"] = RUNNING
    with replies.waiting("a") as wait, replies.waiting("unstored") as unstored:
        wait.stored = True
        await wait_until(lambda: len(fake.asked) >= 2, what="it is asked again")
        fake.stored["a"] = DONE
        assert await _ending(wait) == DONE
        assert not unstored.ending.done()
    assert {tuple(ids) for _, ids, _ in fake.asked if ids} == {("a",)}


async def test_a_storage_that_is_away_is_asked_again(
    fake: FakeStorage, replies: Replies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies_module, "RECHECK_EVERY", 0.01)
    fake.stored["a"] = DONE
    fake.failure = StorageUnavailable("away")
    with replies.waiting("a") as wait:
        wait.stored = True
        fake.lose_some()
        await wait_until(lambda: len(fake.asked) >= 3, what="it is asked again")
        assert not wait.ending.done()
        fake.failure = None
        assert await _ending(wait) == DONE


async def test_checking_ends_with_the_last_who_waits_and_begins_again(
    fake: FakeStorage, replies: Replies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies_module, "RECHECK_EVERY", 0.01)

    def checkers() -> list[asyncio.Task[Any]]:
        return [task for task in asyncio.all_tasks() if task.get_name() == "jobqueue-recheck"]

    with replies.waiting("a"), replies.waiting("b"):
        assert len(checkers()) == 1
    await wait_until(lambda: not checkers(), what="nobody is checked any more")
    fake.stored["c"] = DONE
    with replies.waiting("c") as wait:
        wait.stored = True
        assert await _ending(wait) == DONE


async def test_who_leaves_takes_nothing_from_the_others(
    fake: FakeStorage, replies: Replies
) -> None:
    with replies.waiting("a") as stays:
        with pytest.raises(KeyError), replies.waiting("a") as leaves:
            raise KeyError
        assert leaves.ending.cancelled()
        fake.say(Reply("a", JobState.COMPLETED, b"value"))
        assert await _ending(stays) == DONE


async def test_a_reply_after_everybody_left_is_no_noise(
    fake: FakeStorage, replies: Replies
) -> None:
    with replies.waiting("a"):
        pass
    fake.say(Reply("a", JobState.COMPLETED, b"value"), Reply("a", JobState.COMPLETED, None))
    assert fake.asked == []


async def test_closing_ends_every_wait_with_an_error(fake: FakeStorage) -> None:
    made = Replies(fake, "q")  # type: ignore[arg-type]
    await made.subscribe()
    with made.waiting("a") as one, made.waiting("b") as two:
        fake.say(Reply("b", JobState.COMPLETED, b"value"))
        await made.close()
        with pytest.raises(StorageError, match="closed while job 'a' was awaited"):
            await _ending(one)
        assert await _ending(two) == DONE
    assert fake.closed == 1
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("jobqueue-")] == []
    await made.close()
    assert fake.closed == 1
