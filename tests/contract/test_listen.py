"""Hearing what happens, without being owed it."""

from __future__ import annotations

import pytest

from jobqueue.states import EventType, JobState
from jobqueue.storage.base import Storage
from jobqueue.storage.types import CONTROL, EVENTS, CancelRequested, Reply, StorageEvent, replies
from tests.support.backends import MakeStorage
from tests.support.jobs import (
    QUEUE,
    cancel,
    claim_one,
    completed,
    enqueue,
    new_job,
    run_one,
)
from tests.support.listening import (
    Inbox,
    listening,
    listening_to_events,
    listening_to_replies,
)


async def test_the_first_message_after_listen_returned_is_heard(storage: Storage) -> None:
    for n in range(20):
        async with listening(storage, EVENTS) as inbox:
            await enqueue(storage, f"{n}")
            (event,) = await inbox.wait_for(1)
        assert event.id == f"{n}"


async def test_what_happened_before_is_not_heard(storage: Storage) -> None:
    await enqueue(storage, "before")
    async with listening_to_events(storage) as events:
        assert await events.all() == []


async def test_events_of_another_handle_are_heard_in_order(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    async with listening(one, EVENTS) as inbox:
        for n in range(50):
            await enqueue(other, f"{n}")
        heard = await inbox.wait_for(50)
    assert [event.id for event in heard] == [f"{n}" for n in range(50)]


async def test_events_of_one_batch_are_heard_in_order(storage: Storage) -> None:
    async with listening(storage, EVENTS) as inbox:
        await enqueue(storage, *(f"{n}" for n in range(100)))
        heard = await inbox.wait_for(100)
    assert [event.id for event in heard] == [f"{n}" for n in range(100)]


async def test_messages_are_of_the_types_of_the_port(storage: Storage) -> None:
    async with (
        listening(storage, EVENTS) as events,
        listening(storage, CONTROL) as control,
        listening(storage, replies("here")) as answers,
    ):
        await enqueue(storage, new_job("a", reply_to="here"))
        await claim_one(storage)
        await cancel(storage, "a")
        await enqueue(storage, new_job("b", reply_to="here"))
        await run_one(storage, completed())
        heard = await events.wait_for(5)
        (stop,) = await control.wait_for(1)
        (answer,) = await answers.wait_for(1)
    assert all(type(event) is StorageEvent for event in heard)
    assert all(type(event.type) is EventType for event in heard)
    assert (type(stop), type(answer), type(answer.state)) == (CancelRequested, Reply, JobState)


async def test_every_listener_hears_everything(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    async with (
        listening(one, EVENTS) as first,
        listening(one, EVENTS) as second,
        listening(other, EVENTS) as third,
    ):
        await enqueue(one, "a", "b")
        for inbox in (first, second, third):
            assert [event.id for event in await inbox.wait_for(2)] == ["a", "b"]


async def test_a_topic_hears_nothing_of_the_others(storage: Storage) -> None:
    async with (
        listening_to_events(storage) as events,
        listening(storage, CONTROL) as control,
        listening_to_replies(storage, "here") as here,
        listening_to_replies(storage, "her") as prefix,
        listening_to_replies(storage, "*") as glob,
    ):
        await enqueue(storage, new_job("a", reply_to="here"))
        await run_one(storage, completed())
        await enqueue(storage, "b")
        await claim_one(storage)
        await cancel(storage, "b")
        assert await control.wait_for(1) == [CancelRequested("b")]
        assert [(e.type, e.id) for e in await events.all()] == [
            (EventType.ENQUEUED, "a"),
            (EventType.STARTED, "a"),
            (EventType.COMPLETED, "a"),
            (EventType.ENQUEUED, "b"),
            (EventType.STARTED, "b"),
        ]
        assert [reply.id for reply in await here.all()] == ["a"]
        assert await prefix.all() == []
        assert await glob.all() == []


@pytest.mark.parametrize("other", ["q2", "Q", "q*", "?", "q:events", "reply:q"])
async def test_a_queue_hears_nothing_of_the_others(storage: Storage, other: str) -> None:
    async with (
        listening_to_events(storage, QUEUE) as here,
        listening_to_events(storage, other) as there,
    ):
        await enqueue(storage, "a", queue=QUEUE)
        await enqueue(storage, "b", queue=other)
        assert [event.id for event in await here.all()] == ["a"]
        assert [event.id for event in await there.all()] == ["b"]


async def test_who_stopped_listening_hears_no_more(storage: Storage) -> None:
    inbox = Inbox()
    subscription = await storage.listen(QUEUE, EVENTS, inbox)
    await enqueue(storage, "a")
    await inbox.wait_for(1)
    await subscription.close()
    await subscription.close()
    async with listening_to_events(storage) as events:
        await enqueue(storage, "b")
        assert [event.id for event in await events.all()] == ["b"]
    assert [message.id for message in inbox.messages] == ["a"]


async def test_one_listener_stops_and_the_others_go_on(storage: Storage) -> None:
    first = Inbox()
    subscription = await storage.listen(QUEUE, EVENTS, first)
    async with listening_to_events(storage) as events:
        await subscription.close()
        await enqueue(storage, "a")
        assert [event.id for event in await events.all()] == ["a"]
    assert first.messages == []


async def test_one_can_listen_again(storage: Storage) -> None:
    for n in range(3):
        async with listening_to_events(storage) as events:
            await enqueue(storage, f"{n}")
            assert [event.id for event in await events.all()] == [f"{n}"]


async def test_one_can_listen_to_many_addresses(storage: Storage) -> None:
    inboxes = {f"address-{n}": Inbox() for n in range(20)}
    subscriptions = [
        await storage.listen(QUEUE, replies(address), inbox) for address, inbox in inboxes.items()
    ]
    for address in inboxes:
        await enqueue(storage, new_job(f"for {address}", reply_to=address))
        await run_one(storage, completed())
    for address, inbox in inboxes.items():
        assert await inbox.wait_for(1) == [Reply(f"for {address}", JobState.COMPLETED, b"result")]
    for subscription in subscriptions:
        await subscription.close()
