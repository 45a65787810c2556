"""The server forgets its scripts: nobody who uses them notices."""

from __future__ import annotations

from typing import Any

import pytest

from jobqueue.storage.redis.links import Link
from tests.support.backends import MakeStorage, RedisBackend
from tests.support.jobs import claim_one, completed, enqueue, settle

pytestmark = pytest.mark.storages("redis")


async def test_a_script_is_forgotten_between_its_loading_and_its_run(
    backend: RedisBackend, make_storage: MakeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What was sent in one write may be read in pieces, when it is long, and others be served in
    # between.
    execute = Link.execute
    forgotten = 0

    async def execute_and_forget(self: Link, data: bytes, count: int, seconds: float) -> list[Any]:
        nonlocal forgotten
        is_loaded = data.startswith(b"*3\r\n$6\r\nSCRIPT")
        if not is_loaded or forgotten % 3 == 2:
            forgotten += is_loaded
            return await execute(self, data, count, seconds)
        command = data.rindex(b"*", 0, data.rindex(b"$7\r\nEVALSHA"))
        answers = await execute(self, data[:command], 1, seconds)
        backend.admin.script_flush()
        forgotten += 1
        return answers + await execute(self, data[command:], 1, seconds)

    monkeypatch.setattr(Link, "execute", execute_and_forget)
    storage = await make_storage()
    backend.admin.script_flush()
    await enqueue(storage, "one")
    claim = await claim_one(storage)
    assert await settle(storage, completed(), claim) == [True]
    assert forgotten == 12  # three times for each of: access, enqueue, claim, finish
