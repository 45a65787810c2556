"""What the jobs of a run say about when they may start, and what holds for their queue.

A job says the same whenever it is asked for by its number: a producer that takes over from one that
was killed sends the same jobs.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from jobqueue import Debounce, Every, JobSpec, KeepLast, Limit, Queue, Rate, Throttle, Unique
from jobqueue.options import JobOptions

CUSTOMER: Final = "customer"
"""The limit by key that lets one job of a key run at a time, for as long as a run lasts."""
TENANT: Final = "tenant"
"""The limit by key that is changed now and then."""
CUSTOMERS: Final = 50
JOBS_OF_A_KEY: Final = 100
"""Where jobs say nothing but their key."""
SINGLE: Final = "single"
RATED: Final = "rated"
RATE: Final = 300
BUCKET: Final = Rate(200, kind="bucket", burst=10)
WINDOW: Final = Rate(200)
RULES: Final[dict[str, dict[str, Any]]] = {
    "unique": {"unique": Unique(by=())},
    "throttled": {"throttle": Throttle(0.2)},
    "debounced": {"debounce": Debounce(0.05, max_wait=0.3)},
    "latest": {"keep_last": KeepLast()},
}
"""By job type: all its jobs are the same."""
LONG: Final = 3_600.0
"""Seconds in which a job that is to run does start."""


class Schedule(NamedTuple):
    """A schedule of a run.

    Attributes:
        period: Seconds from one instant to the next.
        run_ms: How long its jobs run.
        is_whole: Each of its instants makes a job that is run to its end.
    """

    period: float
    run_ms: int
    is_whole: bool


SCHEDULES: Final = {
    "allow": Schedule(0.1, 5, True),
    "queue": Schedule(0.25, 20, True),
    "skip": Schedule(0.2, 150, False),
    "replace": Schedule(0.3, 250, False),
}
"""By their policy for overlaps, which is their id too."""
REPLACED: Final = "replace@"
"""How the ids of jobs begin that may be cancelled for the next one of their schedule."""


def spec_of_schedule(name: str) -> JobSpec[Any]:
    """What each instant of a schedule enqueues."""
    return JobSpec("task", SCHEDULES[name].run_ms, JobOptions(expires=LONG))


class Said(NamedTuple):
    """What one job says.

    Attributes:
        name: Its job type.
        options: Those of its enqueue.
    """

    name: str
    options: dict[str, Any]


def _nothing(number: int) -> Said:
    return Said("task", {})


def _of_one_customer(number: int) -> Said:
    """One job of each key, then the next one of each, whatever the keys are."""
    return Said("task", {"limit": CUSTOMER})


def _rated(number: int) -> Said:
    return Said(RATED, {})


def _something(number: int) -> Said:
    dice = random.Random(number)
    if dice.random() < 0.2:
        return Said("task", {})
    options: dict[str, Any] = {"priority": dice.choice(("high", "normal", "normal", "low"))}
    if dice.random() < 0.3:
        options["group"] = f"group-{dice.randrange(5)}"
    if dice.random() < 0.2:
        options["expires"] = LONG
    limit = dice.random()
    if limit < 0.4:
        options |= {"limit": CUSTOMER, "key": f"{dice.randrange(CUSTOMERS)}"}
    elif limit < 0.55:
        options |= {"limit": TENANT, "key": f"{dice.randrange(10)}"}
    kind = dice.random()
    if kind < 0.1:
        name = dice.choice(list(RULES))
        return Said(name, options | RULES[name])
    if kind < 0.2:
        options["delay"] = dice.uniform(0.01, 0.5)
    elif kind < 0.3:
        options["run_at"] = datetime.now(UTC) + timedelta(seconds=dice.uniform(0, 0.5))
    return Said(
        SINGLE if dice.random() < 0.05 else RATED if dice.random() < 0.05 else "task", options
    )


@dataclass(frozen=True, kw_only=True)
class Load:
    """What the jobs of a run are like.

    Attributes:
        say: What a job says, by its number.
        by_key: Limits by key, by their names.
        by_type: Limits of job types.
        schedules: Names of the schedules.
        is_directed: What holds for the queue is changed all the time.
        is_at_its_rate: There is always more to do than the rate lets start.
    """

    say: Callable[[int], Said] = _nothing
    by_key: dict[str, Limit] = field(default_factory=dict)
    by_type: dict[str, Limit] = field(default_factory=dict)
    schedules: tuple[str, ...] = ()
    is_directed: bool = False
    is_at_its_rate: bool = False

    async def declare(self, queue: Queue) -> None:
        """See to it that limits and schedules are in force; they may be already."""
        for name, limit in self.by_key.items():
            await queue.limits.set(limit, key=name)
        for name, limit in self.by_type.items():
            await queue.limits.set(limit, job_type=name)
        for name in self.schedules:
            schedule = SCHEDULES[name]
            await queue.schedules.upsert(
                name,
                Every(schedule.period),
                spec_of_schedule(name),
                misfire="all",
                overlap=name,
            )


_ONE_EACH: Final = {CUSTOMER: Limit(concurrency=1)}

PLAIN: Final = "plain"
LONE: Final = "lone"
"""As plain, and never anything else: where a job says when it may start, none is handed over."""
FLOW: Final = "flow"
LOADS: Final = {
    PLAIN: Load(),
    LONE: Load(),
    FLOW: Load(
        say=_something,
        by_key={**_ONE_EACH, TENANT: Limit(concurrency=3)},
        by_type={SINGLE: Limit(concurrency=3), RATED: Limit(rate=Rate(RATE))},
        schedules=tuple(SCHEDULES),
        is_directed=True,
    ),
    "keys": Load(say=_of_one_customer, by_key=_ONE_EACH),
    "bucket": Load(say=_rated, by_type={RATED: Limit(rate=BUCKET)}, is_at_its_rate=True),
    "window": Load(say=_rated, by_type={RATED: Limit(rate=WINDOW)}, is_at_its_rate=True),
}


def said_by(load: str, number: int, *, keys: int = 0, alone: bool = False) -> Said:
    """What a job of a load says.

    Args:
        load: Its name.
        number: The job's.
        keys: Of so many, where it says nothing but its key.
        alone: It must not give way to another job, as one whose result is awaited.
    """
    said = LOADS[load].say(number)
    if said.options.keys() == {"limit"}:
        return Said(said.name, said.options | {"key": f"{number % keys}"})
    if alone and said.name in RULES:
        options = {
            name: said.options[name] for name in said.options if name not in RULES[said.name]
        }
        return Said("task", options)
    return said
