"""Who changes what holds for a queue, all the time, while others work: pauses, limits, schedules;
and who enqueues jobs that expire while nobody works."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final, TypeAlias

from jobqueue import JobSpec, Limit, NotAccepted, Queue, Rate, ScheduleNotFound, StorageUnavailable
from jobqueue.options import JobOptions
from tests.chaos.loads import CUSTOMER, CUSTOMERS, LOADS, SINGLE, TENANT
from tests.chaos.orders import Orders
from tests.chaos.programs import open_queue
from tests.chaos.stage import Stage

Act: TypeAlias = Callable[[Queue], Awaitable[Any]]

DOOMED: Final = "doomed-"
"""How the ids of jobs begin that expire while the queue is paused."""
_EXPIRES: Final = 0.2
_PATIENCE: Final = 3
"""Refusals after which an act that may be left out is left out."""


class Director:
    """Directs one run.

    Args:
        place: Where.
        orders: Of the queue.
    """

    def __init__(self, place: Stage, orders: Orders) -> None:
        self._place = place
        self._orders = replace(orders, concurrency=1)
        self._load = LOADS[orders.load]
        self._dice: random.Random = place.dice("director")
        self._doomed = 0
        self._is_over = False
        self._declared_after = 0

    async def begin(self) -> None:
        """Put limits and schedules in force."""
        await self._must(self._load.declare)
        self._place.pen.note("declared")

    async def direct(self) -> None:
        """Change something, again and again, until :meth:`stop`; each change to its end."""
        if not self._load.is_directed:
            return
        acts = (
            *(self._pause, self._doom, self._doom, self._limit_queue, self._limit_others),
            *(self._bound, self._drain, self._share, self._hurry, self._rest, self._run_now),
        )
        act: Callable[[], Awaitable[None]] = self._doom  # so that each run has some
        while not self._is_over:
            await self._declare_again()
            await asyncio.sleep(self._dice.uniform(0.05, 0.3))
            await act()
            act = self._dice.choice(acts)

    def stop(self) -> None:
        """Let :meth:`direct` return soon."""
        self._is_over = True

    async def end(self) -> None:
        """Let all that waits run, and nothing new come."""
        await self._declare_again()
        for name in self._load.schedules:
            await self._must(lambda queue, name=name: queue.schedules.pause(name))
        if self._load.is_directed:
            await self._must(lambda queue: queue.resume())
            await self._must(lambda queue: queue.set_max_length(None))

    async def _declare_again(self) -> None:
        """What a server has forgotten is put in force again."""
        counts = self._place.ledger.counts
        forgotten = counts["server_up"] + counts["forgot"]
        if forgotten > self._declared_after:
            await self.begin()
            self._declared_after = forgotten

    # -- acts ------------------------------------------------------------------------------------

    async def _pause(self) -> None:
        await self._may(lambda queue: queue.pause())
        await asyncio.sleep(self._dice.uniform(0.02, 0.3))
        await self._must(lambda queue: queue.resume())

    async def _doom(self) -> None:
        """Enqueue jobs that expire before anybody may start them."""
        paused = await self._may(lambda queue: queue.pause())
        if paused:
            specs = [self._doomed_spec() for _ in range(self._dice.randint(1, 10))]
            if await self._may(lambda queue: queue.enqueue_many(specs)):
                for spec in specs:
                    self._place.pen.note("accepted", spec.options.id)
                await asyncio.sleep(1.5 * _EXPIRES)
        await self._must(lambda queue: queue.resume())

    def _doomed_spec(self) -> JobSpec[Any]:
        dice = self._dice
        options: dict[str, Any] = {"priority": dice.choice(("high", "normal", "low"))}
        options |= dice.choice(({}, {"group": "group-1"}, {"delay": _EXPIRES / 2}))
        if dice.random() < 0.5:
            options |= {"limit": CUSTOMER, "key": f"{dice.randrange(CUSTOMERS)}"}
        self._doomed += 1
        id = f"{DOOMED}{self._doomed}"
        return JobSpec("task", 0, JobOptions(id=id, expires=_EXPIRES, **options))

    async def _limit_queue(self) -> None:
        dice = self._dice
        limit = dice.choice(
            (
                None,
                Limit(concurrency=dice.randint(2, 80)),
                Limit(rate=Rate(dice.randint(500, 5000))),
            )
        )
        if limit is None:
            await self._may(lambda queue: queue.limits.remove())
        else:
            await self._may(lambda queue: queue.limits.set(limit))

    async def _limit_others(self) -> None:
        number = self._dice.randint(1, 5)
        name = self._dice.choice(({"key": TENANT}, {"job_type": SINGLE}))
        await self._may(lambda queue: queue.limits.set(Limit(concurrency=number), **name))

    async def _bound(self) -> None:
        most = self._dice.choice((None, self._dice.randint(20, 1000)))
        await self._may(lambda queue: queue.set_max_length(most))

    async def _drain(self) -> None:
        await self._may(lambda queue: queue.drain())
        await asyncio.sleep(self._dice.uniform(0.02, 0.1))
        await self._must(lambda queue: queue.resume())

    async def _share(self) -> None:
        share = self._dice.choice((None, 0.1, 0.5))
        await self._may(lambda queue: queue.set_low_share(share))

    async def _hurry(self) -> None:
        """Let a job that waits for its time start at once, or a little later."""

        async def hurry(queue: Queue) -> None:
            for info in (await queue.scheduled(5))[-1:]:
                self._place.pen.note("hurried", info.id)
                await queue.reschedule(info.id, self._dice.choice((0, 0.05)))

        await self._may(hurry)

    async def _rest(self) -> None:
        """Pause a schedule for some time."""
        name = self._dice.choice(("skip", "replace"))
        await self._may(lambda queue: queue.schedules.pause(name))
        await asyncio.sleep(self._dice.uniform(0.02, 0.3))
        await self._may(lambda queue: queue.schedules.resume(name))

    async def _run_now(self) -> None:
        async def run(queue: Queue) -> None:
            receipt = await queue.schedules.run_now("queue")
            self._place.pen.note("accepted", receipt.id)

        await self._may(run)

    # -- how -------------------------------------------------------------------------------------

    async def _may(self, act: Act) -> bool:
        """Do something if the storage lets us; whether it did."""
        for _ in range(_PATIENCE):
            if await self._tried(act):
                return True
        return False

    async def _must(self, act: Act) -> None:
        while not await self._tried(act):
            pass

    async def _tried(self, act: Act) -> bool:
        """Each act has a handle of its own: between two, nobody else may have the storage open."""
        try:
            async with open_queue(self._orders) as queue:
                await act(queue)
        except StorageUnavailable as error:
            self._place.pen.note("refused", f"{error.code}: {error}")
        except (NotAccepted, ScheduleNotFound):
            pass  # the queue is full, or what was declared has been forgotten
        else:
            return True
        await asyncio.sleep(0.05)
        return False
