"""No password is shown: in errors, logs, representations and commands, however it was written."""

from __future__ import annotations

import asyncio
import logging
import pickle
import signal
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, quote_plus

import pytest

from jobqueue import Consumer, Job, JobQueueError, Producer, Queue, Reaper, SyncQueue, Worker
from tests.integration.test_cli import project_in, shell
from tests.support.servers import Server, free_port
from tests.support.wait import wait_until

CORE: Final = "s3cr3t"
PASSWORD: Final = f"p@{CORE}/?#%41&x=y:z"
QUOTED: Final = quote(PASSWORD, safe="")
FORMS: Final = (
    "redis://somebody:{quoted}@{place}/0",
    "valkey://somebody:{quoted}@{place}/0?client_name=me",
    "redis://{place}/0?username=somebody&password={query}",
    "redis://{place}/0?%75sername=somebody&pass%77ord={query}",
)
"""Ways to log in that work."""
WRONG_FORMS: Final = (
    *(form.replace("}@", "}x@").replace("{query}", "{query}x") for form in FORMS),
    "redis://:{quoted}@{place}/0",
    "redis://{quoted}@{place}/0",
    "redis://nobody:{quoted}@{place}/0",
    "rediss://somebody:{quoted}@127.0.0.1:1/0?ssl_password={query}",
    "redis://somebody:{quoted}@127.0.0.1:1/0",
    "unix:///no/such/socket?username=somebody&password={query}",
)
MALFORMED: Final = (
    "redis://somebody:{raw}@{place}/0",
    "redis://somebody:{quoted}@127.0.0.1:port/0",
    "redis://{place}/zero?password={query}&socket_timeout=soon",
    "redis:somebody:{quoted}@{place}",
)


def written(form: str, place: str) -> str:
    return form.format(raw=PASSWORD, quoted=QUOTED, query=quote_plus(PASSWORD), place=place)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    user = ("--user", "somebody", "on", f">{PASSWORD}", "~*", "&*", "+@all")
    server = Server(options=user)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def place(server: Server) -> str:
    server.start()
    return f"127.0.0.1:{server.port}"


def shown_by(error: BaseException) -> str:
    """Whatever somebody may print of an error."""
    pickled = pickle.dumps(error) if isinstance(error, JobQueueError) else b""
    texts = ["".join(traceback.format_exception(error)), repr(error.args), pickled.decode("latin1")]
    cause: BaseException | None = error
    while cause is not None:
        texts += [str(cause), repr(cause)]
        cause = cause.__cause__ or cause.__context__
    return "\n".join(texts)


def shown_by_things(queue: Queue) -> str:
    things: list[Any] = [queue, queue.storage, queue.producer, queue.worker(), queue.sync_client]
    things += [queue.storage.twin(), Consumer(queue.storage, {}), Producer(queue.storage)]
    things += [Reaper(queue.storage), SyncQueue("q", queue.storage), Worker(queue)]
    return "\n".join(f"{thing!r} {thing}" for thing in things) + queue.storage.url


def logged(caplog: pytest.LogCaptureFixture) -> str:
    formatter = logging.Formatter("%(name)s %(message)s %(args)s")
    return "\n".join(map(formatter.format, caplog.records))


@pytest.mark.parametrize("form", FORMS)
async def test_a_worker_at_work_and_in_an_outage_shows_none(
    server: Server, place: str, caplog: pytest.LogCaptureFixture, form: str
) -> None:
    caplog.set_level(logging.DEBUG)
    queue = Queue("q", written(form, place), lease=1)

    @queue.handler("task")
    async def task(job: Job) -> object:
        return job.payload

    async with queue, queue.worker() as worker:
        receipt = await queue.enqueue("task", 1)
        assert await receipt.result(10) == 1
        info = await receipt.info()
        server.kill()
        await wait_until(lambda: not worker.health()[0].is_claiming, 20)
        with pytest.raises(JobQueueError) as caught:
            await queue.enqueue("task")
        shown = shown_by(caught.value) + shown_by_things(queue) + f"{worker.health()} {info!r}"
        server.start()
        await wait_until(lambda: worker.health()[0].is_claiming, 20)
    assert "cannot claim from" in logged(caplog)
    assert CORE not in logged(caplog)
    assert CORE not in shown + repr(receipt)


@pytest.mark.parametrize("form", WRONG_FORMS)
async def test_a_refusal_shows_none(
    place: str, caplog: pytest.LogCaptureFixture, form: str
) -> None:
    caplog.set_level(logging.DEBUG)
    queue = Queue("q", written(form, place))
    for attempt in (queue.open(), queue.enqueue("task"), queue.worker().start()):
        with pytest.raises(JobQueueError) as caught:
            await attempt
        assert CORE not in shown_by(caught.value)
    other = SyncQueue("q", written(form, place))
    with pytest.raises(JobQueueError) as caught:
        await asyncio.to_thread(other.enqueue, "task")
    await asyncio.to_thread(other.close)
    assert CORE not in shown_by(caught.value) + shown_by_things(queue) + logged(caplog)


@pytest.mark.parametrize("form", MALFORMED)
def test_a_url_that_cannot_be_read_shows_none(form: str) -> None:
    with pytest.raises(JobQueueError) as caught:
        Queue("q", written(form, f"127.0.0.1:{free_port()}"))
    assert CORE not in shown_by(caught.value)


@pytest.mark.parametrize("form", [*WRONG_FORMS, *MALFORMED])
def test_a_command_shows_none(
    place: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], form: str
) -> None:
    done = shell(monkeypatch, capfd, "counts", "--url", written(form, place))
    assert done.code in (2, 3)
    assert "***" in done.err
    assert CORE not in done.out + done.err


@pytest.mark.parametrize("log_format", ["plain", "json"])
async def test_the_worker_of_the_command_line_shows_none(
    server: Server, place: str, tmp_path: Path, log_format: str
) -> None:
    with project_in(tmp_path) as project:
        url = written(FORMS[0], place)
        project.write("app.py", f"from jobqueue import Queue\nqueue = Queue('q', {url!r})")
        options = ("--log-format", log_format, "--log-level", "debug", "--processes", "2")
        worker = project.start("worker", "app:queue", *options)
        await worker.says("worker started" if log_format == "json" else "press Ctrl+C")
        assert "somebody:***@" in worker.err
        server.kill()
        await worker.says("cannot claim from")
        server.start()
        await worker.says("claiming from 'q' again")
        worker.signal(signal.SIGTERM)
        done = await worker.done()
        assert CORE not in done.out + done.err
