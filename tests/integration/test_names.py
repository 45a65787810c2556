"""Ids, queue names, job names and worker names of any text: all work, and none escapes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from jobqueue import Job, JobCancelled, Queue, Worker
from tests.integration.asking import counted, info_of, until_state
from tests.integration.programs import MakeQueue
from tests.support.names import HOSTILE_NAMES, LOOKALIKES

# The contract suite has them all; these go the whole way.
_KINDS = (
    "colons",
    "hash tag",
    "glob",
    "slash",
    "dots",
    "space",
    "NUL inside",
    "newline",
    "single quote",
    "emoji",
    "200 bytes",
    "255 bytes of 3 each",
)


@pytest.mark.parametrize("name", [HOSTILE_NAMES[kind] for kind in _KINDS], ids=_KINDS)
async def test_a_name_works_wherever_a_name_may_be(
    make_queue: MakeQueue, name: str, tmp_path: Path
) -> None:
    queue = make_queue(name, worker_id=name, grace=0)
    other = make_queue(f"{name}x"[-60:])
    before = sorted(tmp_path.iterdir())
    seen: list[tuple[Any, ...]] = []

    @queue.handler(name)
    async def task(job: Job) -> str:
        seen.append((job.id, job.name, job.queue, job.payload))
        return job.id

    receipt = await queue.enqueue(name, {name: name}, id=name)
    assert (receipt.id, receipt.status) == (name, "queued")
    assert (await queue.enqueue(name, "again", id=name)).status == "duplicate"
    await queue.enqueue(name, id=f"{name} later"[-60:], delay=60)
    async with Worker(queue) as worker:
        assert worker.worker_ids == [name]
        assert await receipt.result(5) == name
        assert await queue.enqueue_and_wait(name, id=f"{name} called"[-60:]) is not None
    info = await info_of(queue, name)
    assert (info.id, info.name, info.queue, info.worker) == (name, name, name, name)
    assert (info.state, info.payload, info.result) == ("completed", {name: name}, name)
    assert seen[0] == (name, name, name, {name: name})
    assert await queue.cancel(f"{name} later"[-60:]) == "cancelled"
    with pytest.raises(JobCancelled):
        await queue.result(f"{name} later"[-60:])
    assert await counted(queue) == {"completed": 2, "cancelled": 1}
    assert await counted(other) == {}
    assert await other.get(name) is None
    new = {path.name for path in set(tmp_path.iterdir()) - set(before)}
    assert {each for each in new if not each.startswith("jobs.db")} == set()
    assert not any(tmp_path.parent.glob("jobs.db*"))


async def test_names_that_look_alike_are_different(make_queue: MakeQueue) -> None:
    queues = {name: make_queue(name) for name in LOOKALIKES}
    for name, queue in queues.items():
        await queue.enqueue("task", name, id="one")
    for name, queue in queues.items():
        assert (await info_of(queue, "one")).payload == name
        await queue.close()


async def test_ids_that_look_alike_are_different(queue: Queue) -> None:
    for name in LOOKALIKES:
        assert (await queue.enqueue(name, name, id=name)).status == "queued"
    for name in LOOKALIKES:
        info = await info_of(queue, name)
        assert (info.id, info.name, info.payload) == (name, name, name)
        queue.handler(name)(lambda job: job.payload)
    async with queue.worker():
        for name in LOOKALIKES:
            assert await queue.result(name, wait=5) == name


_BAD: dict[str, tuple[Any, type[Exception]]] = {
    "empty": ("", ValueError),
    "256 bytes": ("x" * 256, ValueError),
    "256 bytes in fewer characters": ("\u20ac" * 85 + "x", ValueError),
    "64 KiB": ("x" * 65_536, ValueError),
    "a lone surrogate": ("\ud800", ValueError),
    "bytes": (b"name", TypeError),
    "a number": (7, TypeError),
    "a list": (["a"], TypeError),
}


@pytest.mark.parametrize("kind", _BAD)
async def test_what_is_no_name_is_refused(make_queue: MakeQueue, kind: str) -> None:
    bad, error = _BAD[kind]
    queue = make_queue()
    with pytest.raises(error, match="queue"):
        make_queue(bad)
    with pytest.raises(error, match="worker_id"):
        make_queue(worker_id=bad)
    with pytest.raises(error, match="id"):
        await queue.enqueue("task", id=bad)
    with pytest.raises(error, match="name"):
        await queue.enqueue(bad)
    for ask in (queue.get, queue.cancel, queue.result):
        with pytest.raises(error, match="id"):
            await ask(bad)
    with pytest.raises(error, match="id"):
        await queue.set_result_ttl(bad, 5)
    with pytest.raises(error):
        queue.handler(bad)(lambda job: None)
    assert await counted(queue) == {}


async def test_names_of_nobody_are_refused(make_queue: MakeQueue) -> None:
    queue = make_queue()
    for bad in (None, ...):
        with pytest.raises(TypeError):
            await queue.enqueue(bad)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            await queue.get(bad)  # type: ignore[arg-type]


async def test_a_hostile_worker_is_told_to_stop_its_job(make_queue: MakeQueue) -> None:
    name = "w:{*}\0\n/../\U0001f600"
    queue = make_queue("q:{x}", worker_id=name)

    @queue.handler("task")
    async def task(job: Job) -> None:
        await asyncio.sleep(30)

    async with queue.worker():
        await queue.enqueue("task", id=name)
        info = await until_state(queue, name, "running")
        assert info.worker == name
        assert await queue.cancel(name) == "running"
        await until_state(queue, name, "cancelled")
