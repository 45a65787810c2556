"""What a worker says of itself, and how it waits for a storage that is away at its start."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis import Redis

from jobqueue import Health, HealthState, Job, Queue, StorageUnavailable, Worker
from tests.integration.programs import MakeQueue
from tests.integration.test_cli import project_in
from tests.support.servers import Server
from tests.support.wait import wait_until

APP = """
from jobqueue import Queue

queue = Queue("q", "{url}", grace=5)

@queue.job()
async def add(a: int, b: int) -> int:
    return a + b
"""


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of this test alone, that may be killed and started."""
    server = Server()
    try:
        server.start()
        yield server
    finally:
        server.stop()


def health_of(worker: Worker) -> Health:
    (health,) = worker.health()
    return health


async def test_a_worker_says_what_it_does(make_queue: MakeQueue) -> None:
    queue = make_queue()
    go = asyncio.Event()

    @queue.handler("task")
    async def task(job: Job) -> None:
        await go.wait()

    worker = queue.worker()
    assert health_of(worker) == Health(queue="q", state=HealthState.STOPPED)
    async with worker:
        assert health_of(worker).is_claiming
        await queue.enqueue("task")
        await wait_until(lambda: health_of(worker).active_count == 1)
        assert str(health_of(worker)) == "queue 'q': claiming, 1 running"
        stopping = asyncio.create_task(worker.stop())
        await wait_until(lambda: health_of(worker).state is HealthState.STOPPING)
        assert not health_of(worker).is_claiming
        go.set()
        await stopping
    assert health_of(worker).state == "stopped"


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
async def test_a_worker_says_since_when_its_storage_is_away(server: Server, busy: bool) -> None:
    queue = Queue("q", server.url, concurrency=1, lease=1)
    go = asyncio.Event()

    @queue.handler("task")
    async def task(job: Job) -> None:
        await go.wait()

    async with queue.worker() as worker:
        if busy:  # and so with no claim and no outcome on its way
            await queue.enqueue("task")
            await wait_until(lambda: health_of(worker).active_count == 1)
        before = datetime.now(UTC)
        server.kill()
        await wait_until(lambda: health_of(worker).state == "storage_unavailable", 20)
        since = health_of(worker).unavailable_since
        assert since is not None
        assert before <= since <= datetime.now(UTC)
        assert f"storage unavailable since {since:%Y-%m-%dT%H:%M:%S}" in str(health_of(worker))
        server.start()
        await wait_until(lambda: health_of(worker).is_claiming, 20)
        assert health_of(worker).unavailable_since is None
        go.set()


async def test_a_worker_whose_server_is_full_runs_what_there_is(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Such a server refuses a wait as well; that is no outage."""
    queue = Queue("q", server.url)
    queue.handler("task")(lambda job: "done")
    async with queue.worker() as worker:
        await queue.enqueue("task", id="a", delay=1)
        with Redis.from_url(server.url) as admin:
            admin.config_set("maxmemory", 1)
        with pytest.raises(StorageUnavailable, match="memory"):
            await queue.enqueue("task")
        for _ in range(30):
            assert health_of(worker).is_claiming
            await asyncio.sleep(0.02)
        assert await queue.result("a", wait=10) == "done"
    assert "cannot claim" not in caplog.text


async def test_a_worker_on_two_storages_tells_them_apart(server: Server) -> None:
    here, there = Queue("here", "memory://"), Queue("there", server.url)
    async with Worker(here, there) as worker:
        server.kill()
        await wait_until(lambda: not worker.health()[1].is_claiming, 20)
        assert [str(each.state) for each in worker.health()] == ["claiming", "storage_unavailable"]
        server.start()


async def test_a_run_waits_for_a_storage_that_is_away(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    queue = Queue("q", server.url)

    @queue.handler("task")
    async def task(job: Job) -> str:
        return "done"

    server.kill()
    with pytest.raises(StorageUnavailable):  # who enters a block wants to be inside
        await queue.worker().start()
    worker = queue.worker()
    running = asyncio.create_task(worker.run())
    await wait_until(lambda: health_of(worker).unavailable_since)
    server.start()
    await wait_until(lambda: health_of(worker).is_claiming, 20)
    assert await queue.enqueue_and_wait("task") == "done"
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await queue.close()
    assert caplog.text.count("cannot start yet, trying again") == 1
    assert "started after" in caplog.text
    assert health_of(worker).state == "stopped"


async def test_a_run_can_be_cancelled_while_it_waits(server: Server) -> None:
    queue = Queue("q", server.url)
    server.kill()
    worker = queue.worker()
    running = asyncio.create_task(worker.run())
    await wait_until(lambda: health_of(worker).unavailable_since)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert health_of(worker).state == "stopped"


async def test_a_run_does_not_wait_for_what_cannot_work(server: Server) -> None:
    queue = Queue("q", server.url.replace("redis://", "redis://nobody:wrong@"))
    async with asyncio.timeout(20):
        with pytest.raises(Exception, match="refuses this user") as caught:
            await queue.run()
    assert caught.value.code == "access_denied"


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_the_command_waits_for_a_storage_that_is_away(
    server: Server, tmp_path: Path, processes: str
) -> None:
    server.kill()
    with project_in(tmp_path) as project:
        project.write("app.py", APP.format(url=server.url))
        worker = project.start("worker", "app:queue", "--processes", processes)
        await worker.says("cannot start yet, trying again")
        server.start()
        await worker.says("press Ctrl+C to stop")
        async with Queue("q", server.url) as queue:
            assert await queue.enqueue_and_wait("add", {"a": 1, "b": 2}) == 3
        worker.signal(signal.SIGTERM)
        assert (await worker.done()).code == 0


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_the_command_stops_while_it_waits(
    server: Server, tmp_path: Path, processes: str
) -> None:
    server.kill()
    with project_in(tmp_path) as project:
        project.write("app.py", APP.format(url=server.url))
        worker = project.start("worker", "app:queue", "--processes", processes)
        await worker.says("cannot start yet, trying again")
        worker.signal(signal.SIGTERM)
        done = await worker.done()
        assert done.code == 0, done.err
        assert "Traceback" not in done.err
