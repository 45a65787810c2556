"""The measures in small; ``make chaos`` takes them at their full size."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import manners, soak
from tests.chaos.finding import Course, Finding
from tests.chaos.soaking import JOBS_OF_A_ROUND
from tests.support.backends import Backend, BackendEntry
from tests.support.servers import ServerPool


@pytest.fixture
def course(
    backend: Backend, request: pytest.FixtureRequest, servers: ServerPool, tmp_path: Path
) -> Course:
    entry: BackendEntry = request.node.callspec.params["backend"]
    return Course(entry=entry, folder=tmp_path, servers=servers, seed=0, scale=0)


@pytest.mark.storages("redis")
async def test_of_thousands_of_jobs_nothing_is_left(course: Course) -> None:
    warm_up, rounds = 4, 8
    before, after = await soak.before_and_after(course, warm_up, rounds)
    for name in ("keys", "clients"):
        assert after.storage[name] <= before.storage[name]
    for first, last in ((before.worker, after.worker), (before.producer, after.producer)):
        assert last["descriptors"] <= first["descriptors"]
        # A quarter of an object a job would be a leak of one object of every kind of job but one.
        assert last["blocks"] - first["blocks"] < rounds * JOBS_OF_A_ROUND / 4
    # Bytes of the server.
    assert after.storage["memory"] - before.storage["memory"] < 50 * rounds * JOBS_OF_A_ROUND


@pytest.mark.storages("sqlite", "redis")
@pytest.mark.parametrize("name", ["swallow", "stick"])
async def test_a_handler_cannot_hold_up_the_end_of_its_process(
    course: Course, backend: Backend, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manners, "BEYOND", 5.0)  # one is promised; the machine may be busy
    finding = Finding()
    await manners.stops(course, backend.url, name, 1, finding)
    assert finding.problems == []
