"""Schedules: stored by version, with the jobs that they make."""

from __future__ import annotations

import pytest

from jobqueue.flow import Schedules, StoredSchedule
from jobqueue.states import EventType, JobState
from jobqueue.storage.base import Storage
from jobqueue.storage.types import NewJob
from tests.support.backends import MakeStorage
from tests.support.clock import ManualClock
from tests.support.flows import change, high, unique
from tests.support.jobs import (
    HOUR,
    MINUTE,
    QUEUE,
    SECOND,
    claim,
    completed,
    enqueue,
    exists,
    ids,
    new_job,
    only,
    run_one,
    stored,
)
from tests.support.listening import listening_to_events
from tests.support.names import HOSTILE_NAMES, LOOKALIKES
from tests.support.waiting import waiting


def schedule(
    id: str = "s", version: int = 1, next_ms: int = 0, *, token: str | None = None, **fields
) -> StoredSchedule:
    fields = {"record": b"record", **fields}
    token = f"token {version}" if token is None else token
    return StoredSchedule(id=id, version=version, token=token, next_ms=next_ms, **fields)


async def put(
    storage: Storage, one: StoredSchedule, *jobs: str | NewJob, queue: str = QUEUE
) -> bool:
    made = [new_job(job) if isinstance(job, str) else job for job in jobs]
    return await storage.put_schedule(queue, one, made)


async def all_of(storage: Storage, queue: str = QUEUE) -> list[StoredSchedule]:
    return (await storage.schedules(queue)).found


async def test_a_schedule_comes_back_as_it_was(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    full = StoredSchedule("s", b"\0rec\xff", 1, "token", 2**45, 2**44, "id of the last")
    assert await put(one, full)
    assert await all_of(other) == [full]
    assert (await other.schedules(QUEUE, ["s"])).found == [full]


async def test_a_queue_without_schedules_says_so(storage: Storage, clock: ManualClock) -> None:
    assert await storage.schedules(QUEUE) == Schedules(clock.now(), 0, [])
    assert await storage.schedules(QUEUE, ["s"]) == Schedules(clock.now(), 0, [])
    assert await storage.schedules(QUEUE, due=5) == Schedules(clock.now(), 0, [])


async def test_each_change_is_one_more_version(storage: Storage) -> None:
    for version in range(1, 5):
        assert await put(storage, schedule(version=version, next_ms=version))
        assert await all_of(storage) == [schedule(version=version, next_ms=version)]


@pytest.mark.parametrize("version", [2, 3, 0])
async def test_the_first_version_is_one(storage: Storage, version: int) -> None:
    assert not await put(storage, schedule(version=version), "a")
    assert await all_of(storage) == []
    assert not await exists(storage, "a")


@pytest.mark.parametrize("version", [1, 2, 4, 5])
async def test_a_change_of_another_version_is_refused_whole(storage: Storage, version: int) -> None:
    for step in (1, 2):
        await put(storage, schedule(version=step))
    conflict = schedule(version=version, token="another", record=b"other", next_ms=7)
    async with listening_to_events(storage) as events:
        assert not await put(storage, conflict, "a")
        assert await events.all() == []
    assert await all_of(storage) == [schedule(version=2)]
    assert not await exists(storage, "a")


async def test_one_of_two_changes_at_once_wins(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    await put(one, schedule())
    assert await put(one, schedule(version=2, token="mine"), "mine")
    assert not await put(other, schedule(version=2, token="theirs"), "theirs")
    assert ids(await claim(other)) == ["mine"]


async def test_a_repeat_is_true_and_changes_nothing(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    job = new_job("a")
    assert await put(one, schedule(next_ms=5), job)
    await run_one(one, completed())
    async with listening_to_events(one) as events:
        assert await put(other, schedule(next_ms=5), job, "b")
        assert await events.all() == []
    assert not await exists(one, "b")
    assert await all_of(one) == [schedule(next_ms=5)]
    assert await put(one, schedule(version=2, token="token 1"))
    assert not await put(one, schedule(), "c")


async def test_its_jobs_are_enqueued_in_the_same_step(storage: Storage, clock: ManualClock) -> None:
    async with listening_to_events(storage) as events:
        jobs = [new_job("a", name="type"), new_job("later", delay_ms=HOUR), *high("h")]
        assert await put(storage, schedule(next_ms=5), *jobs)
        told = [(event.type, event.id) for event in await events.all()]
    assert told == [(EventType.ENQUEUED, id) for id in ("a", "later", "h")]
    assert (await storage.counts(QUEUE))[JobState.SCHEDULED] == 1
    assert ids(await claim(storage, 2)) == ["h", "a"]


async def test_its_jobs_are_held_against_ids_and_unique_keys(storage: Storage) -> None:
    await enqueue(storage, new_job("a", spec=b"first"), unique("u"))
    jobs = [new_job("a", spec=b"second"), unique("v"), "b"]
    assert await put(storage, schedule(), *jobs)
    assert (await stored(storage, "a")).spec == b"first"
    assert not await exists(storage, "v")
    assert ids(await claim(storage)) == ["a", "u", "b"]


@pytest.mark.parametrize("state", [{"draining": 1}, {"max_waiting": 1}])
async def test_its_jobs_are_accepted_whatever_holds_for_the_queue(
    storage: Storage, state: dict[str, int]
) -> None:
    await enqueue(storage, "a")
    await change(storage, **state)
    assert await put(storage, schedule(), "b", "c")
    assert await storage.counts(QUEUE) == only(queued=3)
    assert isinstance((await enqueue(storage, "d"))[0].status, str)
    assert not await exists(storage, "d")


async def test_those_that_are_due_are_given_by_their_time(
    storage: Storage, clock: ManualClock
) -> None:
    now = clock.now()
    times = {"a": now, "b": now - HOUR, "c": now + 1, "d": 0, "e": now - MINUTE, "f": 1}
    for id, next_ms in times.items():
        await put(storage, schedule(id, next_ms=next_ms))
    found = await storage.schedules(QUEUE, due=10)
    assert [one.id for one in found.found] == ["f", "b", "e", "a"]
    assert (found.now_ms, found.next_ms) == (now, now)
    assert [one.id for one in (await storage.schedules(QUEUE, due=2)).found] == ["f", "b"]
    await clock.advance(1)
    assert [one.id for one in (await storage.schedules(QUEUE, due=10)).found] == [
        *("f", "b", "e", "a", "c")
    ]


async def test_the_next_time_is_told_with_every_answer(
    storage: Storage, clock: ManualClock
) -> None:
    now = clock.now()
    await put(storage, schedule("late", next_ms=now + HOUR))
    await put(storage, schedule("soon", next_ms=now + MINUTE))
    await put(storage, schedule("paused"))
    for asked in (
        await storage.schedules(QUEUE),
        await storage.schedules(QUEUE, ["late"]),
        await storage.schedules(QUEUE, []),
        await storage.schedules(QUEUE, due=3),
    ):
        assert (asked.now_ms, asked.next_ms) == (now, now + MINUTE)
    await clock.advance(2 * MINUTE)
    assert (await storage.schedules(QUEUE)).next_ms == clock.now()
    await put(storage, schedule("soon", 2, 0))
    assert (await storage.schedules(QUEUE)).next_ms == now + HOUR
    await storage.delete_schedule(QUEUE, "late")
    assert (await storage.schedules(QUEUE)).next_ms == 0


async def test_all_are_given_by_id(storage: Storage) -> None:
    for id in ("c", "a", "d", "b"):
        await put(storage, schedule(id, next_ms=ord(id)))
    assert [one.id for one in await all_of(storage)] == ["a", "b", "c", "d"]


async def test_those_with_some_ids_are_given(storage: Storage) -> None:
    for id in ("a", "b", "c"):
        await put(storage, schedule(id))
    found = (await storage.schedules(QUEUE, ["c", "unknown", "a"])).found
    assert sorted(one.id for one in found) == ["a", "c"]
    assert (await storage.schedules(QUEUE, [])).found == []


async def test_a_deleted_schedule_is_gone(make_storage: MakeStorage, clock: ManualClock) -> None:
    one, other = await make_storage(), await make_storage()
    await put(one, schedule(next_ms=clock.now() + SECOND), "a")
    assert await other.delete_schedule(QUEUE, "s")
    assert not await one.delete_schedule(QUEUE, "s")
    assert not await one.delete_schedule(QUEUE, "unknown")
    assert await one.schedules(QUEUE) == Schedules(clock.now(), 0, [])
    assert ids(await claim(one)) == ["a"]
    assert not await put(one, schedule(version=2))
    assert await put(one, schedule(token="another"))


async def test_schedules_belong_to_their_queue(storage: Storage) -> None:
    assert await put(storage, schedule(record=b"1", next_ms=5), "a", queue="one")
    assert await put(storage, schedule(record=b"2"), queue="other")
    assert (await storage.schedules("other")).next_ms == 0
    assert await claim(storage, queue="other") == []
    assert await storage.delete_schedule("other", "s")
    assert [one.record for one in await all_of(storage, "one")] == [b"1"]


async def test_all_names_live_side_by_side_as_schedules(storage: Storage) -> None:
    names = list(dict.fromkeys([*HOSTILE_NAMES.values(), *LOOKALIKES]))
    for n, name in enumerate(names):
        assert await put(storage, schedule(name, record=b"%d" % n, next_ms=n + 1, token=name))
    for n, name in enumerate(names):
        assert await put(storage, schedule(name, record=b"%d" % n, next_ms=n + 1, token=name))
        (one,) = (await storage.schedules(QUEUE, [name])).found
        assert (one.id, one.record, one.token) == (name, b"%d" % n, name)
    assert sorted(one.id for one in await all_of(storage)) == sorted(names)
    due = (await storage.schedules(QUEUE, due=500)).found
    assert [one.id for one in due] == names
    for name in names:
        assert await storage.delete_schedule(QUEUE, name)
    assert await all_of(storage) == []


async def test_a_large_record_comes_back_whole(storage: Storage) -> None:
    one = schedule(record=bytes(range(256)) * 1_000)
    await put(storage, one)
    assert await all_of(storage) == [one]


async def test_a_waiting_claim_is_woken_by_the_job_of_a_schedule(
    make_storage: MakeStorage,
) -> None:
    one, other = await make_storage(), await make_storage()
    async with waiting(one) as waiter:
        await put(other, schedule(), "a")
        assert ids(await waiter.claims()) == ["a"]
