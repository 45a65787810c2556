"""One connection for many tasks: each gets its own answers, whatever happens to the others."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from redis import exceptions as redis_errors

from jobqueue.storage.redis import links
from jobqueue.storage.redis.connections import connection_settings
from jobqueue.storage.redis.links import Link
from jobqueue.storage.redis.resp import pack


class Echo:
    """A server that answers each PING with its number, when it may; and knows how to misbehave."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.connections = 0
        self.then_close = False
        self.close_after_login: int | None = None
        self.garbage = b""
        self._writers: list[asyncio.StreamWriter] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                command = await self._read(reader)
                if command[0] != b"PING":
                    writer.write(b"+OK\r\n")  # the login
                    if self.close_after_login is not None and b"LIB-VER" in command:
                        for _ in range(self.close_after_login):
                            await asyncio.sleep(0)
                        break
                    continue
                await self.may_answer.wait()
                if self.then_close:
                    break
                writer.write(self.garbage or b"$%d\r\n%s\r\n" % (len(command[1]), command[1]))
        writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> list[bytes]:
        count = int((await reader.readuntil(b"\r\n"))[1:])
        command: list[bytes] = []
        for _ in range(count):
            size = int((await reader.readuntil(b"\r\n"))[1:])
            command.append((await reader.readexactly(size + 2))[:-2])
        return command

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def linked() -> AsyncGenerator[tuple[Echo, Link]]:
    echo = Echo()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    link = Link(connection_settings(f"redis://127.0.0.1:{port}"))
    try:
        yield echo, link
    finally:
        await link.abort()
        server.close()
        echo.may_answer.set()
        echo.close()
        await server.wait_closed()


async def ping(link: Link, *numbers: int, seconds: float = 10) -> list[Any]:
    return await link.execute(
        pack(*(("PING", number) for number in numbers)), len(numbers), seconds
    )


async def test_many_tasks_share_it_and_each_gets_its_own_answers() -> None:
    async with linked() as (echo, link):
        answers = await asyncio.gather(*(ping(link, n, n + 1000) for n in range(200)))
        assert answers == [[b"%d" % n, b"%d" % (n + 1000)] for n in range(200)]
        assert echo.connections == 1


@pytest.mark.parametrize("turns", [0, 1, 2, 5, 20])
async def test_who_is_cancelled_leaves_its_answer_to_nobody(turns: int) -> None:
    async with linked() as (echo, link):
        await ping(link, 0)
        echo.may_answer.clear()
        first = asyncio.create_task(ping(link, 1))
        second = asyncio.create_task(ping(link, 2))
        for _ in range(turns):
            await asyncio.sleep(0)
        first.cancel()
        with suppress(asyncio.CancelledError):
            await first
        echo.may_answer.set()
        assert await second == [b"2"]
        assert await ping(link, 3) == [b"3"]
        assert echo.connections == 1


async def test_one_that_is_cancelled_while_it_connects_does_not_end_that_for_others() -> None:
    async with linked() as (echo, link):
        first = asyncio.create_task(ping(link, 1))
        second = asyncio.create_task(ping(link, 2))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == [b"2"]
        assert echo.connections == 1


async def test_no_answer_in_time_ends_the_connection_and_the_next_one_works() -> None:
    async with linked() as (echo, link):
        echo.may_answer.clear()
        with pytest.raises(redis_errors.TimeoutError, match="no answer within"):
            await ping(link, 1, seconds=0.05)
        echo.may_answer.set()
        assert await ping(link, 2) == [b"2"]
        assert echo.connections == 2


async def test_a_lost_connection_is_everybodys_error_and_the_next_one_works() -> None:
    async with linked() as (echo, link):
        await ping(link, 0)
        echo.then_close = True
        errors = await asyncio.gather(*(ping(link, n) for n in range(3)), return_exceptions=True)
        assert [type(error) for error in errors] == [redis_errors.ConnectionError] * 3
        echo.then_close = False
        assert await ping(link, 4) == [b"4"]
        assert echo.connections == 2


@pytest.mark.parametrize("turns", range(8))
async def test_one_that_is_lost_as_soon_as_it_is_made_holds_up_nobody(turns: int) -> None:
    # As when the server is killed in this moment: before it is ours, or before it is used.
    async with linked() as (echo, link):
        echo.close_after_login = turns
        with pytest.raises(redis_errors.ConnectionError):
            await asyncio.wait_for(ping(link, 1), 2)
        echo.close_after_login = None
        assert await ping(link, 2) == [b"2"]


@pytest.mark.parametrize("garbage", [b"HTTP/1.1 400\r\n", b"+a\r\n+b\r\n"])
async def test_what_nobody_asked_for_ends_the_connection(garbage: bytes) -> None:
    async with linked() as (echo, link):
        await ping(link, 0)
        echo.garbage = garbage
        with suppress(redis_errors.ConnectionError):
            await ping(link, 1)
        echo.garbage = b""
        await asyncio.sleep(0.05)
        assert await ping(link, 2) == [b"2"]
        assert echo.connections == 2


async def test_a_close_waits_for_what_was_sent() -> None:
    async with linked() as (echo, link):
        await ping(link, 0)
        echo.may_answer.clear()
        last = asyncio.create_task(ping(link, 1))
        await asyncio.sleep(0.02)
        asyncio.get_running_loop().call_later(0.05, echo.may_answer.set)
        await link.close()
        assert await last == [b"1"]


async def test_a_close_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "CLOSE_WITHIN", 0.05)
    async with linked() as (echo, link):
        await ping(link, 0)
        echo.may_answer.clear()
        last = asyncio.create_task(ping(link, 1))
        await asyncio.sleep(0.02)
        await asyncio.wait_for(link.close(), 5)
        with pytest.raises(redis_errors.ConnectionError):
            await last


async def test_an_abort_waits_for_nothing() -> None:
    async with linked() as (echo, link):
        await ping(link, 0)
        echo.may_answer.clear()
        last = asyncio.create_task(ping(link, 1))
        await asyncio.sleep(0.02)
        await link.abort()
        with pytest.raises(redis_errors.ConnectionError):
            await last


async def test_a_server_that_cannot_be_reached_is_everybodys_error() -> None:
    link = Link(connection_settings("redis://127.0.0.1:1"))
    errors = await asyncio.gather(*(ping(link, n) for n in range(3)), return_exceptions=True)
    assert [type(error) for error in errors] == [redis_errors.ConnectionError] * 3


async def test_a_connection_that_nobody_waits_for_any_more_fails_in_silence() -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    link = Link(connection_settings("redis://127.0.0.1:1"))
    waiting = asyncio.create_task(ping(link, 1))
    await asyncio.sleep(0)
    connecting = link._connecting
    assert connecting is not None
    waiting.cancel()
    await asyncio.wait([waiting, connecting])
    del connecting
    gc.collect()
    assert complaints == []
