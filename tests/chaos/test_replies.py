"""Every script with its reply dropped, once to three times: as if it had run once."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import pytest

from jobqueue import Job, Queue
from jobqueue.errors import StorageUnavailable
from jobqueue.flow import Limit, LimitKind, Rate, StoredSchedule
from jobqueue.states import RescheduleResult
from jobqueue.storage.redis import RedisStorage
from jobqueue.storage.redis.keys import QueueKeys
from jobqueue.storage.redis.scripts import load, scripts_folder
from jobqueue.storage.types import CONTROL, Claim, ClaimRequest, NewJob, Offer, Settlement
from tests.chaos.proxy import Call, Delayed, Fate, FirstCalls, Proxy, drop_replies, forward
from tests.support.backends import RedisBackend
from tests.support.clock import START_MS, ManualClock
from tests.support.flows import (
    alone,
    change,
    expiring,
    grouped,
    high,
    keyed,
    low,
    replacing,
    scope_of,
    set_limit,
    unique,
)
from tests.support.jobs import (
    HOUR,
    LEASE,
    QUEUE,
    SECOND,
    WORKER,
    cancel,
    cancelled,
    claim,
    completed,
    enqueue,
    failed,
    held,
    new_job,
    released,
    requeued,
    result,
    retrying,
    settle,
    snoozed,
)
from tests.support.listening import listening as hearing
from tests.support.wait import wait_until

pytestmark = pytest.mark.storages("redis")

LARGE: Final = b"x" * 100_000
SAME: Final = object()
OFFER: Final = Offer(HOUR, LEASE)


@dataclass
class Stage:
    """What a case works with.

    Attributes:
        storage: Through the proxy, where there is one.
        direct: Without.
        clock: Of both.
        claims: What the preparation claimed.
    """

    storage: RedisStorage
    direct: RedisStorage
    clock: ManualClock
    claims: list[Claim]


Part = Callable[[Stage], Awaitable[Any]]


@dataclass(frozen=True)
class Case:
    """A call of one script.

    Attributes:
        script: Its name.
        act: Makes the call; gives the answer.
        prepare: What is done before, directly.
        drop: Whose reply is dropped, if not the script's.
        again: What a repeat may answer instead, as the port says of that verb.
    """

    script: str
    act: Part
    prepare: Part | None = None
    drop: str = ""
    again: Any = SAME


# -- preparations ----------------------------------------------------------------------------------


async def some_jobs(stage: Stage) -> None:
    await enqueue(stage.direct, *(new_job(id, request=id, reply_to="somebody") for id in "abc"))


async def some_claims(stage: Stage) -> None:
    await some_jobs(stage)
    stage.claims = await claim(stage.direct, token="prepared")


async def second_claims(stage: Stage) -> None:
    await some_claims(stage)
    await settle(stage.direct, retrying(SECOND), *stage.claims)
    await stage.clock.advance(2 * SECOND)
    stage.claims = await claim(stage.direct, token="prepared again")


async def cancel_requests(stage: Stage) -> None:
    await some_claims(stage)
    await cancel(stage.direct, "b", request="prepared")


async def lost_leases(stage: Stage) -> None:
    await some_claims(stage)
    await stage.clock.advance(2 * LEASE)


async def lost_and_cancelled(stage: Stage) -> None:
    await cancel_requests(stage)
    await stage.clock.advance(2 * LEASE)


async def some_delayed(stage: Stage) -> None:
    for n, id in enumerate("abc", 1):
        await enqueue(stage.direct, new_job(id, request=id, delay_ms=n * SECOND))


async def some_due(stage: Stage) -> None:
    await some_delayed(stage)
    await stage.clock.advance(2 * SECOND)


async def some_ended(stage: Stage) -> None:
    await some_claims(stage)
    await settle(stage.direct, completed(LARGE), stage.claims[0])
    await settle(stage.direct, failed(), stage.claims[1])
    await enqueue(stage.direct, new_job("d", request="d"))
    await cancel(stage.direct, "d", request="prepared")


async def some_expired(stage: Stage) -> None:
    await some_ended(stage)
    await stage.clock.advance(2 * HOUR)


async def handed_over(stage: Stage) -> None:
    await some_jobs(stage)
    (answer,) = await _commands(stage.direct).execute(
        ("LMOVE", _key("ready"), _key("inbox", WORKER), "LEFT", "RIGHT")
    )
    assert answer == b"a"


async def offered(stage: Stage) -> None:
    """The worker is idle and says so; whoever watches here hears in its place what it is handed."""
    await some_claims(stage)
    await settle(stage.direct, completed(), *stage.claims[:2])
    (lease,) = stage.claims = stage.claims[2:]
    settlement = Settlement(lease.id, lease.fence, completed())
    assert await stage.direct.finish(QUEUE, WORKER, [settlement], OFFER) == [True]


async def handed(stage: Stage) -> None:
    await offered(stage)
    await enqueue(stage.direct, new_job("d", request="d", spec=b"handed"))


async def handed_and_settled(stage: Stage) -> None:
    await handed(stage)
    claim = await stage.direct.withdraw(QUEUE, WORKER)
    assert claim is not None
    await settle(stage.direct, completed(), claim)


async def handed_and_lost(stage: Stage) -> None:
    await handed(stage)
    await stage.clock.advance(2 * LEASE)


async def nothing_to_claim(stage: Stage) -> None:
    assert await claim(stage.storage) == []  # from now on, a claim knows how long it may wait


# -- preparations with time and flow ---------------------------------------------------------------


def _known(jobs: list[NewJob]) -> list[NewJob]:
    """The same jobs, in every run under the same requests."""
    return [job._replace(request=job.id) for job in jobs]


def _all_sorts() -> list[NewJob]:
    return _known(
        [
            *(new_job("a"), *high("b"), *low("c"), *grouped("g", "d", "e"), *grouped("h", "f")),
            *(*keyed("x", "k1", "k2", "k3"), *alone("alone", "l1", "l2")),
            *(unique("u"), replacing("r", key="r", delay_ms=SECOND)),
            *(expiring("x1", SECOND), expiring("x2", HOUR, delay_ms=2 * SECOND)),
        ]
    )


async def some_limits(stage: Stage) -> None:
    await set_limit(stage.direct, LimitKind.KEY, concurrency=1)
    await set_limit(stage.direct, LimitKind.TYPE, rate=Rate(8, 10 * SECOND))
    await set_limit(stage.direct, LimitKind.QUEUE, concurrency=20)


async def limited(stage: Stage) -> None:
    """Jobs of all sorts, of which some are held back."""
    await some_limits(stage)
    await enqueue(stage.direct, *_all_sorts())


async def limited_and_running(stage: Stage) -> None:
    await limited(stage)
    stage.claims = await claim(stage.direct, 6, token="prepared")
    assert len(stage.claims) == 6


async def limited_and_held(stage: Stage) -> None:
    """More was looked at than may start: some of each sort is held back."""
    await limited(stage)
    stage.claims = await claim(stage.direct, token="prepared")
    assert len(stage.claims) == 8


async def limited_and_lost(stage: Stage) -> None:
    await limited_and_held(stage)
    await cancel(stage.direct, stage.claims[0].id, request="prepared")
    await stage.clock.advance(2 * LEASE)


async def limited_and_late(stage: Stage) -> None:
    """Some are due, some have expired, and the rate lets others start."""
    await limited_and_held(stage)
    await settle(stage.direct, completed(), *stage.claims[:4])
    await stage.clock.advance(11 * SECOND)


async def paused(stage: Stage) -> None:
    await some_jobs(stage)
    await change(stage.direct, paused=1, low_every=3)


async def full(stage: Stage) -> None:
    await limited(stage)
    await change(stage.direct, max_waiting=15)


async def nothing_to_claim_under_limits(stage: Stage) -> None:
    await some_limits(stage)
    await nothing_to_claim(stage)
    assert await claim(stage.storage, block_ms=1) == []  # takes the ticket that a new limit leaves


def _schedule(version: int, token: str, next_ms: int = 0) -> StoredSchedule:
    return StoredSchedule("s", b"record", version, token, START_MS + next_ms)


async def a_schedule(stage: Stage) -> None:
    await limited(stage)
    assert await stage.direct.put_schedule(QUEUE, _schedule(1, "first", SECOND))


# -- calls -----------------------------------------------------------------------------------------


async def enqueue_some(stage: Stage) -> Any:
    return await enqueue(
        stage.storage,
        new_job("a", request="own"),
        new_job("d", request="new", spec=LARGE),
        new_job("e", request="later", delay_ms=SECOND, ttl_ms=SECOND, reply_to="me"),
        new_job("f", request=""),
    )


async def claim_some(stage: Stage) -> Any:
    return await _claim(stage, ClaimRequest(worker=WORKER, count=2, token="t", lease_ms=LEASE))


async def claim_when_it_comes(stage: Stage) -> Any:
    """The blocked claim: BLMOVE, and the script right behind it."""
    request = ClaimRequest(worker=WORKER, count=2, token="t", lease_ms=LEASE, block_ms=5_000)
    claiming = asyncio.create_task(_claim(stage, request))
    await wait_until(lambda: _is_blocked(stage), what="BLMOVE waits")
    await enqueue(stage.direct, new_job("a", request="own"))
    return await claiming


async def _claim(stage: Stage, request: ClaimRequest) -> list[Claim]:
    """As a consumer does: the same claim again, as long as there is no answer."""
    while True:
        try:
            return await stage.storage.claim(QUEUE, request)
        except StorageUnavailable:
            await asyncio.sleep(0)


async def _is_blocked(stage: Stage) -> bool:
    (info,) = await _commands(stage.direct).execute(("INFO", "clients"))
    return b"blocked_clients:1" in info


def finish_all(outcome: Any) -> Part:
    async def act(stage: Stage) -> Any:
        return await settle(stage.storage, outcome, *stage.claims)

    return act


async def finish_and_offer(stage: Stage) -> Any:
    """And what the offer was good for: the next lone job is the worker's."""
    settlements = [Settlement(lease.id, lease.fence, completed()) for lease in stage.claims]
    answer = await stage.storage.finish(QUEUE, WORKER, settlements, OFFER)
    await enqueue(stage.direct, new_job("next", request="next"))
    return answer, await stage.direct.withdraw(QUEUE, WORKER)


async def enqueue_alone(stage: Stage) -> Any:
    """Without the state, which a repeat finds as it is by then."""
    (answer,) = await enqueue(
        stage.storage, new_job("d", request="new", ttl_ms=HOUR, reply_to="me")
    )
    return answer.status, await stage.direct.withdraw(QUEUE, WORKER)


async def enqueue_alone_twice(stage: Stage) -> Any:
    """The second one finds nobody idle."""
    answers = await enqueue(stage.storage, new_job("d", request="new"))
    answers += await enqueue(stage.storage, new_job("e", request="newer"))
    return [answer.status for answer in answers]


async def withdraw(stage: Stage) -> Any:
    """Twice: it is answered as long as the worker holds the job."""
    return [await stage.storage.withdraw(QUEUE, WORKER) for _ in range(2)]


async def finish_each_in_its_way(stage: Stage) -> Any:
    outcomes = (completed(LARGE), retrying(), released())
    settlements = [
        (lease.id, lease.fence, outcome)
        for lease, outcome in zip(stage.claims, outcomes, strict=True)
    ]
    return await stage.storage.finish(QUEUE, WORKER, settlements)  # type: ignore[arg-type]


async def beat(stage: Stage) -> Any:
    return await stage.storage.heartbeat(QUEUE, WORKER, held(*stage.claims), 3 * LEASE)


async def recover_lost(stage: Stage) -> Any:
    return await stage.storage.recover(QUEUE, "reaper", 10, LEASE, "t")


async def promote_due(stage: Stage) -> Any:
    return await stage.storage.promote(QUEUE, 10)


async def prune_expired(stage: Stage) -> Any:
    return await stage.storage.prune(QUEUE, 10)


async def cancel_waiting(stage: Stage) -> Any:
    return await cancel(stage.storage, "a", request="t")


async def cancel_all(stage: Stage) -> Any:
    return await cancel(stage.storage, "a", "b", "c", "d", "nobody", request="t")


async def change_ttl(stage: Stage) -> Any:
    return await stage.storage.set_result_ttl(QUEUE, ["a", "b", "c", "d", "nobody"], 2 * HOUR)


async def leave(stage: Stage) -> Any:
    return await stage.storage.leave(QUEUE, WORKER)


async def ask_for_results(stage: Stage) -> Any:
    return await stage.storage.results(QUEUE, ["a", "b", "c", "nobody"], "me")


async def count(stage: Stage) -> Any:
    return await stage.storage.counts(QUEUE)


async def listen(stage: Stage) -> None:
    await _mark(stage.storage, stage, 30 * SECOND)


async def stop_listening(stage: Stage) -> None:
    await _mark(stage.storage, stage, 0)


async def listening(stage: Stage) -> None:
    await _mark(stage.direct, stage, 30 * SECOND)


async def _mark(storage: RedisStorage, stage: Stage, for_ms: int) -> None:
    await _commands(storage).call(
        "listen", QueueKeys(QUEUE), [stage.clock.now(), "listener", for_ms]
    )


async def check_access(stage: Stage) -> None:
    await stage.storage._check_access(QUEUE)


# -- calls with time and flow ----------------------------------------------------------------------


async def enqueue_all_sorts(stage: Stage) -> Any:
    """New ones, one that is kept away, and one that takes the place of another."""
    more = [unique("u2", reply_to="me"), replacing("r2", key="r", spec=LARGE, delay_ms=2 * SECOND)]
    more += [*keyed("x", "k4"), *high("b2"), new_job("a2")]
    return await enqueue(stage.storage, *_all_sorts(), *_known(more))


async def claim_all_sorts(stage: Stage) -> Any:
    return await _claim(stage, ClaimRequest(worker=WORKER, count=20, token="t", lease_ms=LEASE))


async def cancel_all_sorts(stage: Stage) -> Any:
    return await cancel(stage.storage, *(job.id for job in _all_sorts()), request="t")


async def pause(stage: Stage) -> Any:
    return await change(stage.storage, paused=1, max_waiting=5)


async def resume(stage: Stage) -> Any:
    return await change(stage.storage, paused=0, draining=0, low_every=0)


def limit(kind: LimitKind, to: Limit | None) -> Part:
    async def set_limit_of(stage: Stage) -> Any:
        return await stage.storage.set_limit(QUEUE, scope_of(kind), to)

    return set_limit_of


async def list_limits(stage: Stage) -> Any:
    return await stage.storage.limits(QUEUE)


async def clear(stage: Stage) -> Any:
    return await stage.storage.clear(QUEUE, 100, HOUR, b"cleared")


async def obliterate(stage: Stage) -> Any:
    """As a queue does: until none is left."""
    while await stage.storage.obliterate(QUEUE, 4):
        pass


def reschedule(due_ms: int) -> Part:
    async def reschedule_some(stage: Stage) -> Any:
        ids = ["a", "b", "c", "r", "x2", "nobody"]
        return await stage.storage.reschedule(QUEUE, ids, due_ms)

    return reschedule_some


async def put_new_schedule(stage: Stage) -> Any:
    return await stage.storage.put_schedule(QUEUE, _schedule(1, "t", SECOND), _known([*low("i1")]))


async def put_changed_schedule(stage: Stage) -> Any:
    jobs = _known([*alone("schedule", "i1", "i2"), new_job("i3"), new_job("a")])
    return await stage.storage.put_schedule(QUEUE, _schedule(2, "t", 2 * SECOND), jobs)


async def put_late_schedule(stage: Stage) -> Any:
    """Somebody else was faster."""
    return await stage.storage.put_schedule(QUEUE, _schedule(1, "t"), _known([new_job("i1")]))


async def delete_schedule(stage: Stage) -> Any:
    return await stage.storage.delete_schedule(QUEUE, "s")


async def list_schedules(stage: Stage) -> Any:
    return await stage.storage.schedules(QUEUE)


async def list_delayed(stage: Stage) -> Any:
    return await stage.storage.delayed(QUEUE, 10)


def _commands(storage: RedisStorage) -> Any:
    return storage._use(QUEUE)[0]


def _key(name: str, worker: str = "") -> bytes:
    return QueueKeys(QUEUE).named(name, worker)


_ALREADY_QUEUED: Final = [RescheduleResult.QUEUED] * 3 + [RescheduleResult.NOT_FOUND] * 3

CASES: Final = (
    Case("enqueue", enqueue_some),
    Case("enqueue", enqueue_some, some_jobs),
    Case("enqueue", enqueue_some, some_ended),
    Case("claim", claim_some, some_jobs),
    Case("claim", claim_some, some_due),
    Case("claim", claim_some, handed_over),
    Case("claim", claim_when_it_comes, nothing_to_claim),
    Case("claim", claim_when_it_comes, nothing_to_claim, drop="BLMOVE"),
    Case("finish", finish_all(completed()), some_claims),
    Case("finish", finish_all(failed(LARGE)), some_claims),
    Case("finish", finish_all(cancelled()), some_claims),
    Case("finish", finish_all(retrying()), some_claims),
    Case("finish", finish_all(snoozed()), some_claims),
    Case("finish", finish_all(released()), some_claims),
    Case("finish", finish_all(requeued()), second_claims),
    Case("finish", finish_each_in_its_way, second_claims),
    Case("finish", finish_all(released()), cancel_requests),
    Case("finish", finish_all(completed()), lost_leases),
    Case("finish", finish_and_offer, some_claims),
    Case("finish", finish_and_offer, limited_and_running),
    Case("finish", finish_and_offer, lost_leases),
    Case("finish", finish_all(released()), handed),
    Case("enqueue", enqueue_alone, offered),
    Case("enqueue", enqueue_alone, handed_and_settled),
    Case("enqueue", enqueue_alone_twice, offered),
    Case("claim", claim_some, handed),
    Case("leave", leave, handed),
    Case("recover", recover_lost, handed_and_lost),
    Case("withdraw", withdraw),
    Case("withdraw", withdraw, offered),
    Case("withdraw", withdraw, handed),
    Case("withdraw", withdraw, handed_and_settled),
    Case("heartbeat", beat, cancel_requests),
    Case("recover", recover_lost, lost_leases),
    Case("recover", recover_lost, lost_and_cancelled),
    Case("promote", promote_due, some_due),
    # Each prune says what it dropped itself.
    Case("prune", prune_expired, some_expired, again=0),
    Case("cancel", cancel_waiting, some_jobs),
    Case("cancel", cancel_waiting, some_delayed),
    Case("cancel", cancel_all, some_claims),
    Case("cancel", cancel_all, some_ended),
    Case("cancel", cancel_all, cancel_requests),
    Case("set_result_ttl", change_ttl, some_ended),
    Case("leave", leave, handed_over),
    Case("results", ask_for_results, some_ended),
    Case("counts", count, some_ended),
    Case("listen", listen),
    Case("listen", stop_listening, listening),
    Case("access", check_access),
    Case("enqueue", enqueue_all_sorts),
    Case("enqueue", enqueue_all_sorts, some_jobs),
    Case("enqueue", enqueue_all_sorts, limited),
    Case("enqueue", enqueue_all_sorts, limited_and_held),
    Case("enqueue", enqueue_all_sorts, full),
    Case("claim", claim_all_sorts, limited),
    Case("claim", claim_all_sorts, limited_and_running),
    Case("claim", claim_all_sorts, limited_and_late),
    Case("claim", claim_all_sorts, paused),
    Case("claim", claim_when_it_comes, nothing_to_claim_under_limits),
    Case("claim", claim_when_it_comes, nothing_to_claim_under_limits, drop="BLMOVE"),
    Case("finish", finish_all(completed()), limited_and_held),
    Case("finish", finish_all(cancelled()), limited_and_held),
    Case("finish", finish_all(retrying()), limited_and_held),
    Case("finish", finish_all(snoozed()), limited_and_held),
    Case("finish", finish_all(released()), limited_and_held),
    Case("recover", recover_lost, limited_and_lost),
    Case("heartbeat", beat, limited_and_lost),
    Case("promote", promote_due, limited_and_late),
    Case("cancel", cancel_all_sorts, limited),
    Case("cancel", cancel_all_sorts, limited_and_held),
    Case("control", pause),
    Case("control", pause, some_jobs),
    Case("control", resume, paused),
    Case("control", resume, full),
    Case("set_limit", limit(LimitKind.KEY, Limit(2)), some_claims),
    Case("set_limit", limit(LimitKind.TYPE, Limit(9, Rate(1, SECOND))), some_claims),
    Case("set_limit", limit(LimitKind.KEY, Limit(2)), limited_and_held),
    Case("set_limit", limit(LimitKind.QUEUE, Limit(1)), limited_and_held),
    Case("set_limit", limit(LimitKind.KEY, None), limited_and_held),
    Case("set_limit", limit(LimitKind.TYPE, None), limited_and_held),
    Case("limits", list_limits, limited_and_held),
    # Each clear says what it ended itself.
    Case("clear", clear, some_delayed, again=0),
    Case("clear", clear, limited_and_held, again=0),
    Case("obliterate", obliterate, some_ended),
    Case("obliterate", obliterate, limited_and_held),
    Case("obliterate", obliterate, a_schedule),
    # A repeat finds what the first call made of them.
    Case("reschedule", reschedule(0), some_delayed, again=_ALREADY_QUEUED),
    Case("reschedule", reschedule(START_MS + HOUR), limited_and_held),
    Case("put_schedule", put_new_schedule),
    Case("put_schedule", put_changed_schedule, a_schedule),
    Case("put_schedule", put_late_schedule, a_schedule),
    # A repeat finds none.
    Case("delete_schedule", delete_schedule, a_schedule, again=False),
    Case("schedules", list_schedules, a_schedule),
    Case("delayed", list_delayed, limited),
)


def _name(case: Case) -> str:
    words = [case.script, case.act.__qualname__.split(".")[0]]
    words += [case.prepare.__name__] if case.prepare else []
    return "-".join([*words, *([case.drop] if case.drop else [])])


def test_every_script_has_a_case() -> None:
    assert {case.script for case in CASES} == {path.stem for path in scripts_folder().glob("*.lua")}


@pytest.mark.parametrize("case", CASES, ids=_name)
async def test_a_lost_reply_changes_nothing(
    backend: RedisBackend, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobqueue.storage.redis.connections._RETRY_DELAYS", (0.001,) * 4)
    _load_scripts(backend)
    once = await _run(backend, case, 0)
    for times in (1, 2, 3):
        answer, keys, messages = await _run(backend, case, times)
        assert answer == (once[0] if case.again is SAME else case.again)
        assert keys == once[1]
        assert messages == once[2]


def _load_scripts(backend: RedisBackend) -> None:
    """So that no call is lost to finding out that the server does not know them."""
    for script in scripts_folder().glob("*.lua"):
        backend.admin.script_load(load(script.stem).source)


async def _run(backend: RedisBackend, case: Case, times: int) -> tuple[Any, Any, Any]:
    """The answer, all keys, and all messages, after so many lost replies."""
    backend.admin.flushall()
    clock = ManualClock(backend.age)
    direct = RedisStorage(backend.url, clock=clock.now)
    # Somebody hears the events, so that each that is published twice is noticed.
    backend.admin.zadd(_key("listeners"), {"watcher": START_MS + 24 * HOUR})
    with backend.admin.pubsub() as heard:
        heard.psubscribe("jq:*")
        heard.ssubscribe(f"jq:{{{QUEUE}}}:handed:{WORKER}")
        assert heard.get_message(timeout=5)
        assert heard.get_message(timeout=5)
        async with Proxy(backend.url) as proxy:
            storage = RedisStorage(proxy.url, clock=clock.now)
            async with direct, storage:
                stage = Stage(storage, direct, clock, [])
                if case.prepare is not None:
                    await case.prepare(stage)
                proxy.rule = rule = drop_replies(case.drop or case.script, times)
                answer = await case.act(stage)
                # A claim that is repeated does not wait again.
                assert rule.left == (times - 1 if case.drop and times else 0)
                proxy.rule = forward
                backend.admin.publish("jq:end", "end")
                return answer, _keys(backend), _messages(heard)


def _messages(heard: Any) -> list[tuple[bytes, bytes]]:
    messages: list[tuple[bytes, bytes]] = []
    while True:
        message = heard.get_message(timeout=5)
        assert message is not None
        if message["channel"] == b"jq:end":
            return messages
        told = (message["channel"], message["data"])
        # A request to stop is repeated with every heartbeat too.
        if told not in messages or not told[0].endswith(b":control"):
            messages.append(told)


def _keys(backend: RedisBackend) -> dict[bytes, Any]:
    """Everything that is stored, times to live to the nearest minute."""
    admin: Any = backend.admin
    readers: dict[bytes, Callable[[bytes], Any]] = {
        b"string": admin.get,
        b"hash": admin.hgetall,
        b"list": lambda key: admin.lrange(key, 0, -1),
        b"set": admin.smembers,
        b"zset": lambda key: admin.zrange(key, 0, -1, withscores=True),
    }
    return {
        key: (readers[admin.type(key)](key), round(admin.pttl(key) / 60_000))
        for key in admin.keys("*")
    }


# -- all of it at once -----------------------------------------------------------------------------


class Unreliable:
    """A rule under which every few commands are lost, or their replies, never three in a row."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._in_a_row = 0
        self.lost = 0

    def __call__(self, call: Call) -> Fate:
        is_ours = call.name.islower() or call.name == "BLMOVE"
        if not is_ours or self._in_a_row >= 2 or self._dice.random() > 0.2:
            self._in_a_row = 0 if is_ours else self._in_a_row
            return Fate.FORWARD
        self._in_a_row += 1
        self.lost += 1
        return self._dice.choice((Fate.CUT, Fate.DROP_REPLY, Fate.DROP_REPLY))


@pytest.mark.parametrize("seed", range(3))
async def test_calls_through_an_unreliable_network_run_once_and_are_answered(
    backend: RedisBackend, seed: int
) -> None:
    runs: Counter[int] = Counter()

    async def double(job: Job) -> int:
        runs[job.payload] += 1
        return 2 * job.payload

    async def call(n: int) -> int:
        while True:
            # What cannot be sent within a second is the caller's to send again, under its id.
            with contextlib.suppress(StorageUnavailable):
                return await queue.enqueue_and_wait("double", n, id=f"{n}")

    async with Proxy(backend.url) as proxy, Queue("q", proxy.url) as queue:
        queue.handler("double")(double)
        async with queue.worker(concurrency=8):
            await queue.enqueue_and_wait("double", -1)
            proxy.rule = rule = Unreliable(seed)
            for start in range(0, 200, 20):
                numbers = range(start, start + 20)
                assert await asyncio.gather(*map(call, numbers)) == [2 * n for n in numbers]
            proxy.rule = forward
    assert rule.lost > 5
    assert set(runs.values()) == {1}


# -- the proxy itself ------------------------------------------------------------------------------


@pytest.mark.parametrize("fate", [Fate.CUT, Fate.SWALLOW_REPLY, Delayed(0.05)])
async def test_other_fates_of_a_command(backend: RedisBackend, fate: Fate | Delayed) -> None:
    _load_scripts(backend)
    async with Proxy(backend.url) as proxy:
        async with RedisStorage(f"{proxy.url}?socket_timeout=0.5") as storage:
            proxy.rule = FirstCalls("enqueue", 1, fate)
            await enqueue(storage, new_job("a"))
            assert await storage.counts(QUEUE) is not None
            assert await result(storage, "a") is not None
            assert proxy.calls.count("enqueue") == (1 if isinstance(fate, Delayed) else 2)
        await wait_until(lambda: not proxy.open_connections, what="connections are closed")


async def test_a_subscription_comes_back_as_soon_after_the_tenth_cut_as_after_the_first(
    backend: RedisBackend,
) -> None:
    async with Proxy(backend.url) as proxy, RedisStorage(proxy.url) as storage:
        async with hearing(storage, CONTROL) as inbox:
            started = time.monotonic()
            for cuts in range(1, 11):
                await proxy.cut_all()
                await wait_until(lambda n=cuts: inbox.gaps == n, what=f"gap {cuts} is noticed")
        assert time.monotonic() - started < 5
