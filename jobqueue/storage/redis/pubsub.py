"""One connection a process that hears all its topics.

Not redis-py's PubSub, which reconnects without saying so: here every subscriber is told (with
``None``) that messages may have been missed.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from redis import exceptions as redis_errors
from redis.asyncio import Connection

from jobqueue.errors import StorageError
from jobqueue.packing import unpack_raw
from jobqueue.storage.messages import cancel_requested, handed_claim, reply, storage_event
from jobqueue.storage.redis.errors import is_denied, translated
from jobqueue.storage.redis.resp import pack
from jobqueue.storage.redis.wire import Wire, open_wire
from jobqueue.storage.types import CONTROL, EVENTS, Message, Sink, handed

logger = logging.getLogger("jobqueue")

_PING_EVERY: Final = 5.0
_DEAD_AFTER: Final = 15.0
"""Seconds without a message or a pong after which the connection is made anew."""
_ACK_WITHIN: Final = 10.0
_HANDED: Final = handed("")
_RECONNECT_AFTER: Final = (0.05, 0.2, 0.5, 1.0, 2.0)


class RedisSubscription:
    """One sink on one channel."""

    def __init__(self, listener: Listener, channel: bytes, topic: str, sink: Sink) -> None:
        self._listener = listener
        self.channel = channel
        self._topic = topic
        self._decode = _decoder(topic)
        self._sink = sink

    def deliver(self, data: bytes | None) -> None:
        try:
            messages = None if data is None else self._decode(unpack_raw(data))
        except Exception as error:
            # Nobody of ours has sent it. That the reader goes on is what counts.
            kind = type(error).__name__
            logger.warning("a message on %r cannot be read; passed over: %s", self._topic, kind)
            messages = None
        self._sink(messages)

    async def close(self) -> None:
        await self._listener.remove(self)


class _Feed(Wire):
    """A wire on which messages come in."""

    def __init__(self, take: Callable[[list[Any]], None], connection: Connection) -> None:
        self._loop = asyncio.get_running_loop()
        self._take = take
        self._end: asyncio.Future[Exception] = self._loop.create_future()
        self._heard_at = self._loop.time()
        super().__init__(connection)

    def hear(self, answer: Any) -> None:
        if isinstance(answer, Exception):
            self.fail(answer)
            return
        self._heard_at = self._loop.time()
        self._take(answer)

    def ended(self, error: Exception) -> None:
        if not self._end.done():
            self._end.set_result(error)

    async def until_lost(self) -> Exception:
        """Keep an eye on the connection; the reason why it has ended."""
        while not self._end.done():
            await asyncio.wait([self._end], timeout=_PING_EVERY)
            if self._loop.time() - self._heard_at >= _DEAD_AFTER:
                self.fail(redis_errors.TimeoutError(f"nothing was heard for {_DEAD_AFTER:g} s"))
            self.tell("PING")
        return self._end.result()

    def tell(self, *command: str | bytes) -> None:
        """Send, unless the connection is lost: a new one subscribes to everything anyway."""
        if not self.is_lost:
            self.write(pack(command))


class Listener:
    """The process's subscriptions, and the task that keeps their connection."""

    def __init__(self, settings: dict[str, Any], url: str) -> None:
        self._settings = settings
        self._url = url
        self._subscriptions: dict[bytes, list[RedisSubscription]] = {}
        self._acks: dict[bytes, asyncio.Future[None]] = {}
        self._feed: _Feed | None = None
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        self._sharded: set[bytes] = set()
        """Channels of the kind whose publisher is told who hears it, and no more than that."""
        self._missing: set[bytes] = set()
        """Channels of a lost connection: when they are confirmed, they are told of the gap."""

    async def add(self, channel: bytes, topic: str, sink: Sink) -> RedisSubscription:
        """Subscribe; returns when the server has confirmed it.

        Raises:
            StorageUnavailable: No confirmation.
        """
        subscription = RedisSubscription(self, channel, topic, sink)
        if topic.startswith(_HANDED):
            self._sharded.add(channel)
        known = self._subscriptions.setdefault(channel, [])
        known.append(subscription)
        ack = self._acks.get(channel)
        if len(known) == 1 or ack is not None:
            try:
                with translated(self._url):
                    await self._subscribe(channel)
            except BaseException:
                await self.remove(subscription)
                raise
        return subscription

    async def _subscribe(self, channel: bytes) -> None:
        ack = self._acks.get(channel)
        if ack is None:
            ack = self._acks[channel] = asyncio.get_running_loop().create_future()
            if self._feed is not None:
                self._feed.tell(self._kind("SUBSCRIBE", channel), channel)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="jobqueue-pubsub")
        try:
            async with asyncio.timeout(_ACK_WITHIN):
                await asyncio.shield(ack)
        except TimeoutError:
            raise redis_errors.ConnectionError("no confirmation of a subscription") from None

    async def remove(self, subscription: RedisSubscription) -> None:
        """Unsubscribe one; the last one of its channel tells the server, the last of all ends."""
        known = self._subscriptions.get(subscription.channel, [])
        if subscription not in known:
            return
        known.remove(subscription)
        if known:
            return
        del self._subscriptions[subscription.channel]
        self._missing.discard(subscription.channel)
        self._acks.pop(subscription.channel, None)
        if self._subscriptions:
            if self._feed is not None:
                command = self._kind("UNSUBSCRIBE", subscription.channel)
                self._feed.tell(command, subscription.channel)
            self._sharded.discard(subscription.channel)
        else:
            await self._stop()

    def _kind(self, command: str, channel: bytes) -> str:
        return f"S{command}" if channel in self._sharded else command

    async def close(self) -> None:
        """Stop reading and close the connection."""
        self._subscriptions.clear()
        self._sharded.clear()
        self._missing.clear()
        self._refuse(StorageError(f"the storage {self._url} was closed"))
        await self._stop()

    async def _stop(self) -> None:
        # Whoever subscribes while this waits starts a task, and a connection, of its own.
        task, self._task, self._feed = self._task, None, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        while True:
            feed = None
            try:
                feed = await open_wire(self._settings, partial(_Feed, self._take))
                self._feed = feed
                for channel in self._subscriptions:
                    feed.tell(self._kind("SUBSCRIBE", channel), channel)
                error: Exception = await feed.until_lost()
            except (redis_errors.RedisError, OSError, TimeoutError) as refused:
                error = refused
            finally:
                if feed is not None:
                    if self._feed is feed:
                        self._feed = None
                    feed.fail(redis_errors.ConnectionError("nobody listens any more"))
                    await asyncio.sleep(0)  # in which the loop closes the socket
            self._failures += 1
            if is_denied(error):
                self._refuse(error)
            self._missing.update(self._subscriptions)
            logger.debug("pub/sub connection to %s lost: %s", self._url, error)
            delay = _RECONNECT_AFTER[min(self._failures, len(_RECONNECT_AFTER)) - 1]
            await asyncio.sleep(delay * random.uniform(0.5, 1.5))

    def _refuse(self, error: Exception) -> None:
        """Who waits for a confirmation need not wait: there will be none."""
        acks, self._acks = self._acks, {}
        for ack in acks.values():
            if not ack.done():
                ack.set_exception(error)

    def _take(self, message: list[Any]) -> None:
        if len(message) != 3:
            return  # a pong
        kind, channel, data = message
        if kind in (b"message", b"smessage"):
            for subscription in list(self._subscriptions.get(channel, ())):
                subscription.deliver(data)
        elif kind in (b"subscribe", b"ssubscribe"):
            self._failures = 0
            if channel in self._missing:
                # Not before: what is looked at now is followed by every message from now on.
                self._missing.discard(channel)
                for subscription in list(self._subscriptions.get(channel, ())):
                    subscription.deliver(None)
            ack = self._acks.pop(channel, None)
            if ack is not None and not ack.done():
                ack.set_result(None)


def _decoder(topic: str) -> Callable[[list[Any]], list[Message]]:
    """What makes messages of what a script has packed for a topic."""
    if topic == EVENTS:
        return _events
    if topic == CONTROL:
        return _requests_to_cancel
    if topic.startswith(_HANDED):
        return partial(_handed_to, topic.removeprefix(_HANDED))
    return _replies


def _events(fields: list[Any]) -> list[Message]:
    return [
        storage_event(type.decode(), id.decode(), name.decode(), at, attempt, worker.decode())
        for type, id, name, at, attempt, worker in fields
    ]


def _requests_to_cancel(fields: list[Any]) -> list[Message]:
    return [cancel_requested(id.decode()) for id in fields]


def _handed_to(worker: str, fields: list[Any]) -> list[Message]:
    return [handed_claim(fields, worker)]


def _replies(fields: list[Any]) -> list[Message]:
    return [
        reply(id.decode(), state.decode(), None if value is False else value)
        for id, state, value in fields
    ]
