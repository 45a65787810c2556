"""A server that is emptied under everybody's feet: nobody hangs, and new jobs run."""

from __future__ import annotations

import asyncio

import pytest

from jobqueue import Job, JobNotFound
from tests.integration.programs import MakeQueue
from tests.support.backends import RedisBackend
from tests.support.wait import wait_until

pytestmark = pytest.mark.storages("redis")


async def test_who_waits_is_told_and_new_jobs_run(
    backend: RedisBackend, make_queue: MakeQueue
) -> None:
    queue = make_queue(concurrency=1, lease=0.5)
    stopped: list[str] = []

    @queue.handler("task")
    async def task(job: Job) -> str:
        if job.payload == "old":
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                stopped.append(job.id)
                raise
        return "done"

    async with queue, queue.worker() as worker:
        running = asyncio.create_task(queue.enqueue_and_wait("task", "old", id="running"))
        await wait_until(lambda: worker.active_count)
        waiting = asyncio.create_task(queue.enqueue_and_wait("task", "old", id="waiting"))
        delayed = await queue.enqueue("task", "old", id="delayed", delay=60)
        await wait_until(lambda: backend.admin.exists("jq:{q}:job:waiting"))
        backend.admin.flushall()
        for task_of_one in (running, waiting):
            async with asyncio.timeout(10):
                with pytest.raises(JobNotFound):
                    await task_of_one
        assert await delayed.info() is None
        # The lease is lost, as the next heartbeat says, and its slot is free.
        assert await queue.enqueue_and_wait("task", "new", wait=10) == "done"
        assert stopped == ["running"]
        counts = await queue.counts()
    assert {state: number for state, number in counts.items() if number} == {"completed": 1}
