"""One run of a scenario by one queue, whichever it is."""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from jobqueue import StorageError
from tests.chaos import faults
from tests.chaos.faults import at, at_moments, while_busy
from tests.chaos.fleet import Fleet
from tests.chaos.orders import Orders
from tests.chaos.peers.systems import LEASE, System
from tests.chaos.peers.verdict import Account, Tally
from tests.chaos.stage import Persistence, Size, Stage, Where, stage
from tests.support.servers import ServerBinary

_LOOK_EVERY: Final = 0.02
_CENSUS_EVERY: Final = 1.0
_PATIENCE: Final = 60.0
"""Seconds at least in which no job of the run ends before those left are called stranded; three
recovery times if that is more. After half of it new jobs come, for queues that rescue old ones only
while they get new ones."""
_NEW_JOBS: Final = 30
_NEW_JOBS_EVERY: Final = 1.0
_LONGEST: Final = 600.0
"""Seconds after the last fault, even if something still happens."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A scenario at the size that all queues can be given.

    Attributes:
        name: Its number in the campaign.
        title: What it does.
        jobs: Jobs that are enqueued.
        plan: What is done meanwhile.
        times: How often, where that is counted.
        sleep_ms: Shortest and longest run of a handler.
        backlog: Producers wait while more jobs are not yet run.
        workers: Worker processes.
        concurrency: Jobs that each runs at a time.
        rounds: How often it is done, as it has few jobs.
    """

    name: str
    title: str
    jobs: int
    plan: faults.Plan
    times: int = 0
    sleep_ms: tuple[int, int] = (0, 20)
    backlog: int = 200
    workers: int = 4
    concurrency: int = 5
    rounds: int = 1


TRIALS: Final = {
    trial.name: trial
    for trial in (
        # Handlers that sleep so long that every queue is busy until the last kill.
        Trial(
            name="S1",
            title="workers killed",
            jobs=5_000,
            times=20,
            sleep_ms=(0, 400),
            plan=at_moments(faults.kill_working_worker),
        ),
        # So few that a sweep that takes five seconds for a job is done within ten minutes.
        Trial(
            name="S5",
            title="all connections killed every 5 ms",
            jobs=250,
            plan=while_busy(faults.kill_connections, 0.005, most=8),
        ),
        # Not in the campaign: connections that live long enough for something to be under way.
        Trial(
            name="S5b",
            title="all connections killed every 100 ms",
            jobs=500,
            sleep_ms=(0, 400),
            plan=while_busy(faults.kill_connections, 0.1, most=0.6),
        ),
        Trial(
            name="S9",
            title="half of the workers frozen for 3 leases",
            jobs=100,
            sleep_ms=(100, 900),
            backlog=40,
            rounds=2,
            plan=at(0.5, faults.freeze_workers),
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class Result:
    """One run."""

    trial: str
    system: str
    server: str
    seed: int
    tally: Tally
    faults: dict[str, int]
    during_faults: int
    """Jobs that had ended when the last fault was over."""
    given_up: bool
    """Jobs still ended now and then when the longest time was over."""
    needed_new_jobs: int
    """Jobs that were not run until new ones came."""
    drained_in: float
    """Seconds from the last fault to the last job's end."""
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return {
            "scenario": self.trial,
            "system": self.system,
            "server": self.server,
            "seed": self.seed,
            **self.tally.as_dict(),
            "faults": self.faults,
            "during_faults": self.during_faults,
            "given_up": self.given_up,
            "needed_new_jobs": self.needed_new_jobs,
            "drained_in": round(self.drained_in, 2),
            "took": round(self.seconds, 1),
        }


async def run(
    trial: Trial,
    system: System,
    *,
    seed: int,
    scale: float,
    binary: ServerBinary,
    keep: Path | None = None,
) -> Result:
    """Run a scenario.

    Args:
        trial: Which.
        system: By whom.
        seed: Of all that is drawn.
        scale: Part of the full size.
        binary: The server.
        keep: A folder for the ledgers of the run.

    Raises:
        benchmarks.envs.NotInstalled: The queue's environment cannot be made.
    """
    began = time.monotonic()
    size = Size(
        jobs=max(20, round(trial.jobs * scale)),
        times=min(trial.times, max(2, round(trial.times * scale))),
        workers=trial.workers,
        lease=system.recovery,
        seconds=0.0,
    )
    programs = await asyncio.to_thread(lambda: system.programs)
    async with stage(Where.SERVER, binary, Persistence.NONE, size, seed) as place:
        place.fleet = Fleet(place.ledger, place.pen, programs)
        performance = _Performance(trial, system, place)
        try:
            return replace(await performance.run(), seconds=time.monotonic() - began)
        finally:
            if keep is not None:
                folder = keep / f"{trial.name}-{system.name}-{seed}"
                shutil.copytree(place.ledger.folder, folder, dirs_exist_ok=True)


def _gathered(problems: list[str]) -> list[tuple[str, int]]:
    """Problems without the number of the process, by how often they come; their last words only."""
    shortened = (f"{each.partition(': ')[0]}: {each.rpartition(' | ')[2]}" for each in problems)
    return Counter(re.sub(r"process \d+ ", "", each) for each in shortened).most_common()


class _Performance:
    """Starts everybody, does harm, and waits as long as there is hope."""

    def __init__(self, trial: Trial, system: System, place: Stage) -> None:
        self.trial = trial
        self.system = system
        self.place = place
        self.ids = {f"job-{number}" for number in range(place.size.jobs)}
        self.patience = max(_PATIENCE, 3 * system.recovery)
        self.waited = set[str]()
        """What was not yet run when new jobs came."""
        self.during_faults = 0
        self.given_up = False
        self.ended = -1
        self.ended_at = self.harmed_at = time.monotonic()
        self.orders = Orders(
            url=place.home.url,
            folder=str(place.ledger.folder),
            lease=LEASE,
            concurrency=trial.concurrency,
            sleep_ms=trial.sleep_ms,
        )

    async def run(self) -> Result:
        place, trial = self.place, self.trial
        await place.fleet.start_workers(place.size.workers, self.orders)
        for half in range(2):
            first, end = half * place.size.jobs // 2, (half + 1) * place.size.jobs // 2
            self._start_producer(first, end - first, trial.backlog)
        problems = await self._do_harm()
        held = await self._drain()
        ended_at = max(
            (entry.at for entry in place.ledger.of("end") if entry.about in self.ids),
            default=self.harmed_at,
        )
        problems += place.fleet.deserters()
        problems += await place.fleet.stop_workers()
        account = Account(
            place.ledger,
            jobs=place.size.jobs,
            recovery=self.system.recovery,
            lease=LEASE,
        )
        tally = account.judge(held)
        tally.died = place.ledger.counts["died"]
        tally.producers_died = place.ledger.counts["producer_died"]
        tally.examples += [f"{times} times: {each}" for each, times in _gathered(problems)]
        return Result(
            trial=trial.name,
            system=self.system.name,
            server=place.server.binary.label,
            seed=place.seed,
            tally=tally,
            faults=place.faults,
            during_faults=self.during_faults,
            given_up=self.given_up,
            needed_new_jobs=len(self.waited & place.ledger.ended),
            drained_in=max(0.0, ended_at - self.harmed_at),
            seconds=0.0,
        )

    def _start_producer(self, first: int, count: int, backlog: int) -> None:
        dice = self.place.dice(f"payloads {first}")
        orders = replace(
            self.orders,
            first=first,
            count=count,
            backlog=backlog,
            seed=dice.getrandbits(32),
        )
        self.place.fleet.start_producer("produce", orders)

    async def _do_harm(self) -> list[str]:
        """Until the producers and the faults are done, or nothing happens any more."""
        harm = asyncio.create_task(self.trial.plan(self.place))
        harm.add_done_callback(self._harm_is_over)
        while self.place.fleet.producing or not harm.done():
            self._look()
            if time.monotonic() - self.ended_at > 2 * self.patience:
                harm.cancel()
                await asyncio.wait([harm])
                return [f"nothing happened for {2 * self.patience:g} s, and the faults were ended"]
            if harm.done():
                harm.result()
            await asyncio.sleep(_LOOK_EVERY)
        return []

    def _harm_is_over(self, harm: asyncio.Task[None]) -> None:
        self.harmed_at = time.monotonic()
        self.during_faults = self.ended

    async def _drain(self) -> set[str]:
        """Wait until the queue holds nothing, or nothing happens; what it still holds."""
        began = self.ended_at = time.monotonic()
        asked_at, held = 0.0, self.ids
        came = False
        while time.monotonic() - self.ended_at < self.patience:
            self._look()
            now = time.monotonic()
            if now - began > _LONGEST:
                self.given_up = True
                break
            if now - asked_at > _CENSUS_EVERY:
                with suppress(RedisError, StorageError):  # the last fault may have cut it off too
                    held = await self._ask()
                asked_at = time.monotonic()
                if not held:
                    break
            if not came and now - self.ended_at > self.patience / 2:
                came = True
                self.waited = self.ids - self.place.ledger.ended
                self._start_trickle()
            await asyncio.sleep(_LOOK_EVERY)
        return held

    async def _ask(self) -> set[str]:
        """What the queue still holds."""
        async with Redis.from_url(self.place.server.url) as admin:
            return await self.system.held(admin, self.ids)

    def _start_trickle(self) -> None:
        """New jobs, one after the other: a producer that has one under way, and each waits."""
        orders = replace(
            self.orders,
            concurrency=1,
            first=self.place.size.jobs,
            count=_NEW_JOBS,
            backlog=1_000_000,
            pause=_NEW_JOBS_EVERY,
        )
        self.place.fleet.start_producer("produce", orders)

    def _look(self) -> None:
        """Read the ledger, start again what has ended, and see whether something happened."""
        self.place.ledger.refresh()
        self.place.fleet.revive()
        ended = len(self.place.ledger.ended & self.ids)
        if ended != self.ended:
            self.ended, self.ended_at = ended, time.monotonic()
