"""Users of few permissions: the documentation's are enough, and fewer are refused at once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, TypeAlias

import pytest

from jobqueue import (
    AccessDenied,
    ConfigurationError,
    Immediate,
    Job,
    JobCancelled,
    Queue,
    Reaper,
    StorageError,
)
from jobqueue.storage.redis import RedisStorage
from jobqueue.storage.redis.scripts import load, scripts_folder
from jobqueue.storage.types import CONTROL
from tests.support import acl
from tests.support.backends import RedisBackend
from tests.support.jobs import claim, new_job
from tests.support.wait import wait_until

pytestmark = pytest.mark.storages("redis")

MakeQueueAs: TypeAlias = Callable[..., Queue]
WORKING: Final = {"+blmove", "+client|id", "+client|unblock", "+ssubscribe"}
"""What a worker needs beside a producer."""
HARMLESS: Final = {
    *("+info", "+select", "+unsubscribe", "+sunsubscribe", "+hgetall", "+client|reply"),
}
"""Nothing is changed by these: see the other tests."""


@pytest.fixture
async def make_queue_as(backend: RedisBackend) -> AsyncIterator[MakeQueueAs]:
    """Makes queues of a user of the documentation, without some of its rules."""
    queues: list[Queue] = []

    def make(user: str, *without: str, name: str = "q", **options: Any) -> Queue:
        acl.make_user(backend.admin, user, *without)
        queue = Queue(name, acl.url_of(_address(backend), user), **options)
        queues.append(queue)
        return queue

    backend.admin.acl_log_reset()
    yield make
    for queue in queues:
        await queue.close()
    for user in acl.recipes():
        backend.admin.acl_deluser(user)


def _address(backend: RedisBackend) -> str:
    return backend.address.removesuffix("/0") + "/1"  # so that the database has to be chosen, too


def refusals(backend: RedisBackend) -> list[str]:
    """What the server refused, but for the library's name, which it need not know."""
    objects = [entry["object"] for entry in backend.admin.acl_log()]
    return [each for each in objects if each != "client|setinfo"]


async def test_the_documented_user_may_do_all_that_a_worker_does(
    backend: RedisBackend, make_queue_as: MakeQueueAs
) -> None:
    queue = make_queue_as("jobqueue", lease=0.2)
    events: list[str] = []

    @queue.handler("task")
    async def task(job: Job) -> Any:
        if job.payload == "fail" and job.attempt == 1:
            raise ValueError("once")
        await asyncio.sleep(0.2 if job.payload == "slow" else 0)
        return job.payload

    async def listen() -> None:
        async for event in queue.events():
            events.append(event.type)

    listening = asyncio.create_task(listen())
    async with queue:
        assert await queue.cancel((await queue.enqueue("task", id="none")).id) == "cancelled"
        # As the worker of another process that has died: nothing but its lease is left.
        await queue.enqueue("task", "lost")
        await _claim_and_forget(queue)
        async with queue.worker(), Reaper(queue.storage, "q", registry=queue.registry):
            assert await queue.enqueue_and_wait("task", "a", id="a") == "a"
            large = "x" * 300_000
            assert await queue.enqueue_and_wait("task", large) == large
            retried = await queue.enqueue("task", "fail", retry=Immediate())
            delayed = await queue.enqueue("task", "later", delay=0.05, id="later")
            slow = await queue.enqueue("task", "slow")
            await wait_until(lambda: _is(queue, slow.id, "running"))
            assert await queue.cancel(slow.id) == "running"
            with pytest.raises(JobCancelled):
                await slow.result(5)
            assert await delayed.result(5) == "later"
            assert await retried.result(5) == "fail"
            assert await queue.set_result_ttl("a", 0.05) == "updated"
            assert (await queue.enqueue("task", id="later")).status == "completed"
            await wait_until(lambda: _counts(queue, completed=4))
            await wait_until(lambda: "stalled" in events)
        listening.cancel()
    assert {"enqueued", "started", "completed", "retrying", "cancelled", "stalled"} <= set(events)
    assert refusals(backend) == []


async def _claim_and_forget(queue: Queue) -> None:
    claims = await claim(queue.storage, lease_ms=100)
    assert len(claims) == 1


async def _is(queue: Queue, id: str, state: str) -> bool:
    info = await queue.get(id)
    return info is not None and info.state == state


async def _counts(queue: Queue, **wanted: int) -> bool:
    counts = await queue.counts()
    return all(counts[state] == number for state, number in wanted.items())


async def test_the_documented_producer_may_produce_and_no_more(
    backend: RedisBackend, make_queue_as: MakeQueueAs
) -> None:
    worker, producer = make_queue_as("jobqueue"), make_queue_as("producer")

    @worker.handler("task")
    async def task(job: Job) -> Any:
        return job.payload

    async with worker.worker(), producer:
        assert await producer.enqueue_and_wait("task", 1, id="a") == 1
        assert await producer.cancel("a") == "finished"
        assert await producer.set_result_ttl("a", 60) == "updated"
        assert (await producer.counts())["completed"] == 1
    with pytest.raises(AccessDenied) as caught:
        await producer.worker().__aenter__()
    for name in WORKING:
        assert name.removeprefix("+").upper() in str(caught.value)
    assert set(acl.recipes()["jobqueue"]) - set(acl.recipes()["producer"]) == {
        *WORKING,
        "+sunsubscribe",
    }


@pytest.mark.parametrize("known", [True, False], ids=["known-scripts", "unknown-scripts"])
async def test_a_user_with_a_permission_too_few_is_refused_before_anything_is_done(
    backend: RedisBackend, known: bool
) -> None:
    # A script that were refused a command in its middle would leave half of its work behind.
    if known:
        for path in scripts_folder().glob("*.lua"):
            backend.admin.script_load(load(path.stem).source)
    rules = [rule for rule in acl.recipes()["jobqueue"] if rule.startswith("+")]
    for rule in rules if known else ("+evalsha", "+script|load"):
        if rule in HARMLESS:
            continue
        name = re.escape(rule.removeprefix("+"))
        if not known:
            backend.admin.script_flush()
        acl.make_user(backend.admin, "jobqueue", rule)
        async with RedisStorage(acl.url_of(backend.address, "jobqueue")) as storage:
            with pytest.raises(AccessDenied, match=f"(?i){name}"):
                await storage.listen("q", CONTROL, lambda messages: None)  # as a worker begins
            if rule in WORKING | {"+subscribe", "+ping"}:
                continue
            with pytest.raises(AccessDenied, match=f"(?i){name}"):
                await storage.enqueue("q", [new_job()])
            assert backend.admin.keys("*") == []


def _contents(backend: RedisBackend) -> list[Any]:
    import redis

    with redis.Redis.from_url(_address(backend)) as admin:
        return admin.keys("*")  # type: ignore[return-value]


async def test_a_user_that_may_not_ask_about_the_server_does_without(
    backend: RedisBackend,
    make_queue_as: MakeQueueAs,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "jobqueue")
    queue = make_queue_as("jobqueue", "+info", "+unsubscribe")

    @queue.handler("task")
    async def task(job: Job) -> Any:
        return job.payload

    async with queue.worker():
        assert await queue.enqueue_and_wait("task", 1) == 1
    assert "neither version nor settings" in caplog.text


async def test_who_waits_without_the_right_to_listen_is_told_at_once(
    backend: RedisBackend, make_queue_as: MakeQueueAs
) -> None:
    queue = make_queue_as("producer", "+subscribe")
    async with asyncio.timeout(5), queue:
        with pytest.raises(AccessDenied, match="subscribe"):
            await queue.enqueue_and_wait("task", 1)
        await queue.enqueue("task", 1)


@pytest.mark.parametrize(("rule", "shown"), [("~jq:*", "~jq:{q}:*"), ("&jq:*", "&jq:{q}:*")])
async def test_a_user_of_other_keys_or_channels_is_told_those_of_the_queue(
    backend: RedisBackend, make_queue_as: MakeQueueAs, rule: str, shown: str
) -> None:
    queue = make_queue_as("jobqueue", rule)
    backend.admin.execute_command("ACL", "SETUSER", "jobqueue", "resetchannels", rule[0] + "jq:{p}")
    for attempt in (queue.enqueue("task"), queue.worker().__aenter__()):
        with pytest.raises(AccessDenied) as caught:
            await attempt
        assert shown in str(caught.value)
    assert _contents(backend) == []


@pytest.mark.parametrize("name", ["images", "a*[b]?c\\d", "{%}"])
async def test_a_user_can_be_held_to_one_queue(
    backend: RedisBackend, make_queue_as: MakeQueueAs, name: str
) -> None:
    queue = make_queue_as("jobqueue", "~jq:*", "&jq:*", name=name)
    with pytest.raises(AccessDenied) as caught:
        await queue.enqueue("task")
    # What the message says to grant is enough, and reaches no other queue.
    granted = re.findall(r"[~&]jq:\S+", str(caught.value))
    backend.admin.execute_command("ACL", "SETUSER", "jobqueue", "resetchannels", *granted)
    async with queue, queue.worker():
        await queue.enqueue("task")
    other = Queue("aX[b]Yc\\d", queue.storage.twin())
    with pytest.raises(AccessDenied):
        await other.enqueue("task")
    await other.close()


Break: TypeAlias = Callable[[Any, str], None]


def _forbid_scripts(admin: Any, user: str) -> None:
    admin.execute_command("ACL", "SETUSER", user, "-evalsha")


def _change_password(admin: Any, user: str) -> None:
    admin.execute_command("ACL", "SETUSER", user, "resetpass", ">other")
    admin.execute_command("CLIENT", "KILL", "USER", user)


@pytest.mark.parametrize("take_away", [_forbid_scripts, _change_password])
async def test_a_worker_that_is_shut_out_for_a_while_loses_nothing(
    backend: RedisBackend, make_queue_as: MakeQueueAs, take_away: Break
) -> None:
    queue = make_queue_as("jobqueue", lease=30)
    runs: list[int] = []
    go = asyncio.Event()

    @queue.handler("task")
    async def task(job: Job) -> str:
        runs.append(job.attempt)
        await go.wait()
        return "done"

    async with queue.worker():
        receipt = await queue.enqueue("task")
        await wait_until(lambda: runs)
        take_away(backend.admin, "jobqueue")
        go.set()
        await wait_until(lambda: refusals(backend))
        acl.make_user(backend.admin, "jobqueue")
        assert await receipt.result(10) == "done"
    assert runs == [1]


async def test_a_permission_that_is_taken_away_between_is_named_too(
    backend: RedisBackend, make_queue_as: MakeQueueAs
) -> None:
    async with make_queue_as("jobqueue") as queue:
        await queue.enqueue("task")
        backend.admin.execute_command("ACL", "SETUSER", "jobqueue", "-hgetall", "-rpush")
        with pytest.raises(AccessDenied, match="hgetall"):
            await queue.get("a")
        with pytest.raises(AccessDenied, match="script"):  # Redis does not say which
            await queue.enqueue("task")


async def test_a_wrong_password_is_refused_and_says_what_to_check(
    backend: RedisBackend, make_queue_as: MakeQueueAs
) -> None:
    make_queue_as("jobqueue")
    queue = Queue("q", acl.url_of(_address(backend), "jobqueue", "wrong"))
    for attempt in (queue.enqueue("task"), queue.worker().__aenter__()):
        with pytest.raises(AccessDenied, match="Check the URL's user and password") as caught:
            await attempt
        assert isinstance(caught.value, ConfigurationError)
        assert isinstance(caught.value, StorageError)


def test_the_check_asks_for_all_that_the_scripts_do() -> None:
    # Literal names, and those that expiry() chooses from.
    named = re.compile(r"redis\.call\(\s*'([A-Z]+)'|return '(P?EXPIRE(?:AT)?)',")
    used: set[str] = set()
    for path in scripts_folder().glob("*.lua"):
        used |= {one or other for one, other in named.findall(load(path.stem).source)}
    asked = set(re.findall(r"'([A-Z]{2,})'", (scripts_folder() / "access.lua").read_text()))
    assert used <= asked
    assert asked - used == {
        *("BLMOVE", "LEFT", "RIGHT", "CLIENT", "ID", "UNBLOCK", "PING"),
        *("SUBSCRIBE", "SSUBSCRIBE", "SCRIPT", "LOAD"),
    }
