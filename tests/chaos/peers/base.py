"""What the programs of all queues share: ``python -m tests.chaos.peers.QUEUE PROGRAM ORDERS``.

They run in their queue's own environment, so nothing but the standard library is imported here.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, TypeAlias

from tests.chaos.ledger import Ledger, Pen
from tests.chaos.orders import Orders

Send: TypeAlias = Callable[[str, int], Awaitable[bool]]
"""Enqueues a job with an id and the milliseconds that it runs for. Returns when the queue says that
it has it: ``False`` if it says that it had it already. What it raises is no such word."""
Work: TypeAlias = Callable[[Orders, Pen], None]
"""Runs a worker until SIGTERM."""
Sender: TypeAlias = Callable[[Orders], AbstractAsyncContextManager[Send]]

_ORPHANED: Final = 70
_GIVE_UP: Final = 10.0
"""Seconds after which a producer no longer waits for an answer, and asks again."""
_IDLE: Final = 1.0
"""Seconds without a job's end after which a producer sends on, however many jobs are not yet run:
they wait for their rescue."""
_runs = itertools.count(1)


async def perform(pen: Pen, id: str, ms: int) -> None:
    """What every job does."""
    run = next(_runs)
    pen.note("start", id, run)
    await pen.kept()
    await asyncio.sleep(ms / 1000)
    pen.note("end", id, run)
    await pen.kept()


async def produce(orders: Orders, pen: Pen, sender: Sender) -> None:
    """Enqueue the jobs that nobody has acknowledged, each until the queue says that it has it."""
    ledger = Ledger(Path(orders.folder))
    ledger.refresh()
    gate = asyncio.Event()
    watcher = asyncio.create_task(_watch_backlog(ledger, orders, gate))
    jobs = iter([job for job in _jobs(orders) if job[0] not in ledger.accepted])

    async def enqueue(send: Send) -> None:
        for id, ms in jobs:
            await gate.wait()
            while True:
                try:
                    async with asyncio.timeout(_GIVE_UP):
                        is_new = await send(id, ms)
                except Exception as error:
                    pen.note("refused", f"{id} {type(error).__name__}: {error}")
                    await asyncio.sleep(0.05)
                else:
                    if not is_new:
                        pen.note("known", id)
                    pen.note("accepted", id)
                    await pen.kept()
                    break
            await asyncio.sleep(orders.pause)

    async with sender(orders) as send:
        await asyncio.gather(*(enqueue(send) for _ in range(orders.concurrency)))
    watcher.cancel()


def _jobs(orders: Orders) -> Iterator[tuple[str, int]]:
    randomly = random.Random(orders.seed)
    for number in range(orders.first, orders.first + orders.count):
        yield f"job-{number}", randomly.randint(*orders.sleep_ms)


async def _watch_backlog(ledger: Ledger, orders: Orders, gate: asyncio.Event) -> None:
    """Keep the gate open while there is room; the ledger knows, so no queue is asked."""
    ended, ended_at = -1, time.monotonic()
    while True:
        ledger.refresh()
        if len(ledger.ended) != ended:
            ended, ended_at = len(ledger.ended), time.monotonic()
        waiting = len(ledger.accepted.keys() - ledger.ended)
        if waiting < orders.backlog or time.monotonic() - ended_at > _IDLE:
            gate.set()
        else:
            gate.clear()
        await asyncio.sleep(0.02)


class _Noting(logging.Handler):
    """Notes the errors that a library logs."""

    def __init__(self, pen: Pen) -> None:
        super().__init__(logging.ERROR)
        self._pen = pen

    def emit(self, record: logging.LogRecord) -> None:
        self._pen.note("error", record.getMessage()[:200])


def main(work: Work, sender: Sender) -> None:
    """Run the program that the command line names."""
    _, program, text = sys.argv
    orders = Orders.loads(text)
    pen = Pen(Path(orders.folder))
    logging.getLogger().addHandler(_Noting(pen))
    threading.Thread(target=_end_with_the_driver, daemon=True).start()
    if program == "work":
        work(orders, pen)
    else:
        asyncio.run(produce(orders, pen, sender))


def _end_with_the_driver() -> None:
    # Not sys.stdin, whose lock the interpreter wants when it ends.
    while os.read(0, 1):
        pass
    os._exit(_ORPHANED)
