"""So many starts in a time: sliding windows and token buckets."""

from __future__ import annotations

import pytest

from jobqueue.flow import Flow, Limit, LimitKind, Rate, RateKind
from jobqueue.states import JobState
from jobqueue.storage.base import Storage
from tests.support.backends import MakeStorage
from tests.support.clock import ManualClock
from tests.support.flows import change, keyed, lift_limit, limit_info, set_limit
from tests.support.jobs import (
    HOUR,
    LEASE,
    MINUTE,
    QUEUE,
    SECOND,
    cancel,
    claim,
    claim_one,
    completed,
    enqueue,
    failed,
    ids,
    new_job,
    only,
    recover,
    released,
    retrying,
    settle,
)

TYPE, KEY = LimitKind.TYPE, LimitKind.KEY
every_scope = pytest.mark.parametrize("scope", LimitKind)
every_kind = pytest.mark.parametrize("kind", RateKind)


async def fill(storage: Storage, count: int = 20) -> None:
    await enqueue(storage, *keyed("k", *(f"{n}" for n in range(count))))


async def start(storage: Storage, count: int = 100, worker: str = "w1") -> list[str]:
    """Start what can be, and end it at once."""
    claims = await claim(storage, count, worker=worker)
    await settle(storage, completed(), *claims, worker=worker)
    return ids(claims)


# -- sliding -------------------------------------------------------------------------------------


@every_scope
async def test_no_more_than_so_many_start_in_a_window(
    storage: Storage, clock: ManualClock, scope: LimitKind
) -> None:
    await set_limit(storage, scope, rate=Rate(3, SECOND))
    await fill(storage)
    assert await start(storage) == ["0", "1", "2"]
    assert await start(storage) == []
    await clock.advance(SECOND)
    assert await start(storage) == []
    await clock.advance(1)
    assert await start(storage) == ["3", "4", "5"]


async def test_each_start_leaves_the_window_on_its_own(
    storage: Storage, clock: ManualClock
) -> None:
    await set_limit(storage, TYPE, rate=Rate(3, SECOND))
    await fill(storage)
    for _ in range(3):
        assert len(await start(storage, 1)) == 1
        await clock.advance(300)
    assert await start(storage) == []
    assert await storage.promote(QUEUE, 10) == 101
    await clock.advance(101)
    assert len(await start(storage)) == 1
    await clock.advance(300)
    assert len(await start(storage)) == 1
    await clock.advance(299)
    assert len(await start(storage)) == 0
    await clock.advance(1)
    assert len(await start(storage)) == 1


@pytest.mark.parametrize("per_ms", [1, 7, 999, 1_000, 1_500, 60_000, 86_400_000])
async def test_a_window_of_any_length_is_kept(
    storage: Storage, clock: ManualClock, per_ms: int
) -> None:
    await set_limit(storage, TYPE, rate=Rate(2, per_ms))
    await fill(storage)
    start_ms = clock.now()
    assert len(await start(storage)) == 2
    await clock.advance(per_ms - 1)
    assert await start(storage) == []
    grain = max(1, per_ms // 1000)
    counts_until = (start_ms // grain + 1) * grain + per_ms
    assert await storage.promote(QUEUE, 10) == counts_until - clock.now()
    await clock.advance(counts_until - clock.now() - 1)
    assert await start(storage) == []
    await clock.advance(1)
    assert len(await start(storage)) == 2


async def test_in_no_window_are_there_more(storage: Storage, clock: ManualClock) -> None:
    await set_limit(storage, TYPE, rate=Rate(5, SECOND))
    await fill(storage, 100)
    starts: list[int] = []
    for step in (0, 130, 470, 1, 399, 200, 601, 5, 5, 989, 1, 1, 1, 700, 300, 1, 2_000, 999, 1):
        await clock.advance(step)
        starts += [clock.now() for _ in await start(storage, 1 + step % 4)]
    assert len(starts) > 15
    for begin in starts:
        assert sum(begin <= at < begin + SECOND for at in starts) <= 5


@every_kind
@pytest.mark.parametrize("scope", [TYPE, KEY])
async def test_a_claim_that_lets_others_go_takes_each_job_once(
    storage: Storage, clock: ManualClock, scope: LimitKind, kind: RateKind
) -> None:
    burst = 1 if kind is RateKind.SLIDING else 2
    await set_limit(storage, scope, rate=Rate(2, 2 * SECOND, kind, burst))
    await fill(storage, 6)
    assert await start(storage) == ["0", "1"]
    assert await start(storage) == []
    await clock.advance(3 * SECOND)
    taken = await start(storage, 1)  # the next one may start too, and is in its line
    await clock.advance(3 * SECOND)
    claims = await claim(storage)
    assert (await limit_info(storage, scope)).running == len(claims) == 2
    assert await settle(storage, completed(), *claims) == [True, True]
    for _ in range(3):
        await clock.advance(3 * SECOND)
        taken += await start(storage)
    assert sorted([*taken, *ids(claims)]) == ["2", "3", "4", "5"]
    assert (await limit_info(storage, scope)).running == 0


async def test_two_workers_share_one_rate(make_storage: MakeStorage, clock: ManualClock) -> None:
    one, other = await make_storage(), await make_storage()
    await set_limit(one, TYPE, rate=Rate(4, SECOND))
    await fill(one)
    assert await start(one, 3) == ["0", "1", "2"]
    assert await start(other, worker="w2") == ["3"]
    assert await start(one) == []
    await clock.advance(SECOND + 1)
    assert len(await start(other, worker="w2")) == 4


# -- bucket --------------------------------------------------------------------------------------


@every_scope
async def test_a_bucket_gives_one_at_a_time(
    storage: Storage, clock: ManualClock, scope: LimitKind
) -> None:
    await set_limit(storage, scope, rate=Rate(4, SECOND, RateKind.BUCKET))
    await fill(storage)
    assert await start(storage) == ["0"]
    await clock.advance(249)
    assert await start(storage) == []
    await clock.advance(1)
    assert await start(storage) == ["1"]
    await clock.advance(10 * SECOND)
    assert await start(storage) == ["2"]


async def test_a_bucket_gives_its_burst_after_a_quiet_time(
    storage: Storage, clock: ManualClock
) -> None:
    await set_limit(storage, TYPE, rate=Rate(10, SECOND, RateKind.BUCKET, burst=5))
    await fill(storage, 40)
    assert len(await start(storage)) == 5
    assert await start(storage) == []
    await clock.advance(100)
    assert len(await start(storage)) == 1
    await clock.advance(200)
    assert len(await start(storage)) == 2
    await clock.advance(HOUR)
    assert len(await start(storage)) == 5
    assert await start(storage) == []


async def test_a_bucket_of_a_broken_interval_waits_for_the_next_millisecond(
    storage: Storage, clock: ManualClock
) -> None:
    await set_limit(storage, TYPE, rate=Rate(3, SECOND, RateKind.BUCKET))
    await fill(storage, 40)
    started: list[int] = []
    begin = clock.now()
    while clock.now() < begin + 3 * SECOND:
        started += [clock.now() - begin] * len(await start(storage))
        wait = await storage.promote(QUEUE, 10)
        assert wait is not None
        assert wait > 0
        await clock.advance(wait)
    assert started == [334 * n for n in range(9)]


async def test_a_bucket_faster_than_a_millisecond(storage: Storage, clock: ManualClock) -> None:
    await set_limit(storage, TYPE, rate=Rate(5_000, SECOND, RateKind.BUCKET))
    await fill(storage)
    for n in range(10):
        assert await start(storage) == [f"{n}"]
        assert await start(storage) == []
        await clock.advance(1)


# -- what counts ---------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("outcome", [failed(), retrying(HOUR), released()])
async def test_a_start_counts_whatever_becomes_of_the_job(
    storage: Storage, clock: ManualClock, kind: RateKind, outcome
) -> None:
    await set_limit(storage, TYPE, rate=Rate(1, MINUTE, kind))
    await fill(storage, 3)
    claimed = await claim_one(storage)
    await settle(storage, outcome, claimed)
    assert await claim(storage) == []


@every_kind
async def test_a_recovery_is_no_start(storage: Storage, clock: ManualClock, kind: RateKind) -> None:
    await set_limit(storage, TYPE, rate=Rate(1, MINUTE, kind))
    await fill(storage, 2)
    await claim_one(storage)
    await clock.advance(MINUTE + 60)
    (taken,) = await recover(storage)
    assert ids(await claim(storage)) == ["1"]
    await settle(storage, completed(), taken, worker="reaper")


@every_kind
async def test_a_repeated_claim_is_no_start(
    storage: Storage, clock: ManualClock, kind: RateKind
) -> None:
    rate = Rate(2, MINUTE, kind, burst=2) if kind is RateKind.BUCKET else Rate(2, MINUTE)
    await set_limit(storage, TYPE, rate=rate)
    await fill(storage, 3)
    first = await claim(storage, 1, token="t")
    assert await claim(storage, 1, token="t") == first
    assert await claim(storage, 1, token="t") == first
    assert ids(await claim(storage)) == ["1"]


@every_kind
async def test_what_another_limit_holds_back_uses_up_nothing(
    storage: Storage, clock: ManualClock, kind: RateKind
) -> None:
    rate = Rate(2, MINUTE, kind, burst=2) if kind is RateKind.BUCKET else Rate(2, MINUTE)
    await set_limit(storage, TYPE, rate=rate)
    await set_limit(storage, KEY, concurrency=1)
    await enqueue(storage, *keyed("k", "a", "b", "c"), *keyed("l", "d"), *keyed("m", "e"))
    assert ids(await claim(storage)) == ["a", "d"]
    await clock.advance(MINUTE + 60)
    assert ids(await claim(storage)) == ["e"]


async def test_what_the_queue_holds_back_uses_up_nothing(
    storage: Storage, clock: ManualClock
) -> None:
    await set_limit(storage, TYPE, rate=Rate(2, MINUTE))
    await set_limit(storage, LimitKind.QUEUE, concurrency=1)
    await fill(storage, 4)
    claimed = await claim_one(storage, lease_ms=HOUR)
    for _ in range(3):
        assert await claim(storage) == []
    await settle(storage, completed(), claimed)
    assert ids(await claim(storage)) == ["1"]


async def test_what_a_key_holds_back_uses_up_nothing_of_the_queue(
    storage: Storage, clock: ManualClock
) -> None:
    await set_limit(storage, LimitKind.QUEUE, rate=Rate(2, MINUTE))
    await set_limit(storage, KEY, concurrency=1)
    await enqueue(storage, *keyed("k", "a", "b", "c"), "d")
    assert ids(await claim(storage)) == ["a", "d"]


async def test_each_key_has_a_rate_of_its_own(storage: Storage, clock: ManualClock) -> None:
    await set_limit(storage, KEY, rate=Rate(1, MINUTE))
    await enqueue(storage, *keyed("k", "k1", "k2"), *keyed("l", "l1", "l2"))
    assert ids(await claim(storage)) == ["k1", "l1"]
    info = await limit_info(storage, KEY)
    assert (info.running, info.held_back) == (2, 2)
    await clock.advance(MINUTE + 60)
    assert sorted(ids(await claim(storage))) == ["k2", "l2"]


async def test_a_rate_and_a_number_hold_at_once(storage: Storage, clock: ManualClock) -> None:
    await set_limit(storage, TYPE, concurrency=2, rate=Rate(3, MINUTE))
    await fill(storage, 9)
    a, b = await claim(storage, lease_ms=HOUR)
    await settle(storage, completed(), a)
    (c,) = await claim(storage, lease_ms=HOUR)
    await settle(storage, completed(), b, c)
    assert await claim(storage) == []
    assert await storage.promote(QUEUE, 10) is not None
    await clock.advance(MINUTE + 60)
    assert len(await claim(storage)) == 2


async def test_nobody_waits_behind_a_rate_but_those_under_it(
    storage: Storage, clock: ManualClock
) -> None:
    await set_limit(storage, TYPE, rate=Rate(1, MINUTE))
    await enqueue(storage, "a", "b", new_job("o", name="other"), "c")
    assert ids(await claim(storage)) == ["a", "o"]


async def test_a_rate_belongs_to_its_queue(storage: Storage, clock: ManualClock) -> None:
    await set_limit(storage, TYPE, rate=Rate(1, MINUTE))
    await fill(storage, 2)
    await enqueue(storage, "a", "b", queue="other")
    assert len(await claim(storage)) == 1
    assert len(await claim(storage, queue="other")) == 2


# -- when the next may start ---------------------------------------------------------------------


@every_scope
@every_kind
async def test_promote_says_when_a_rate_allows_the_next(
    storage: Storage, clock: ManualClock, scope: LimitKind, kind: RateKind
) -> None:
    await set_limit(storage, scope, rate=Rate(1, SECOND, kind))
    await fill(storage, 2)
    await start(storage)
    assert await claim(storage) == []
    wait = await storage.promote(QUEUE, 10)
    assert wait == (1_001 if kind is RateKind.SLIDING else 1_000)
    await clock.advance(wait - 1)
    assert await storage.promote(QUEUE, 10) == 1
    assert await claim(storage) == []
    await clock.advance(1)
    assert len(await claim(storage)) == 1
    assert await storage.promote(QUEUE, 10) is None


@every_scope
async def test_promote_says_nothing_of_a_rate_for_which_nobody_waits(
    storage: Storage, clock: ManualClock, scope: LimitKind
) -> None:
    await set_limit(storage, scope, rate=Rate(1, SECOND))
    await fill(storage, 1)
    await start(storage)
    assert await storage.promote(QUEUE, 10) is None
    await enqueue(storage, new_job("later", delay_ms=HOUR))
    assert await storage.promote(QUEUE, 10) == HOUR


async def test_promote_says_the_first_of_all_moments(storage: Storage, clock: ManualClock) -> None:
    await set_limit(storage, TYPE, rate=Rate(1, MINUTE))
    await set_limit(storage, TYPE, "other", rate=Rate(1, SECOND))
    await fill(storage, 2)
    await enqueue(storage, *(new_job(f"o{n}", name="other") for n in range(2)))
    await enqueue(storage, new_job("later", delay_ms=30 * SECOND))
    assert len(await claim(storage)) == 2
    assert await claim(storage) == []
    assert await storage.promote(QUEUE, 10) == SECOND + 1
    await cancel(storage, "o1")
    assert await storage.promote(QUEUE, 10) == 30 * SECOND
    await cancel(storage, "later")
    wait = await storage.promote(QUEUE, 10)
    assert wait is not None
    assert MINUTE < wait <= MINUTE + 60


# -- rates that change ---------------------------------------------------------------------------


@every_scope
@every_kind
async def test_past_starts_do_not_count_for_a_new_rate(
    storage: Storage, clock: ManualClock, scope: LimitKind, kind: RateKind
) -> None:
    await fill(storage)
    assert len(await start(storage, 5)) == 5
    await set_limit(storage, scope, rate=Rate(1, MINUTE, kind))
    assert len(await start(storage)) == 1
    await set_limit(storage, scope, rate=Rate(2, MINUTE, kind, burst=2))
    assert len(await start(storage)) == 2
    assert await start(storage) == []
    await lift_limit(storage, scope)
    assert len(await start(storage)) == 12


@every_scope
@every_kind
async def test_the_same_rate_again_forgets_no_start(
    storage: Storage, clock: ManualClock, scope: LimitKind, kind: RateKind
) -> None:
    await set_limit(storage, scope, rate=Rate(1, MINUTE, kind))
    await fill(storage)
    assert len(await start(storage)) == 1
    await set_limit(storage, scope, rate=Rate(1, MINUTE, kind))
    assert await start(storage) == []


async def test_a_limit_without_a_rate_takes_the_place_of_one_with_a_rate(
    storage: Storage, clock: ManualClock
) -> None:
    await set_limit(storage, TYPE, concurrency=1, rate=Rate(1, MINUTE))
    assert (await limit_info(storage, TYPE)).limit == Limit(1, Rate(1, MINUTE))
    await fill(storage)
    assert len(await claim(storage, lease_ms=LEASE)) == 1
    await set_limit(storage, TYPE, concurrency=5)
    assert len(await claim(storage)) == 4


async def test_a_paused_queue_uses_up_nothing(storage: Storage, clock: ManualClock) -> None:
    await set_limit(storage, TYPE, rate=Rate(1, MINUTE))
    await fill(storage, 2)
    await change(storage, paused=1)
    assert await claim(storage) == []
    await change(storage, paused=0)
    assert len(await claim(storage)) == 1


async def test_one_that_a_rate_held_back_can_be_cancelled(
    storage: Storage, clock: ManualClock
) -> None:
    await set_limit(storage, TYPE, rate=Rate(1, MINUTE))
    await enqueue(storage, "a", new_job("b", flow=Flow()), "c")
    assert ids(await claim(storage, lease_ms=HOUR)) == ["a"]
    assert await claim(storage) == []
    await cancel(storage, "b")
    assert await storage.counts(QUEUE) == only(running=1, cancelled=1, queued=1)
    await clock.advance(MINUTE + 60)
    assert ids(await claim(storage)) == ["c"]
    assert (await storage.counts(QUEUE))[JobState.QUEUED] == 0
