"""Payloads and results: what arrives is what was sent; and for how long it is kept."""

from __future__ import annotations

import base64
import json
import pickle
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from jobqueue import Job, JobFailed, JobNotFound, JsonSerde, Queue, SerializationError
from tests.integration.asking import counted, info_of, until_counted
from tests.integration.programs import MakeQueue

PLAIN: list[Any] = [
    None,
    True,
    0,
    -1,
    2**53 + 1,
    1.5,
    -0.0,
    "",
    "text",
    "\0\n\N{PILE OF POO}",
    [],
    {},
    [1, [2, [3, []]]],
    {"a": {"b": [None, False]}},
]
RICH: list[Any] = [
    2**63 - 1,
    -(2**63),
    2**64,
    -(10**40),
    float("inf"),
    b"",
    b"\0\xff" * 1000,
    datetime(2024, 2, 29, 12, 30, 1, 999999, UTC),
    datetime(2024, 2, 29, 12, 30, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    datetime(2024, 2, 29, 12, 30, 1),
    date(1, 1, 1),
    time(23, 59, 59, 1),
    timedelta(days=-1, microseconds=5),
    UUID(int=5),
    Decimal("1.230"),
    {1, 2, 3},
    frozenset({"a", (1, 2)}),
    {"nested": [{"when": datetime(2024, 1, 1, tzinfo=UTC)}, {2**70}]},
    {1: "a", b"k": "b", None: "c"},
]


async def _echoes(queue: Queue, values: list[Any]) -> None:
    seen: list[Any] = []

    @queue.handler("echo")
    async def echo(job: Job) -> Any:
        seen.append(job.payload)
        return job.payload

    async with queue.worker():
        for value in values:
            receipt = await queue.enqueue("echo", value)
            result = await receipt.result(5)
            info = await info_of(queue, receipt.id)
            for arrived in (result, seen.pop(), info.payload, info.result):
                assert arrived == value
                assert type(arrived) is type(value)


async def test_msgpack_carries_what_python_programs_pass_around(queue: Queue) -> None:
    await _echoes(queue, PLAIN + RICH)


async def test_a_tuple_arrives_as_a_list(queue: Queue) -> None:
    queue.handler("echo")(lambda job: (job.payload, ()))
    async with queue.worker():
        assert await queue.enqueue_and_wait("echo", (1, (2,))) == [[1, [2]], []]


@pytest.mark.parametrize("serde", ["json", JsonSerde()], ids=["by name", "as an object"])
async def test_json(make_queue: MakeQueue, serde: Any) -> None:
    queue = make_queue(serde=serde)
    await _echoes(queue, PLAIN)
    for value in (b"bytes", float("nan"), {1, 2}, datetime.now(UTC)):
        with pytest.raises(SerializationError):
            await queue.enqueue("echo", value)


class _Signed:
    """A serde of a user: pickle, in base 64."""

    name = "pickle-64"

    def dumps(self, value: Any) -> bytes:
        return base64.b64encode(pickle.dumps(value))

    def loads(self, data: bytes) -> Any:
        return pickle.loads(base64.b64decode(data))


async def test_a_serde_of_the_user(make_queue: MakeQueue) -> None:
    queue, other = make_queue(serde=_Signed()), make_queue()
    await _echoes(queue, [complex(1, 2), ValueError, range(3), (1, 2)])
    queue.handler("bad")(lambda job: lambda: None)
    async with queue.worker():
        with pytest.raises(SerializationError):
            await queue.enqueue("echo", lambda: None)
        with pytest.raises(JobFailed) as caught:
            await queue.enqueue_and_wait("bad", wait=5)
        assert caught.value.error.reason == "unserialisable"
        await queue.enqueue_and_wait("echo", complex(1), id="one")
    # Who does not have it says so, and sees the rest.
    with pytest.raises(SerializationError, match="pickle-64"):
        await other.result("one")
    info = await info_of(other, "one")
    assert (info.state, info.payload, info.result) == ("completed", None, None)
    assert b"pickle-64" in info.raw


async def test_each_side_reads_what_the_other_writes(make_queue: MakeQueue) -> None:
    a, b = make_queue(serde="json"), make_queue(serde="msgpack")
    a.handler("echo")(lambda job: job.payload)
    async with a.worker():
        assert await b.enqueue_and_wait("echo", [1, "two"]) == [1, "two"]
        assert await b.enqueue_and_wait("echo", b"bytes", wait=5) == b"bytes"  # as it came
        assert await a.enqueue_and_wait("echo", {"k": None}) == {"k": None}
    json.dumps(await counted(a))


# -- how long --------------------------------------------------------------------------------------


async def test_the_time_to_live_of_queue_job_type_and_call(make_queue: MakeQueue) -> None:
    queue, other = make_queue(result_ttl=1000), make_queue(result_ttl=5)
    queue.handler("of the queue")(lambda job: None)
    queue.handler("of the handler", result_ttl=100)(lambda job: None)
    expected = {
        ("of the queue", None): 1000,
        ("of the handler", None): 100,
        ("of the handler", 50): 50,
        ("of the queue", timedelta(seconds=60)): 60,
    }
    async with queue.worker():
        for (name, ttl), seconds in expected.items():
            options: dict[str, Any] = {} if ttl is None else {"result_ttl": ttl}
            receipt = await other.enqueue(name, **options)  # a producer that knows no job types
            await receipt.result(5)
            info = await info_of(queue, receipt.id)
            assert info.expires_at is not None
            assert info.finished_at is not None
            assert (info.expires_at - info.finished_at).total_seconds() == seconds


async def test_set_result_ttl(queue: Queue) -> None:
    queue.handler("task")(lambda job: "result")
    assert await queue.set_result_ttl("nobody", 5) == "not_found"
    await queue.enqueue("task", id="later", delay=60)
    assert await queue.set_result_ttl("later", 5) == "not_finished"
    async with queue.worker():
        for id in ("shorter", "longer", "again"):
            await queue.enqueue_and_wait("task", id=id, result_ttl=0.5 if id == "longer" else 60)
    assert await queue.set_result_ttl("shorter", 0.2) == "updated"
    assert await queue.set_result_ttl("longer", timedelta(minutes=5)) == "updated"
    assert await queue.set_result_ttl("again", 0.2) == "updated"
    assert await queue.set_result_ttl("again", 60) == "updated"
    await until_counted(queue, completed=2, scheduled=1)
    with pytest.raises(JobNotFound):
        await queue.result("shorter")
    assert (await queue.enqueue("task", id="shorter")).status == "queued"
    info = await info_of(queue, "longer")
    assert info.expires_at is not None
    assert (info.expires_at - datetime.now(UTC)) > timedelta(minutes=4)
    assert await queue.result("longer") == "result"


async def test_set_result_ttl_of_what_failed_or_was_cancelled(queue: Queue) -> None:
    @queue.handler("task")
    async def task(job: Job) -> None:
        raise ValueError

    async with queue.worker():
        with pytest.raises(JobFailed):
            await queue.enqueue_and_wait("task", id="failed", max_attempts=1)
    await queue.enqueue("task", id="cancelled")
    await queue.cancel("cancelled")
    for id in ("failed", "cancelled"):
        assert await queue.set_result_ttl(id, 0.1) == "updated"
    await until_counted(queue)


async def test_what_is_known_about_a_job(queue: Queue) -> None:
    queue.handler("task")(lambda job: "result")
    before = datetime.now(UTC) - timedelta(seconds=1)
    await queue.enqueue("task", [1], id="one", max_attempts=5, delay=0.2)
    info = await info_of(queue, "one")
    assert info.due_at is not None
    assert info.due_at > info.enqueued_at
    assert (info.started_at, info.finished_at, info.expires_at, info.worker) == (None,) * 4
    async with queue.worker() as worker:
        await queue.result("one", wait=5)
        (worker_id,) = worker.worker_ids
    info = await info_of(queue, "one")
    assert info.started_at is not None
    assert info.finished_at is not None
    assert before < info.enqueued_at <= info.started_at <= info.finished_at
    assert (info.attempt, info.max_attempts, info.worker) == (1, 5, worker_id)
    assert (info.due_at, info.cancel_requested, info.error) == (None, False, None)


async def test_counts_are_exact_and_name_every_state(queue: Queue) -> None:
    assert await queue.counts() == {
        "scheduled": 0,
        "queued": 0,
        "running": 0,
        "retrying": 0,
        "completed": 0,
        "failed": 0,
        "cancelled": 0,
    }
    for n in range(10):
        await queue.enqueue("task", id=f"{n}", **({"delay": 60} if n < 3 else {}))
    await queue.cancel("0")
    await queue.cancel("9")
    assert await counted(queue) == {"scheduled": 2, "queued": 6, "cancelled": 2}
    assert all(type(number) is int for number in (await queue.counts()).values())
