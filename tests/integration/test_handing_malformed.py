"""What other programs write where offers and jobs that are handed over stand: no job is lost."""

from __future__ import annotations

from typing import Any

import pytest

from jobqueue.packing import pack_raw
from jobqueue.states import JobState
from jobqueue.storage.base import Storage
from tests.integration.idle import COUNTS, HANDED, Workers, field
from tests.support.backends import RedisBackend
from tests.support.jobs import QUEUE, WORKER, claim_one, completed, enqueue, ids, settle
from tests.support.offers import settle_offering

pytestmark = pytest.mark.storages("redis")

GARBAGE: list[bytes] = [
    b"",
    b" ",
    b"w1",
    b"\xff\x00\x93",
    b"offer\n",
    b"{fence} {fence} {fence}",
    b"99999999999999 30000 {fence}",
    b"99999999999999 30000 w1",
    b"99999999999999 {fence} w1",
    b"30000 {fence} w1",
    b"99999999999999  {fence} w1",
    b"99999999999999 30000  w1",
    b" 99999999999999 30000 {fence} w1",
    b"-1 30000 {fence} w1",
    b"99999999999999 -1 {fence} w1",
    b"99999999999999 3e4 {fence} w1",
    b"99999999999999 30000 {fence}0 w1",
    b"99999999999999 30000 {fence} ",
    b"99999999999999 30000 {fence} \xff\x00",
    b"99999999999999\x0030000\x00{fence}\x00w1",
    b"1 30000 {fence} w1",
    b"x" * 100_000,
]


@pytest.mark.parametrize("value", GARBAGE, ids=lambda value: repr(value[:40]))
async def test_an_offer_that_is_none_is_passed_over(
    storage: Storage, backend: RedisBackend, workers: Workers, value: bytes
) -> None:
    await workers.offer()
    offer = value.replace(b"{fence}", field(backend, "fence"))
    backend.admin.hset(COUNTS, "offer", offer)
    assert ids(await workers.let_wait("a")) == ["a"]
    for end in (storage.withdraw, storage.leave):
        backend.admin.hset(COUNTS, "offer", offer)
        assert await end(QUEUE, WORKER) is None
    await workers.offer()
    await workers.hand("b")


@pytest.mark.parametrize("place", [0, 1])
async def test_numbers_beyond_all_measure_lose_no_job(
    storage: Storage, backend: RedisBackend, workers: Workers, place: int
) -> None:
    await workers.offer()
    parts = [b"99999999999999", b"30000", field(backend, "fence"), b"w1"]
    parts[place] = b"9" * 400
    backend.admin.hset(COUNTS, "offer", b" ".join(parts))
    got = await workers.hand("a")
    assert await settle(storage, completed(), got) == [True]


@pytest.mark.parametrize("value", [b"", b"x", b"7", b"7 ", b"x a", b"\xff\x00", b"-1 a", b"1 a b"])
async def test_what_was_never_handed_over_is_not_told(
    storage: Storage, backend: RedisBackend, workers: Workers, value: bytes
) -> None:
    await workers.offer()
    backend.admin.hset(HANDED, WORKER, value)
    assert await storage.withdraw(QUEUE, WORKER) is None


async def test_an_offer_without_a_fence_is_none(
    storage: Storage, backend: RedisBackend, workers: Workers
) -> None:
    await workers.listen()
    await enqueue(storage, "x")
    ran = await claim_one(storage)
    backend.admin.hdel(COUNTS, "fence")  # as when the server has forgotten
    assert await settle_offering(storage, ran) == [True]
    assert await storage.results(QUEUE, ["x"]) == [(JobState.COMPLETED, b"result")]
    assert ids(await workers.let_wait("a")) == ["a"]


MESSAGES: dict[str, Any] = {
    "nothing": [],
    "number": 7,
    "nil": None,
    "text": b"text",
    "map": {b"id": b"a"},
    "too few": [b"a", b"n", b"s", 7, 1, 0],
    "too many": [b"a", b"n", b"s", 7, 1, 0, 0, 0],
    "nested": [[b"a", b"n", b"s", 7, 1, 0, 0]],
    "id is a number": [1, b"n", b"s", 7, 1, 0, 0],
    "id is nil": [None, b"n", b"s", 7, 1, 0, 0],
    "id is no text": [b"\xff", b"n", b"s", 7, 1, 0, 0],
    "id is a list": [[b"a"], b"n", b"s", 7, 1, 0, 0],
    "name is a number": [b"a", 1, b"s", 7, 1, 0, 0],
    "name is no text": [b"a", b"\xff", b"s", 7, 1, 0, 0],
    "spec is a number": [b"a", b"n", 1, 7, 1, 0, 0],
    "spec is nil": [b"a", b"n", None, 7, 1, 0, 0],
    "fence is text": [b"a", b"n", b"s", b"7", 1, 0, 0],
    "fence is negative": [b"a", b"n", b"s", -7, 1, 0, 0],
    "fence is 0": [b"a", b"n", b"s", 0, 1, 0, 0],
    "fence is true": [b"a", b"n", b"s", True, 1, 0, 0],
    "fence is a fraction": [b"a", b"n", b"s", 7.5, 1, 0, 0],
    "attempt is 0": [b"a", b"n", b"s", 7, 0, 0, 0],
    "attempt is text": [b"a", b"n", b"s", 7, b"1", 0, 0],
    "time is negative": [b"a", b"n", b"s", 7, 1, -1, 0],
    "time is beyond all": [b"a", b"n", b"s", 7, 1, 2**63, 0],
    "time is nil": [b"a", b"n", b"s", 7, 1, None, 0],
    "ttl is negative": [b"a", b"n", b"s", 7, 1, 0, -1],
    "ttl is text": [b"a", b"n", b"s", 7, 1, 0, b"0"],
}


async def test_what_nobody_of_ours_has_sent_is_no_job(
    backend: RedisBackend, workers: Workers
) -> None:
    inbox = await workers.offer()
    raw = {"empty": b"", "cut off": b"\x97\xa1", "no msgpack": b"\xc1", "words": b"PING\r\n"}
    packed = {name: pack_raw(message) for name, message in MESSAGES.items()}
    for name, message in (raw | packed).items():
        gaps = inbox.gaps
        assert backend.admin.spublish(f"{HANDED}:{WORKER}", message) == 1
        assert await inbox.all() == [], name
        assert inbox.gaps == gaps + 1, f"{name}: a worker that may have missed a job looks for it"
    await workers.hand("a")
