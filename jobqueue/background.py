"""The event loop of code that has none: one for the process, in a daemon thread.

It starts with the first call and ends when the last session on it is closed. The interpreter may
end at any time: a daemon thread does not keep it.

Calls go through :func:`asyncio.run_coroutine_threadsafe`. anyio's blocking portal does the same and
was measured against it: 150 to 230 microseconds a call against 80 to 130 from one thread, and
about 110 against 35 from 50 threads at a time.

**fork.** A child inherits neither the thread nor the right to use its connections: a socket that
the child tidies up ends TLS for the parent. So all sessions are closed before a fork, and parent
and child each begin anew with their next call. That cannot be done while a call is under way in
another thread; then the child leaves what it inherited untouched for ever. SQLite connections, with
which that would not do, are closed in any case (``storage/forking.py``).
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from jobqueue.errors import StorageError
from jobqueue.producer import Producer
from jobqueue.storage.base import Storage
from jobqueue.storage.forking import around_forks

T = TypeVar("T")

logger = logging.getLogger("jobqueue")

TIDY_SECONDS: Final = 2.0
"""The longest that a fork, or the end of the interpreter, waits for sessions to close."""


class LoopThread:
    """An event loop that runs in a daemon thread until it is stopped."""

    def __init__(self) -> None:
        self.loop: Final = asyncio.new_event_loop()
        self.sessions: Final[set[Session]] = set()
        self.ended: Final[Future[None]] = Future()
        self._twins: WeakKeyDictionary[Storage, Storage] = WeakKeyDictionary()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="jobqueue-sync", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self.loop.close()
            raise

    def twin(self, storage: Storage) -> Storage:
        """The handle that stands for a storage here; queues that share one share the other."""
        twin = self._twins.get(storage)
        if twin is None:
            twin = self._twins[storage] = storage.twin()
        return twin

    def stop(self) -> None:
        """Ask the thread to cancel what still runs and to end; ``ended`` says when it has."""
        self.loop.call_soon_threadsafe(self._stop.set)

    def join(self, seconds: float | None = None) -> None:
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
                runner.run(self._stopped())
        finally:
            self.ended.set_result(None)

    async def _stopped(self) -> None:
        await self._stop.wait()


class Session:
    """A producer that is in use on the background loop.

    Attributes:
        producer: Used on that loop only.
        closed: A new one is needed for the next call. Changes under the lock of
            :class:`Background`.
        calls: What callers in other threads wait for now.
        streams: Event streams that are open on it.
    """

    def __init__(self, thread: LoopThread, producer: Producer) -> None:
        self.thread: Final = thread
        self.producer: Final = producer
        self.closed = False
        self.calls: Final[set[Future[Any]]] = set()
        self.streams: Final[set[object]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        thread.sessions.add(self)

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the loop; under the lock. Cancelling the future cancels it."""
        future = asyncio.run_coroutine_threadsafe(self._run(work), self.thread.loop)
        self.calls.add(future)
        future.add_done_callback(self.calls.discard)
        return future

    def wait_for(self, call: Future[T]) -> T:
        """Wait in this thread; whatever interrupts it, Ctrl+C above all, gives up the call.

        Raises:
            StorageError: The queue was closed meanwhile.
        """
        try:
            return call.result()
        except CancelledError:
            raise StorageError("the queue was closed during this call") from None
        except BaseException:
            call.cancel()
            raise
        finally:
            # The future's own callback may still be on its way when the answer is here.
            self.calls.discard(call)
            # The error holds this frame: without this, frame and error would keep each other.
            del call

    async def _run(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.current_task()
        assert task is not None  # run_coroutine_threadsafe made it
        self._tasks.add(task)
        try:
            return await work
        finally:
            self._tasks.discard(task)

    async def close(self) -> None:
        """Send what is on its way, end all calls, and let go of everything."""
        await self.producer.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
            # One of them may have been about to use the producer, which then opens by itself.
            await self.producer.close()


class Background:
    """The one loop thread of this process, while somebody needs it.

    Attributes:
        lock: Held while a session is found and a call is started on it, so that none is started on
            what is just being closed.
    """

    def __init__(self) -> None:
        # Reentrant: a signal handler may enqueue while its thread is here.
        self.lock = threading.RLock()
        self._thread: LoopThread | None = None
        self._inherited: list[LoopThread] = []
        self._hooked = False

    def open(self, storage: Storage, make_producer: Callable[[Storage], Producer]) -> Session:
        """A session for a queue, on a twin of its storage. Under the lock."""
        self._hook()
        if self._thread is None:
            self._thread = LoopThread()
        return Session(self._thread, make_producer(self._thread.twin(storage)))

    def start_closing(self, session: Session) -> Future[None]:
        """Refuse new calls to a session and begin to close it; then call :meth:`release`."""
        with self.lock:
            session.closed = True
            return asyncio.run_coroutine_threadsafe(session.close(), session.thread.loop)

    def release(self, session: Session) -> LoopThread | None:
        """Forget a closed session.

        Returns:
            The thread, if this was the last session on it: it has been asked to end.
        """
        with self.lock:
            thread = session.thread
            thread.sessions.discard(session)
            if thread.sessions or thread is not self._thread:
                return None
            self._thread = None
            thread.stop()
            return thread

    # -- the end of the process, and its doubling --------------------------------------------------

    def _hook(self) -> None:
        if self._hooked:
            return
        self._hooked = True
        around_forks(self._before_fork, self._after_fork_in_parent, self._after_fork_in_child)
        # Executors, such as SQLiteStorage's, end before atexit. concurrent.futures itself uses
        # this to be early; what was registered later is called earlier.
        early: Callable[[Callable[[], None]], object]
        early = getattr(threading, "_register_atexit", atexit.register)
        early(self._at_exit)
        atexit.register(self._at_exit)

    def _before_fork(self) -> None:
        self.lock.acquire()
        thread = self._thread
        if thread is None or any(each.calls or each.streams for each in thread.sessions):
            return
        self._close(thread, list(thread.sessions))
        self._thread = None
        thread.stop()
        thread.join(TIDY_SECONDS)

    def _after_fork_in_parent(self) -> None:
        self.lock.release()

    def _after_fork_in_child(self) -> None:
        self.lock = threading.RLock()
        thread, self._thread = self._thread, None
        if thread is not None:
            for session in thread.sessions:
                session.closed = True
            # Never freed, so that no destructor speaks on what belongs to the parent. Nor does
            # the end of the interpreter free it: the frames of a thread that is not here hold it.
            self._inherited.append(thread)

    def _at_exit(self) -> None:
        # Threads that are no daemons may go on for long, and their calls too; daemons' calls end
        # with the process. The loop stays, for other exit handlers: they can start no thread.
        with self.lock:
            if self._thread is not None:
                self._close(self._thread, [s for s in self._thread.sessions if not s.calls])

    def _close(self, thread: LoopThread, sessions: list[Session]) -> None:
        thread.sessions.difference_update(sessions)
        for session in sessions:
            session.closed = True
        closing = asyncio.run_coroutine_threadsafe(_close_all(sessions), thread.loop)
        try:
            closing.result(TIDY_SECONDS)
        except Exception as error:
            logger.debug("could not close everything in time: %r", error)


async def _close_all(sessions: list[Session]) -> None:
    for error in await asyncio.gather(
        *(session.close() for session in sessions), return_exceptions=True
    ):
        if error is not None:
            logger.debug("a queue was not closed as it should be: %r", error)


background: Final = Background()


def refuse_on_event_loop(instead: str) -> None:
    """Let nobody block a running event loop.

    Args:
        instead: What to await there.

    Raises:
        RuntimeError: One runs in this thread.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        f"an event loop runs in this thread, and this call would block it: use await {instead}(...)"
    )
