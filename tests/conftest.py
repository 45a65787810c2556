"""Fixtures over every storage and every real server of this machine."""

from __future__ import annotations

import signal
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support import variants  # first of all: it decides what can be imported

# isort: split
from jobqueue.storage.base import Storage
from tests.support.backends import Backend, BackendEntry, MakeStorage, entries
from tests.support.clock import ManualClock
from tests.support.servers import NoServerFound, ServerNotStarted, ServerPool

pytest.register_assert_rewrite("tests.integration.census")  # which others import too


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--storage",
        action="append",
        default=[],
        metavar="PREFIX",
        help="run on the storages whose label starts so (memory, sqlite, redis, valkey, ...)",
    )


def pytest_configure(config: pytest.Config) -> None:
    # Ended from outside, the run still ends its servers.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    config.addinivalue_line(
        "markers",
        "leaves_keys(pattern, reason): the test leaves keys on the server that match the regular "
        "expression and break the rules for keys, for this reason",
    )
    config.addinivalue_line(
        "markers", "storages(*kinds): only for storages of these kinds (memory, sqlite, redis)"
    )


def pytest_report_header() -> str:
    return f"variant: {', '.join(sorted(variants.VARIANT)) or 'as installed'}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" not in metafunc.fixturenames:
        return
    try:
        columns = entries()
    except (NoServerFound, ServerNotStarted) as error:
        raise pytest.UsageError(str(error)) from error
    wanted = tuple(metafunc.config.getoption("--storage"))
    if wanted:
        columns = [entry for entry in columns if entry.label.startswith(wanted)]
    for marker in metafunc.definition.iter_markers("storages"):
        columns = [entry for entry in columns if entry.kind in marker.args]
    metafunc.parametrize("backend", columns, ids=lambda entry: entry.label, indirect=True)


@pytest.fixture(scope="session")
def servers() -> Iterator[ServerPool]:
    """The servers of this test process: one for each binary, started when first used."""
    pool = ServerPool()
    yield pool
    pool.stop()


@pytest.fixture
def backend(
    request: pytest.FixtureRequest, servers: ServerPool, tmp_path: Path
) -> Iterator[Backend]:
    """An empty place for jobs. Afterwards, nothing may be left that would stay for ever."""
    entry: BackendEntry = request.param
    place = entry.make(tmp_path, servers)
    try:
        yield place
        faults = place.faults(_allowed_keys(request))
    finally:
        place.close()
    if faults:
        pytest.fail("left on the server:\n  " + "\n  ".join(faults), pytrace=False)


def _allowed_keys(request: pytest.FixtureRequest) -> list[str]:
    patterns: list[str] = []
    for marker in request.node.iter_markers("leaves_keys"):
        pattern, reason = marker.args[0], marker.kwargs["reason"]
        assert reason, "leaves_keys needs a reason"
        patterns.append(pattern)
    return patterns


@pytest.fixture
def clock(backend: Backend) -> ManualClock:
    """The storage's clock; it moves only by ``await clock.advance(ms)``.

    A test that asks for it gets storages that use it; the others run in real time.
    """
    return ManualClock(backend.age)


@pytest.fixture
async def make_storage(
    backend: Backend, request: pytest.FixtureRequest
) -> AsyncIterator[MakeStorage]:
    """Makes open handles on the same place, as further processes would have them."""
    now = request.getfixturevalue("clock").now if "clock" in request.fixturenames else None
    handles: list[Storage] = []

    async def make() -> Storage:
        handle = backend.handle(now)
        await handle.open()
        handles.append(handle)
        return handle

    yield make
    for handle in reversed(handles):
        await handle.close()


@pytest.fixture
async def storage(make_storage: MakeStorage) -> Storage:
    """An open storage; the contract suite runs on each kind."""
    return await make_storage()
