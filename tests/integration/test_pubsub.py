"""The connection that hears messages is lost: everybody is told so, and soon hears again."""

from __future__ import annotations

import asyncio

import pytest

from jobqueue import StorageError
from jobqueue.storage.types import CONTROL, replies
from tests.support.backends import MakeStorage, RedisBackend
from tests.support.jobs import QUEUE, completed, enqueue, new_job, run_one
from tests.support.listening import listening
from tests.support.wait import wait_until

pytestmark = pytest.mark.storages("redis")


async def test_each_loss_is_told_soon_however_many_there_were(
    backend: RedisBackend, make_storage: MakeStorage
) -> None:
    storage = await make_storage()
    async with listening(storage, replies("me")) as one, listening(storage, CONTROL) as other:
        for times in range(1, 9):
            assert backend.admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub") == 1
            await wait_until(lambda times=times: one.gaps == times, 1, "told, and connected again")
            await wait_until(lambda times=times: other.gaps == times, 1, "the other one too")
            await enqueue(storage, new_job(f"{times}", reply_to="me"))
            await run_one(storage, completed())
            assert (await one.wait_for(times))[-1].id == f"{times}"


async def test_a_close_ends_the_wait_for_a_confirmation(
    backend: RedisBackend, make_storage: MakeStorage
) -> None:
    storage = await make_storage()
    backend.admin.execute_command("CLIENT", "PAUSE", 300)
    subscribing = asyncio.create_task(storage.listen(QUEUE, replies("me"), lambda _: None))
    await asyncio.sleep(0.05)
    await storage.close()
    async with asyncio.timeout(2):
        with pytest.raises(StorageError, match="was closed"):
            await subscribing
