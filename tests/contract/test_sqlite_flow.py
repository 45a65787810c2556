"""What time and flow cost on SQLite: no entry that stays, no write that changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from jobqueue.flow import LimitKind, Rate
from jobqueue.storage.base import Storage
from jobqueue.storage.sqlite import flowing, leasing
from tests.support.backends import SQLiteBackend
from tests.support.clock import ManualClock
from tests.support.flows import change, expiring, grouped, keyed, set_limit, unique
from tests.support.jobs import (
    MINUTE,
    QUEUE,
    SECOND,
    cancel,
    claim,
    completed,
    enqueue,
    ids,
    settle,
)


def _entries(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as file:
        tables = ("lanes", "held", "lines", "uniques")
        return {name: file.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}


async def test_jobs_that_are_forgotten_leave_no_entry(tmp_path: Path) -> None:
    place, clock = SQLiteBackend(tmp_path), ManualClock()
    async with place.handle(clock.now) as storage:
        await set_limit(storage, LimitKind.KEY, rate=Rate(1, SECOND))
        jobs = [*keyed("k", "k1", "k2", "k3"), *grouped("g", "g1", "g2"), unique("u")]
        await enqueue(storage, *jobs)
        assert _entries(place.path) == {"lanes": 0, "held": 0, "lines": 2, "uniques": 1}
        claims = await claim(storage)
        assert sorted(ids(claims)) == ["g1", "g2", "k1", "u"]
        await settle(storage, completed(ttl_ms=SECOND), *claims)
        await cancel(storage, "k2", "k3", ttl_ms=SECOND)
        assert _entries(place.path) == {"lanes": 1, "held": 0, "lines": 0, "uniques": 1}
        await clock.advance(MINUTE)
        assert await claim(storage) == []
        await storage.prune(QUEUE, 100)
        assert _entries(place.path) == {"lanes": 0, "held": 0, "lines": 0, "uniques": 0}


async def _paused(storage: Storage) -> None:
    await enqueue(storage, "a")
    await change(storage, paused=1)


async def _full(storage: Storage) -> None:
    await set_limit(storage, LimitKind.QUEUE, concurrency=1)
    await enqueue(storage, "a", "b")
    assert ids(await claim(storage)) == ["a"]


async def _too_fast(storage: Storage) -> None:
    await set_limit(storage, LimitKind.QUEUE, rate=Rate(1, MINUTE))
    await _full(storage)


async def _held_back(storage: Storage) -> None:
    await set_limit(storage, LimitKind.TYPE, rate=Rate(1, MINUTE))
    await enqueue(storage, "a", "b")
    assert ids(await claim(storage)) == ["a"]


@pytest.mark.parametrize("state", [_paused, _full, _too_fast, _held_back])
async def test_a_claim_that_must_wait_does_not_write_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: Callable[[Storage], Awaitable[None]]
) -> None:
    async with SQLiteBackend(tmp_path).handle() as storage:
        await state(storage)
        written: list[str] = []
        claim_and_write = leasing.claim

        def counted(tx, name, request):
            written.append(name)
            return claim_and_write(tx, name, request)

        monkeypatch.setattr(leasing, "claim", counted)
        assert await claim(storage, block_ms=100) == []
        # Its sign of life.
        assert len(written) <= 1


async def test_what_has_expired_never_starts_however_much_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flowing, "_MOST_ROUNDS", 0)
    place, clock = SQLiteBackend(tmp_path), ManualClock()
    async with place.handle(clock.now) as storage:
        await enqueue(storage, expiring("a", SECOND), expiring("b", SECOND), "c")
        await clock.advance(SECOND)
        assert ids(await claim(storage)) == ["c"]
