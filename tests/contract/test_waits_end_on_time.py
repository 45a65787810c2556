"""A claim that waits for a due time is woken for it, though nothing happens on the server.

An idle Redis looks for waits that are over ten times a second, so that one ends up to 100 ms late:
the storage ends it from outside. That is seen on the server rather than by the clock.
"""

from __future__ import annotations

from typing import Any

import pytest

from jobqueue.storage.base import Storage
from tests.support.backends import RedisBackend
from tests.support.jobs import SECOND, claim, enqueue, ids, new_job

pytestmark = pytest.mark.storages("redis")


def unblocked(backend: RedisBackend) -> int:
    stats: Any = backend.admin.info("commandstats")
    return stats.get("cmdstat_client|unblock", {}).get("calls", 0)


async def test_a_wait_for_a_due_job_is_ended_from_outside(backend: RedisBackend) -> None:
    storage: Storage = backend.handle()
    async with storage:
        await enqueue(storage, new_job("a", delay_ms=300))
        before = unblocked(backend)
        assert ids(await claim(storage, block_ms=20 * SECOND)) == ["a"]
        assert unblocked(backend) > before
        await storage.leave("q", "w1")
