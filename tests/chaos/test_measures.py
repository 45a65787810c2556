"""The measures in small; ``make chaos`` takes them at their full size."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import manners, soak
from tests.chaos.finding import Course
from tests.chaos.soaking import CALLS, JOBS_OF_A_ROUND
from tests.support.backends import Backend, BackendEntry
from tests.support.servers import ServerPool


@pytest.fixture
def course(
    backend: Backend, request: pytest.FixtureRequest, servers: ServerPool, tmp_path: Path
) -> Course:
    entry: BackendEntry = request.node.callspec.params["backend"]
    return Course(entry=entry, folder=tmp_path, servers=servers, seed=0, scale=0)


@pytest.mark.storages("redis")
@pytest.mark.timeout(180)  # two processes start first, which takes long where others do too
async def test_of_thousands_of_jobs_nothing_is_left(course: Course) -> None:
    warm_up, rounds = 4, 8
    before, after = await soak.before_and_after(course, warm_up, rounds)
    for name in ("keys", "clients"):
        assert after.storage[name] <= before.storage[name]
    for first, last in ((before.worker, after.worker), (before.producer, after.producer)):
        assert last["descriptors"] <= first["descriptors"]
        # One object of each call that stays is as many; what comes and goes is a third of it.
        assert last["blocks"] - first["blocks"] < rounds * sum(CALLS.values())
    # Bytes of the server.
    assert after.storage["memory"] - before.storage["memory"] < 50 * rounds * JOBS_OF_A_ROUND


@pytest.mark.storages("sqlite", "redis")
@pytest.mark.parametrize("name", ["swallow", "stick"])
async def test_a_handler_cannot_hold_up_the_end_of_its_process(
    course: Course, backend: Backend, name: str
) -> None:
    end = await manners.end_of_worker(course, backend.url, name, 0)
    assert end.beyond < 5, end  # one is promised; the machine may be busy
    # One that is much too busy has the worker end by force before it could give the job back.
    assert (end.code, end.state, end.attempt) in ((0, "queued", 0), (1, "running", 1)), end
