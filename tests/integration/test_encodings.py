"""How the server keeps what it holds most of: jobs small, counts quick to find."""

from __future__ import annotations

import pytest

from jobqueue.flow import LimitKind
from tests.support.backends import MakeStorage, RedisBackend
from tests.support.flows import keyed, lift_limit, set_limit
from tests.support.jobs import QUEUE, claim, completed, enqueue, new_job, settle


@pytest.mark.storages("redis")
@pytest.mark.parametrize("size", [1, 100, 256], ids=str)
async def test_a_job_is_kept_in_one_piece_of_memory(
    size: int, backend: RedisBackend, make_storage: MakeStorage
) -> None:
    storage = await make_storage()
    await enqueue(storage, new_job("a", spec=b"x" * size))
    await settle(storage, completed(b"y" * size), *await claim(storage))
    assert backend.admin.object("encoding", f"jq:{{{QUEUE}}}:job:a") == b"listpack"


@pytest.mark.storages("redis")
async def test_what_runs_under_limits_is_counted_in_a_table(
    backend: RedisBackend, make_storage: MakeStorage
) -> None:
    """Else each count of a lane is a search among up to 512 of them."""
    storage, busy = await make_storage(), f"jq:{{{QUEUE}}}:busy"
    await set_limit(storage, LimitKind.KEY, concurrency=1)
    await enqueue(storage, *keyed("one", "a"), *keyed("two", "b"))
    claims = await claim(storage, 2)
    assert backend.admin.object("encoding", busy) == b"hashtable"
    assert backend.admin.hlen(busy) == 3
    await settle(storage, completed(), *claims)
    assert backend.admin.hlen(busy) == 1
    await lift_limit(storage, LimitKind.KEY)
    await storage.promote(QUEUE, 100)
    assert not backend.admin.exists(busy), "nothing of time and flow is in use any more"
