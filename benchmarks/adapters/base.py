"""What every Python adapter shares: the protocol, the handlers' clock, the loops that measure.

An adapter is a program. It reads commands as JSON lines from standard input and writes one JSON
line for each to standard output. ``base.mjs`` is the same for Node.

    {"do": "open", "url": ..., "queue": ..., "role": "producer" | "worker" | "both",
     "results": false}                                        {"versions": {...}}
    {"do": "enqueue", "count": 1000, "mode": "single" | "concurrent" | "bulk", "concurrency": 100,
     "payload_bytes": 100, "handler": "noop", "ms": 0}        {"seconds": 0.5, "count": 1000}
    {"do": "call", "count": 100, "concurrency": 1, "payload_bytes": 100}
                                                              {"seconds": 0.1, "took_us": [...]}
    {"do": "pickup", "count": 100, "gap_ms": 10}              {"seconds": 1.2}
    {"do": "work", "concurrency": 100, "handler": "noop"}     {"working": true}
    {"do": "report"}         {"count": 10, "first_ns": ..., "last_ns": ..., "delays_us": [...]}

Answers to ``enqueue``, ``call`` and ``report`` of Python adapters also have ``cpu_s``, the CPU time
that the process took for it (for ``report``: since it began).

What a system cannot do is answered with ``{"unsupported": reason}``, what went wrong with
``{"error": text}``. All times come from CLOCK_MONOTONIC, which the processes of a machine share.
When standard input is closed, the program ends at once: a measurement owes its queue nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from itertools import repeat
from typing import Any, ClassVar

Message = dict[str, Any]
Handler = str
WITHOUT_UVLOOP = "without-uvloop"
"""An argument of an adapter's program."""
ANSWER = {"processed": True, "latency": 0}
"""What a called handler returns: as large as the answer in @platformatic/job-queue's benchmark."""


class Unsupported(Exception):
    """The system has nothing of the kind; the message says what is missing."""


class Clock:
    """When this process's handlers ran. Appending to a list is atomic, so threads need no lock."""

    def __init__(self) -> None:
        self.first_ns = 0
        self.ends_ns: list[int] = []
        self.delays_ns: list[int] = []

    def begin(self) -> None:
        """A handler's first line."""
        if not self.first_ns:
            self.first_ns = time.monotonic_ns()

    def end(self) -> None:
        """A handler's last line."""
        self.ends_ns.append(time.monotonic_ns())

    def stamp(self, enqueued_ns: int) -> None:
        """The first line of the handler that measures how long it took to get here."""
        self.delays_ns.append(time.monotonic_ns() - enqueued_ns)
        self.begin()
        self.end()

    def report(self) -> Message:
        """How far this process is."""
        return {
            "count": len(self.ends_ns),
            "first_ns": self.first_ns,
            "last_ns": self.ends_ns[-1] if self.ends_ns else 0,
            "delays_us": [delay / 1000 for delay in self.delays_ns],
            "cpu_s": time.process_time(),
        }


clock = Clock()
"""Of this process. A module's variable, because some systems find handlers by their import path."""


def arguments(handler: Handler, payload: str, ms: float) -> tuple[Any, ...]:
    """What a handler is enqueued with."""
    return (payload, ms) if handler == "sleep" else (payload,)


class Adapter:
    """Answers the commands; what is common to systems with and without asyncio."""

    packages: ClassVar[Sequence[str]] = ()
    """Distributions whose versions are recorded."""

    def __init__(self, opened: Message) -> None:
        self.url: str = opened["url"]
        self.queue: str = opened["queue"]
        self.produces: bool = opened["role"] in {"producer", "both"}
        self.works: bool = opened["role"] in {"worker", "both"}
        self.results: bool = opened["results"]
        """Whether results are asked for: where a system recommends to switch them off if not, the
        adapter does."""
        self.in_flight = 1
        """Calls at a time: who must poll for results polls less often when there are many."""

    def versions(self) -> dict[str, str]:
        """Of the system and what it stands on."""
        found = {"python": sys.version.split()[0], **self.own_version()}
        for name in (*self.packages, "redis", "hiredis", "uvloop"):
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue
        return found

    def own_version(self) -> dict[str, str]:
        """Of a system that is not installed as a distribution."""
        return {}


class AsyncAdapter(Adapter):
    """An adapter of a system on asyncio. Override what the system can do."""

    async def open(self) -> None:
        """Connect."""

    async def enqueue_one(self, handler: Handler, args: tuple[Any, ...]) -> None:
        """Store one job."""
        raise NotImplementedError

    async def enqueue_bulk(self, handler: Handler, args: Sequence[tuple[Any, ...]]) -> None:
        """Store many jobs by the system's own bulk call."""
        raise Unsupported("no bulk call")

    async def call_one(self, payload: str) -> Any:
        """Store one job and wait for its result."""
        raise Unsupported("no results")

    async def work(self, concurrency: int, handler: Handler) -> None:
        """Start a worker in the background."""
        raise NotImplementedError

    # -- the commands ----------------------------------------------------------------------------

    async def do_enqueue(self, message: Message) -> Message:
        handler, payload = message["handler"], "x" * message["payload_bytes"]
        args, count = arguments(handler, payload, message.get("ms", 0)), message["count"]
        start, cpu = time.perf_counter(), time.process_time()
        if message["mode"] == "bulk":
            await self.enqueue_bulk(handler, [args] * count)
        elif message["mode"] == "single":
            for _ in range(count):
                await self.enqueue_one(handler, args)
        else:
            todo = repeat(None, count)
            await self._slots(message["concurrency"], todo, lambda: self.enqueue_one(handler, args))
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "count": count, "cpu_s": time.process_time() - cpu}

    async def do_call(self, message: Message) -> Message:
        payload, todo = "x" * message["payload_bytes"], repeat(None, message["count"])
        self.in_flight = message["concurrency"]
        took: list[float] = []

        async def call() -> None:
            start = time.perf_counter()
            await self.call_one(payload)
            took.append((time.perf_counter() - start) * 1e6)

        start, cpu = time.perf_counter(), time.process_time()
        await self._slots(message["concurrency"], todo, call)
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "took_us": took, "cpu_s": time.process_time() - cpu}

    async def do_pickup(self, message: Message) -> Message:
        start = time.perf_counter()
        payload = "x" * message["payload_bytes"]
        for _ in range(message["count"]):
            await asyncio.sleep(message["gap_ms"] / 1000)
            await self.enqueue_one("stamp", (payload, time.monotonic_ns()))
        return {"seconds": time.perf_counter() - start}

    async def do_work(self, message: Message) -> Message:
        await self.work(message["concurrency"], message["handler"])
        return {"working": True}

    @staticmethod
    async def _slots(count: int, todo: Iterator[None], make: Callable[[], Awaitable[None]]) -> None:
        async def slot() -> None:
            for _ in todo:
                await make()

        await asyncio.gather(*(slot() for _ in range(count)))


class SyncAdapter(Adapter):
    """An adapter of a system without asyncio: what is in flight is in threads."""

    def open(self) -> None:
        """Connect."""

    def enqueue_one(self, handler: Handler, args: tuple[Any, ...]) -> None:
        """Store one job."""
        raise NotImplementedError

    def enqueue_bulk(self, handler: Handler, args: Sequence[tuple[Any, ...]]) -> None:
        """Store many jobs by the system's own bulk call."""
        raise Unsupported("no bulk call")

    def call_one(self, payload: str) -> Any:
        """Store one job and wait for its result."""
        raise Unsupported("no results")

    def work(self, concurrency: int, handler: Handler) -> None:
        """Be a worker, in the main thread, until the process ends."""
        raise NotImplementedError

    # -- the commands ----------------------------------------------------------------------------

    def do_enqueue(self, message: Message) -> Message:
        handler, payload = message["handler"], "x" * message["payload_bytes"]
        args, count = arguments(handler, payload, message.get("ms", 0)), message["count"]
        start, cpu = time.perf_counter(), time.process_time()
        if message["mode"] == "bulk":
            self.enqueue_bulk(handler, [args] * count)
        else:
            slots = 1 if message["mode"] == "single" else message["concurrency"]
            self._slots(slots, count, lambda: self.enqueue_one(handler, args))
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "count": count, "cpu_s": time.process_time() - cpu}

    def do_call(self, message: Message) -> Message:
        payload = "x" * message["payload_bytes"]
        self.in_flight = message["concurrency"]
        took: list[float] = []

        def call() -> None:
            start = time.perf_counter()
            self.call_one(payload)
            took.append((time.perf_counter() - start) * 1e6)

        start, cpu = time.perf_counter(), time.process_time()
        self._slots(message["concurrency"], message["count"], call)
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "took_us": took, "cpu_s": time.process_time() - cpu}

    def do_pickup(self, message: Message) -> Message:
        start = time.perf_counter()
        payload = "x" * message["payload_bytes"]
        for _ in range(message["count"]):
            time.sleep(message["gap_ms"] / 1000)
            self.enqueue_one("stamp", (payload, time.monotonic_ns()))
        return {"seconds": time.perf_counter() - start}

    @staticmethod
    def _slots(threads: int, count: int, make: Callable[[], None]) -> None:
        if threads == 1:
            for _ in range(count):
                make()
            return
        todo = iter(range(count))
        lock = threading.Lock()

        def slot() -> None:
            while True:
                with lock:
                    if next(todo, None) is None:
                        return
                make()

        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(slot) for _ in range(threads)]:
                done.result()


class Wire:
    """The two ends of the protocol. Whatever else a library prints goes to standard error."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def answer(self, message: Message) -> None:
        print(json.dumps(message), file=self._out, flush=True)

    def failed(self, error: BaseException) -> None:
        if isinstance(error, Unsupported):
            self.answer({"unsupported": str(error)})
            return
        traceback.print_exception(error)
        self.answer({"error": f"{type(error).__name__}: {error}"})


def run(make: Callable[[Message], Adapter]) -> None:
    """The adapter's main program."""
    wire = Wire()
    try:
        adapter = make(json.loads(sys.stdin.readline()))
        if isinstance(adapter, AsyncAdapter):
            with asyncio.Runner(loop_factory=_new_loop()) as runner:
                runner.run(_serve_async(adapter, wire))
        elif isinstance(adapter, SyncAdapter):
            _serve_sync(adapter, wire)
    except BaseException as error:
        wire.failed(error)
    os._exit(0)


def _new_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop for all: its own environment has it, whether the system asks for it or not."""
    if WITHOUT_UVLOOP in sys.argv:
        return None
    try:
        from uvloop import new_event_loop
    except ImportError:
        return None
    return new_event_loop


async def _serve_async(adapter: AsyncAdapter, wire: Wire) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await adapter.open()
    wire.answer({"versions": adapter.versions()})
    while line := await reader.readline():
        message = json.loads(line)
        try:
            if message["do"] == "report":
                wire.answer(clock.report())
            else:
                wire.answer(await getattr(adapter, f"do_{message['do']}")(message))
        except Exception as error:
            wire.failed(error)
    os._exit(0)


def _serve_sync(adapter: SyncAdapter, wire: Wire) -> None:
    adapter.open()
    wire.answer({"versions": adapter.versions()})
    for line in sys.stdin:
        message = json.loads(line)
        if message["do"] == "work":
            # A worker wants the main thread, for its signals; the reports come from another one.
            threading.Thread(target=_report, args=(wire,), daemon=True).start()
            wire.answer({"working": True})
            adapter.work(message["concurrency"], message["handler"])
            return
        try:
            wire.answer(getattr(adapter, f"do_{message['do']}")(message))
        except Exception as error:
            wire.failed(error)


def _report(wire: Wire) -> None:
    for line in sys.stdin:
        if json.loads(line)["do"] == "report":
            wire.answer(clock.report())
    os._exit(0)
