"""Short questions that the integration tests ask a queue."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager

from jobqueue import JobInfo, Queue
from tests.support.wait import wait_until


async def info_of(queue: Queue, id: str) -> JobInfo:
    """The job, which must be there."""
    info = await queue.get(id)
    assert info is not None, f"there is no job {id!r}"
    return info


async def until_state(queue: Queue, id: str, state: str, timeout: float = 5.0) -> JobInfo:
    """Wait until the job is in this state."""

    async def there() -> JobInfo | None:
        info = await queue.get(id)
        return info if info is not None and info.state == state else None

    return await wait_until(there, timeout, f"job {id!r} is {state}")


async def counted(queue: Queue) -> dict[str, int]:
    """The states with any job in them."""
    return {state: number for state, number in (await queue.counts()).items() if number}


async def until_counted(queue: Queue, timeout: float = 5.0, **expected: int) -> None:
    """Wait until there are exactly these numbers of jobs."""

    async def as_expected() -> bool:
        return await counted(queue) == expected

    try:
        await wait_until(as_expected, timeout, f"counts are {expected}")
    except AssertionError as error:
        raise AssertionError(f"{error}; they are {await counted(queue)}") from None


@contextmanager
def takes_at_most(seconds: float) -> Generator[None]:
    """Fail when the block takes longer."""
    started = time.monotonic()
    yield
    took = time.monotonic() - started
    assert took <= seconds, f"took {took:.3f} s, {seconds:g} s are allowed"
