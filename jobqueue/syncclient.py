"""The synchronous client of one queue: calls from any thread, run on the background loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from jobqueue.background import LoopThread, Session, background, refuse_on_event_loop
from jobqueue.errors import StorageError
from jobqueue.events import EventStream
from jobqueue.job import Event, JobInfo
from jobqueue.producer import Producer
from jobqueue.receipt import JobSpec, Receipt
from jobqueue.storage.base import Storage
from jobqueue.values import Seconds

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class SyncClient:
    """Calls the methods of a :class:`Producer` from threads that have no event loop.

    It opens with the first call, and again with the first call after it was closed or the process
    was forked. Its producer has a storage of its own (a twin), so it never meets the event loop in
    which the queue itself may be open.

    Args:
        storage: Gives the storage whose twin to use.
        make_producer: Makes a producer on that twin.
    """

    def __init__(
        self, storage: Callable[[], Storage], make_producer: Callable[[Storage], Producer]
    ) -> None:
        self._storage = storage
        self._make_producer = make_producer
        self._current: Session | None = None

    def call(
        self,
        awaitable: str,
        method: Callable[Concatenate[Producer, P], Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Call a method and wait for what it gives.

        Args:
            awaitable: What to await in place of this where an event loop runs.
            method: Of the producer.
            args, kwargs: Its arguments.

        Raises:
            RuntimeError: An event loop runs in this thread.
            StorageError: The queue was closed meanwhile.
        """
        refuse_on_event_loop(awaitable)
        with background.lock:
            session = self.session()
            call = session.start(method(session.producer, *args, **kwargs))
        return session.wait_for(call)

    def session(self) -> Session:
        """The session that is in use, or a new one. Under the lock."""
        session = self._current
        if session is None or session.closed:
            session = self._current = background.open(self._storage(), self._make_producer)
        return session

    def enqueue(self, awaitable: str, spec: JobSpec[R]) -> SyncReceipt[R]:
        """Store a job and return at once."""
        return SyncReceipt(self, self.call(awaitable, Producer.enqueue_spec, spec))

    def close(self) -> None:
        """Send what is on its way and let go of everything. Idempotent.

        Calls of other threads that still wait end with a ``StorageError``.
        """
        refuse_on_event_loop("queue.close")
        closing = self._start_closing()
        if closing is None:
            return
        session, closed = closing
        try:
            closed.result()
        finally:
            thread = background.release(session)
        if thread is not None:
            thread.join()

    async def aclose(self) -> None:
        """Like :meth:`close`, without blocking the event loop."""
        closing = self._start_closing()
        if closing is None:
            return
        session, closed = closing
        try:
            await asyncio.wrap_future(closed)
        finally:
            thread = background.release(session)
        if thread is not None:
            await _ended(thread)

    def _start_closing(self) -> tuple[Session, Future[None]] | None:
        with background.lock:
            session, self._current = self._current, None
            if session is None or session.closed:
                return None
            return session, background.start_closing(session)


async def _ended(thread: LoopThread) -> None:
    await asyncio.wrap_future(thread.ended)
    thread.join()


class SyncReceipt(Generic[R_co]):
    """What an enqueue gives back; see :class:`~jobqueue.Receipt`.

    Attributes:
        id: Of the job that this is about.
        status: ``"queued"``, ``"duplicate"``, ``"completed"`` or ``"replaced"``.
        state: That job's state at that moment.
    """

    __slots__ = ("_client", "_receipt", "id", "state", "status")

    def __init__(self, client: SyncClient, receipt: Receipt[R_co]) -> None:
        self.id = receipt.id
        self.status = receipt.status
        self.state = receipt.state
        self._client = client
        self._receipt = receipt

    def result(self, wait: Seconds | None = None) -> R_co:
        """The job's result, as soon as there is one. See :meth:`Receipt.result`."""
        return self._client.call("receipt.result", self._result, wait)

    def info(self) -> JobInfo | None:
        """What is stored about the job now, or ``None`` when it is forgotten."""
        return self._client.call("receipt.info", Producer.get, self.id)

    async def _result(self, producer: Producer, wait: Seconds | None) -> R_co:
        return await self._receipt.through(producer).result(wait)

    def __repr__(self) -> str:
        return f"<SyncReceipt {self.id!r} {self.status} ({self.state})>"


class SyncEventStream:
    """Iterates over events as they come, until it, or the queue, is closed.

    Listening begins with the first step, or, to be sure that nothing is missed in between, with
    ``with queue.events() as events:``, which also closes it.
    """

    def __init__(self, client: SyncClient) -> None:
        self._client = client
        self._changing = threading.RLock()
        self._session: Session | None = None
        self._events: EventStream
        self._closed = False

    def __enter__(self) -> SyncEventStream:
        refuse_on_event_loop("queue.events().__aenter__")
        with self._changing:
            if self._session is None and not self._closed:
                self._open()
        return self

    def _open(self) -> None:
        with background.lock:
            session = self._client.session()
            session.streams.add(self)
            self._events = session.producer.events()
            opening = session.start(self._events.__aenter__())
        try:
            session.wait_for(opening)
        except BaseException:
            session.streams.discard(self)
            raise
        self._session = session

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        self.__enter__()
        with background.lock:
            session = self._session
            if session is None or session.closed:
                raise StopIteration
            step = session.start(self._events.__anext__())
        try:
            return session.wait_for(step)
        except StopAsyncIteration:
            raise StopIteration from None
        except StorageError:
            if step.cancelled():
                raise StopIteration from None
            raise

    def close(self) -> None:
        """Stop listening; whoever waits for the next event has seen the last one. Idempotent."""
        refuse_on_event_loop("events.aclose")
        with self._changing:
            self._closed = True
            with background.lock:
                session, self._session = self._session, None
                if session is None or session.closed:
                    return
                session.streams.discard(self)
                closing = session.start(self._events.aclose())
            session.wait_for(closing)
