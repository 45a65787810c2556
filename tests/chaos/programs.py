"""The processes of the campaign: ``python -m tests.chaos.programs PROGRAM ORDERS``.

Each ends when its standard input does, so none outlives the driver; a worker also on SIGTERM.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

from jobqueue import (
    Event,
    Every,
    Job,
    JobNotFound,
    JobQueueError,
    JobSpec,
    Limit,
    NotAccepted,
    Queue,
    Reaper,
    Receipt,
    StorageUnavailable,
)
from jobqueue.options import JobOptions
from jobqueue.schedules.firing import job_id as scheduled_id
from tests.chaos import clocks
from tests.chaos.ledger import Pen
from tests.chaos.loads import FLOW, said_by
from tests.chaos.orders import OTHER, QUEUE, TICK_SECONDS, Orders, job_id
from tests.support.handing import note_handed
from tests.support.sending import note_sent

_ORPHANED = 70


def open_queue(orders: Orders) -> Queue:
    """A new handle on the queue."""
    # So many attempts that no job fails only because its workers were killed.
    return Queue(
        QUEUE,
        orders.url,
        concurrency=orders.concurrency,
        lease=orders.lease,
        grace=orders.grace,
        max_attempts=100,
    )


Program: TypeAlias = Callable[[Orders, Pen], Awaitable[None]]


class _Noting(logging.Handler):
    """Notes what the library logs: what it warns of, and each run whose lease was lost."""

    def __init__(self, pen: Pen) -> None:
        super().__init__(logging.WARNING)
        self._pen = pen

    def emit(self, record: logging.LogRecord) -> None:
        text = str(record.msg)
        arguments = record.args if isinstance(record.args, tuple) else ()
        if "its outcome (%s) does not count" in text:
            self._pen.note("unheard", arguments[0])
        elif "its handler was stopped" in text:
            self._pen.note("stopped", arguments[0])
        elif "gave no sign of life" not in text:  # noted by a hook, with the attempt
            kind = "error" if record.levelno >= logging.ERROR else "warning"
            self._pen.note(kind, self.format(record))


async def work(orders: Orders, pen: Pen) -> None:
    """A worker."""
    queue = open_queue(orders)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)

    @queue.handler()
    async def task(job: Job) -> str:
        pen.note("start", job.id, job.attempt)
        try:
            await pen.kept()
            await asyncio.sleep((float(job.payload) + orders.linger_ms) / 1000)
        except asyncio.CancelledError:
            pen.note("cut", job.id, job.attempt)
            raise
        pen.note("end", job.id, job.attempt)
        await pen.kept()
        return job.id

    note_handed(
        queue.storage,
        lambda claim: pen.note("handed", claim.id, claim.attempt),
        lambda claim: pen.note("fetched", claim.id, claim.attempt),
    )

    @queue.on("completed")
    def settled(event: Event) -> None:
        pen.note("settled", event.id, event.attempt)

    @queue.on("cancelled")
    def dropped(event: Event) -> None:
        pen.note("dropped", event.id, event.attempt)

    @queue.on("stalled")
    def stalled(event: Event) -> None:
        pen.note("stalled", event.id, event.attempt)

    if orders.load == FLOW:
        # One of which there are no jobs: what each worker declares at its start.
        queue.handler("declared", limits=Limit(concurrency=1))(task)

    while not stopped.is_set():
        try:
            async with queue.worker():
                pen.note("ready")
                await stopped.wait()
        except StorageUnavailable:  # at its start; from then on it waits by itself
            await asyncio.sleep(0.1)
    pen.note("left")


async def reap(orders: Orders, pen: Pen) -> None:
    """A reaper of its own."""
    queue = open_queue(orders)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)

    @queue.on("stalled")
    def stalled(event: Event) -> None:
        pen.note("stalled", event.id, event.attempt)

    async with Reaper(queue.storage, QUEUE, registry=queue.registry, hooks=queue.hooks):
        await stopped.wait()


async def use(orders: Orders, pen: Pen) -> None:
    """A producer that makes every call there is, and ends."""
    pen.note("ready")
    async with open_queue(orders) as queue:
        await queue.enqueue_and_wait("task", 0, id="job-0")
        pen.note("accepted", "job-0")
        await pen.kept()
        receipt = await queue.enqueue("task", 0, id="job-1")
        pen.note("accepted", "job-1")
        await pen.kept()
        await receipt.result()
        await queue.enqueue("task", 0, id="delayed", delay=3600)
        await queue.cancel("delayed")
        await queue.get("job-0")
        await queue.set_result_ttl("job-0", 3600)
        await queue.counts()
    pen.note("left")


async def operate(orders: Orders, pen: Pen) -> None:
    """An operator who makes every call there is, takes all of them back, and ends."""
    pen.note("ready")
    async with open_queue(orders) as queue:
        other = Queue(OTHER, queue.storage)
        await queue.enqueue("task", 0, id="job-0", delay=3600)
        pen.note("accepted", "job-0")
        await pen.kept()
        await queue.pause()
        await queue.limits.set(Limit(concurrency=1), job_type="task")
        await queue.limits.list()
        await queue.schedules.upsert("yearly", Every(timedelta(days=365)), JobSpec("task", 0))
        await queue.schedules.pause("yearly")
        await queue.scheduled()
        await queue.run_now("job-0")
        await queue.schedules.delete("yearly")
        await queue.limits.remove(job_type="task")
        await queue.resume()
        # As it is after an obliterate that somebody began.
        await other.resume()
        job: JobSpec[Any] = JobSpec("task", 0, JobOptions(limit="customer", key="k"))
        await other.enqueue_many([job] * 3)
        await other.clear()
        await other.enqueue_many([job] * 3)
        await other.obliterate(OTHER)
    pen.note("left")


async def produce(orders: Orders, pen: Pen) -> None:
    """A producer that enqueues its jobs, each until it is accepted."""
    queue = open_queue(orders)
    gate = asyncio.Event()
    watcher = asyncio.create_task(_watch_backlog(queue, orders.backlog, gate, pen))
    batches = _batches(orders)

    async def send() -> None:
        for specs in batches:
            await gate.wait()
            receipts = await _until_accepted(lambda specs=specs: _enqueue(queue, specs), pen)
            for spec, receipt in zip(specs, receipts or (), strict=False):
                _note_receipt(pen, spec, receipt)
            await pen.kept()

    pen.note("ready")
    await asyncio.gather(*(send() for _ in range(orders.concurrency)))
    watcher.cancel()
    await asyncio.wait([watcher])
    await queue.close()


async def call(orders: Orders, pen: Pen) -> None:
    """A producer that waits for the result of each job."""
    queue = open_queue(orders)
    batches = _batches(orders, alone=True)

    async def send() -> None:
        for (spec,) in batches:
            id = spec.options.id
            # The latest moment at which it is stored is not known; this one is before it.
            pen.note("called", id)
            await pen.kept()
            try:
                result = await _until_accepted(
                    lambda spec=spec: queue.producer.call_spec(spec), pen
                )
            except JobNotFound:
                pen.note("gone", id)
            else:
                pen.note("answered" if result == id else "error", id)
                pen.note("accepted", id)
            await pen.kept()

    await asyncio.gather(*(send() for _ in range(orders.concurrency)))
    await queue.close()


async def trickle(orders: Orders, pen: Pen) -> None:
    """A producer that enqueues its jobs one by one, each when the workers are idle again."""
    queue = open_queue(orders)
    dice = random.Random(orders.seed)
    pen.note("ready")
    for specs in _batches(orders):
        for receipt in await _until_accepted(lambda specs=specs: _enqueue(queue, specs), pen) or ():
            pen.note("accepted", receipt.id)
        await pen.kept()
        await asyncio.sleep(dice.uniform(0, orders.pause))
    await queue.close()


async def call_alone(orders: Orders, pen: Pen) -> None:
    """A producer that calls one job after the other, each under an id that is made for it."""
    queue = open_queue(orders)
    dice = random.Random(orders.seed)
    note_sent(
        queue.storage,
        lambda job: pen.note("sent", job.id),
        lambda job: pen.note("made_sure", job.id),
    )

    async def send() -> Any:
        return await queue.enqueue_and_wait("task", dice.randint(*orders.sleep_ms))

    pen.note("ready")
    for (number,) in orders.batches:
        pen.note("called", str(number))
        id = await _until_accepted(send, pen)
        pen.note("answered", id)
        pen.note("accepted", id)
        await pen.kept()
        await asyncio.sleep(dice.uniform(0, orders.pause))
    await queue.close()


async def tick(orders: Orders, pen: Pen) -> None:
    """Stores a schedule, and deletes it when so many of its instants have been fired: each is noted
    as accepted when the schedule says that it made its job."""
    queue = open_queue(orders)
    schedules, period = queue.schedules, timedelta(seconds=TICK_SECONDS)
    job: JobSpec[Any] = JobSpec("task", 0)
    info = await _until_accepted(
        lambda: schedules.upsert("tick", Every(period), job, misfire="all"), pen
    )
    instant, count, is_over = info.next_at, 0, False
    while not is_over:
        if is_over := count >= orders.count:
            await _until_accepted(lambda: schedules.pause("tick"), pen)
        info = await _until_accepted(lambda: schedules.get("tick"), pen)
        while info.last_at is not None and instant <= info.last_at:
            pen.note("accepted", scheduled_id("tick", round(instant.timestamp() * 1000)))
            instant, count = instant + period, count + 1
        await pen.kept()
        await asyncio.sleep(0.02)
    await _until_accepted(lambda: schedules.delete("tick"), pen)
    await queue.close()


def _batches(orders: Orders, *, alone: bool = False) -> Iterator[list[JobSpec[Any]]]:
    """The jobs of each call; ``alone``: none of them gives way to another one."""
    randomly = random.Random(orders.seed)

    def spec(number: int) -> JobSpec[Any]:
        said = said_by(orders.load, number, keys=orders.keys, alone=alone)
        options = JobOptions(id=job_id(number), **said.options)
        return JobSpec(said.name, randomly.randint(*orders.sleep_ms), options)

    for numbers in orders.batches:
        yield [spec(number) for number in numbers]


async def _enqueue(queue: Queue, specs: list[JobSpec[Any]]) -> list[Receipt[Any]]:
    if len(specs) > 1:
        return await queue.enqueue_many(specs)
    return [await queue.producer.enqueue_spec(specs[0])]


def _note_receipt(pen: Pen, spec: JobSpec[Any], receipt: Receipt[Any]) -> None:
    if receipt.id == spec.options.id:
        pen.note("accepted", receipt.id)
    else:
        pen.note("merged", f"{spec.options.id} {receipt.id}")


async def _until_accepted(send: Callable[[], Awaitable[Any]], pen: Pen) -> Any:
    while True:
        try:
            return await send()
        except StorageUnavailable as error:
            pen.note("refused", f"{error.code}: {error}")
            await asyncio.sleep(0.05)
        except NotAccepted:
            await asyncio.sleep(0.05)
        except JobNotFound:
            raise
        except JobQueueError as error:
            pen.note("error", f"{error.code}: {error}")
            return None


async def _watch_backlog(queue: Queue, most: int, gate: asyncio.Event, pen: Pen) -> None:
    """Keep the gate open while there is room."""
    while True:
        counts = await _until_accepted(queue.counts, pen)
        if counts["queued"] < most:
            gate.set()
        else:
            gate.clear()
        await asyncio.sleep(0.02)


def main(program: str, orders: str) -> None:
    """Run one program in this process."""
    clocks.obey()
    given = Orders.loads(orders)
    pen = Pen(Path(given.folder))
    logging.getLogger("jobqueue").addHandler(_Noting(pen))

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(sys.stdin.fileno(), os._exit, _ORPHANED)
        if given.waits:
            told = asyncio.Event()
            loop.add_signal_handler(signal.SIGUSR1, told.set)
            # All is loaded then, as in a process that has long run.
            assert open_queue(given).name == QUEUE
            pen.note("waits")
            await told.wait()
        await PROGRAMS[program](given, pen)

    asyncio.run(run())
    pen.close()


PROGRAMS: dict[str, Program] = {
    "work": work,
    "reap": reap,
    "produce": produce,
    "call": call,
    "trickle": trickle,
    "call_alone": call_alone,
    "use": use,
    "operate": operate,
    "tick": tick,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
