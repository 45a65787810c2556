"""A server that answers, but refuses: a typed error for who asks, patience for those who work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
import redis

from jobqueue import Job, JobNotFound, Queue, StorageUnavailable
from tests.chaos.proxy import Proxy, forward, refuse_scripts
from tests.support.backends import RedisBackend
from tests.support.servers import Server, find_servers
from tests.support.wait import wait_until

LONG = 30.0

REFUSALS = {
    "LOADING": "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN": "MASTERDOWN Link with MASTER is down.",
    "READONLY": "READONLY You can't write against a read only replica.",
    "BUSY": "BUSY Redis is busy running a script. You can only call SCRIPT KILL.",
    "MISCONF": "MISCONF Redis is configured to save RDB snapshots, but it's unable to persist.",
    "NOREPLICAS": "NOREPLICAS Not enough good replicas to write.",
    "OOM": "OOM command not allowed when used memory > 'maxmemory'.",
    "TRYAGAIN": "TRYAGAIN Multiple keys request during rehashing of slot",
    "CLUSTERDOWN": "CLUSTERDOWN The cluster is down",
    "unknown": "SOMETHING that nobody has heard of",
}


class _Work:
    """A queue through a proxy, and a job that runs until it is let go.

    Attributes:
        runs: The payloads that the handler was called with.
    """

    def __init__(self, url: str) -> None:
        self.queue = Queue("q", url, lease=30)
        self.runs: list[str] = []
        self.started, self.go_on = asyncio.Event(), asyncio.Event()

        @self.queue.handler("task")
        async def task(job: Job) -> str:
            self.runs.append(job.payload)
            self.started.set()
            await self.go_on.wait()
            return f"did {job.payload}"

    async def enqueue(self, id: str) -> None:
        """Enqueue until it is accepted."""

        async def accepted() -> bool:
            try:
                await self.queue.enqueue("task", id, id=id)
            except StorageUnavailable:
                return False
            return True

        await wait_until(accepted, LONG, f"{id} is accepted")

    async def result(self, id: str) -> str:
        return await asyncio.wait_for(self.queue.result(id), LONG)


@asynccontextmanager
async def working(proxy: Proxy) -> AsyncIterator[_Work]:
    """A worker that has begun a job."""
    work = _Work(proxy.url)
    async with work.queue, work.queue.worker():
        await work.enqueue("one")
        await work.started.wait()
        yield work
        work.go_on.set()


@pytest.mark.storages("redis")
@pytest.mark.parametrize("refusal", REFUSALS)
async def test_what_is_refused_for_a_while_is_done_when_that_is_over(
    backend: RedisBackend, refusal: str
) -> None:
    async with Proxy(backend.url) as proxy, working(proxy) as work:
        proxy.rule = refuse_scripts(REFUSALS[refusal])
        # What the server says, less the code that redis-py takes off where it knows it.
        said = REFUSALS[refusal].split(" ", 1)[1]
        with pytest.raises(StorageUnavailable) as caught:
            await work.queue.enqueue("task", "two", id="two")
        assert said in str(caught.value)
        proxy.calls.clear()
        work.go_on.set()
        await wait_until(lambda: {"finish", "claim"} <= set(proxy.calls), LONG, "they are refused")
        proxy.rule = forward
        assert await work.result("one") == "did one"
        await work.enqueue("two")
        assert await work.result("two") == "did two"
        assert work.runs == ["one", "two"]


@contextmanager
def _servers(count: int) -> Iterator[list[Server]]:
    servers = [Server(binary) for binary in find_servers()[:1] * count]
    try:
        for server in servers:
            server.start()
        yield servers
    finally:
        for server in servers:
            server.stop()


async def test_a_server_that_is_not_the_primary_any_more_is_left() -> None:
    # As behind a name or an address that leads to another server by now: who stays connected to
    # the old one is refused for ever.
    with _servers(2) as (old, new), redis.Redis.from_url(old.url) as admin:
        async with Proxy(old.url) as proxy, working(proxy) as work:
            admin.replicaof("127.0.0.1", "1")
            proxy.lead_to(new.url)
            await work.enqueue("two")
            work.go_on.set()
            assert await work.result("two") == "did two"


async def test_nor_does_one_who_only_reads_stay_with_it() -> None:
    with _servers(2) as (old, new), redis.Redis.from_url(old.url) as admin:
        async with Proxy(old.url) as proxy, Queue("q", proxy.url) as queue:
            await queue.enqueue("task", id="one")
            admin.config_set("replica-serve-stale-data", "no")
            admin.replicaof("127.0.0.1", "1")
            proxy.lead_to(new.url)

            async def counts() -> dict[str, int]:
                try:
                    return await queue.counts()
                except StorageUnavailable:
                    return {}

            await wait_until(counts, LONG, "the new server is asked")
            with pytest.raises(JobNotFound):
                await queue.result("one")
