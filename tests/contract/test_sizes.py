"""Specs and values of every size come back whole, and leave nothing of a longer one before them."""

from __future__ import annotations

import pytest

from jobqueue.states import CancelResult, JobState
from jobqueue.storage.base import Storage
from jobqueue.storage.types import INLINE_BYTES
from tests.support.clock import ManualClock
from tests.support.jobs import (
    cancel,
    claim_one,
    completed,
    enqueue,
    failed,
    new_job,
    recover,
    result,
    retrying,
    run_one,
    stored,
)

SIZES = [0, 1, 63, 64, 65, 127, 128, 129, 191, 192, 193, 255, 256, 257, 320, 70_000]


def blob(size: int, seed: int = 0) -> bytes:
    """Bytes in which a missing or misplaced part shows."""
    return bytes((i * 7 + i // 64 + seed) % 256 for i in range(size))


@pytest.mark.parametrize("size", SIZES)
async def test_a_spec_is_claimed_and_read_as_it_was_stored(storage: Storage, size: int) -> None:
    await enqueue(storage, new_job("a", spec=blob(size)))
    assert (await stored(storage, "a")).spec == blob(size)
    assert (await claim_one(storage)).spec == blob(size)


@pytest.mark.parametrize("size", SIZES)
async def test_a_spec_is_recovered_as_it_was_stored(
    storage: Storage, clock: ManualClock, size: int
) -> None:
    await enqueue(storage, new_job("a", spec=blob(size)))
    await claim_one(storage, lease_ms=100)
    await clock.advance(100)
    (job,) = await recover(storage, 10)
    assert job.spec == blob(size)


@pytest.mark.parametrize("size", SIZES)
async def test_a_value_is_read_as_it_was_stored(storage: Storage, size: int) -> None:
    await enqueue(storage, "a")
    await run_one(storage, completed(blob(size)))
    assert await result(storage, "a") == (JobState.COMPLETED, blob(size))
    assert (await stored(storage, "a")).value == blob(size)
    (again,) = await enqueue(storage, "a")
    assert again.value == (blob(size) if size <= INLINE_BYTES else None)


@pytest.mark.parametrize("longer", [65, 200, 256, 1_000])
@pytest.mark.parametrize("shorter", [0, 10, 64, 130])
async def test_a_value_leaves_nothing_of_the_one_before(
    storage: Storage, longer: int, shorter: int
) -> None:
    await enqueue(storage, "a")
    await run_one(storage, retrying(0, value=blob(longer)))
    await run_one(storage, failed(blob(shorter, seed=3)))
    assert await result(storage, "a") == (JobState.FAILED, blob(shorter, seed=3))
    assert (await stored(storage, "a")).value == blob(shorter, seed=3)


async def test_a_cancel_leaves_nothing_of_the_error_before(storage: Storage) -> None:
    await enqueue(storage, "a")
    await run_one(storage, retrying(60_000, value=blob(250)))
    assert await cancel(storage, "a", value=b"no") == [CancelResult.CANCELLED]
    assert await result(storage, "a") == (JobState.CANCELLED, b"no")
