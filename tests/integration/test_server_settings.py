"""A server that is set up so that jobs may be lost, or is too old: who opens it is told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobqueue import ConfigurationError
from jobqueue.storage.redis import server as server_module
from jobqueue.storage.redis.server import check_version, warn_about_settings
from tests.integration.test_cli import project_in
from tests.support.backends import MakeStorage, RedisBackend
from tests.support.servers import server

SAFE = {"maxmemory": "100mb", "maxmemory-policy": "noeviction", "appendonly": "yes"}


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_told", set())


@pytest.fixture
def settings(backend: RedisBackend) -> Iterator[dict[str, str]]:
    """Settings of the server, safe ones; what a test sets is taken back."""
    before = backend.admin.config_get(*SAFE)
    chosen = dict(SAFE)
    yield chosen
    backend.admin.config_set(*[word for pair in before.items() for word in pair])


async def told_by(
    backend: RedisBackend,
    make_storage: MakeStorage,
    settings: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> list[tuple[int, str]]:
    backend.admin.config_set(*[word for pair in settings.items() for word in pair])
    with caplog.at_level(logging.INFO, "jobqueue"):
        for _ in range(3):
            storage = await make_storage()
    return [
        (record.levelno, record.getMessage())
        for record in caplog.records
        if record.name == "jobqueue" and storage.url in record.getMessage()
    ]


@pytest.mark.storages("redis")
async def test_a_safe_server_is_not_worth_a_word(
    backend: RedisBackend,
    make_storage: MakeStorage,
    settings: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert await told_by(backend, make_storage, settings, caplog) == []


@pytest.mark.storages("redis")
@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_a_server_that_evicts_is_warned_of_once(
    backend: RedisBackend,
    make_storage: MakeStorage,
    settings: dict[str, str],
    caplog: pytest.LogCaptureFixture,
    policy: str,
) -> None:
    settings["maxmemory-policy"] = policy
    ((level, message),) = await told_by(backend, make_storage, settings, caplog)
    assert level == logging.WARNING
    assert f"maxmemory-policy {policy}" in message
    assert "Set maxmemory-policy noeviction" in message


@pytest.mark.storages("redis")
async def test_a_policy_without_a_limit_never_applies(
    backend: RedisBackend,
    make_storage: MakeStorage,
    settings: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings |= {"maxmemory-policy": "allkeys-lru", "maxmemory": "0"}
    assert await told_by(backend, make_storage, settings, caplog) == []


@pytest.mark.storages("redis")
async def test_a_server_without_an_append_only_file_is_mentioned_once(
    backend: RedisBackend,
    make_storage: MakeStorage,
    settings: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings["appendonly"] = "no"
    ((level, message),) = await told_by(backend, make_storage, settings, caplog)
    assert level == logging.INFO
    assert "Set appendonly yes" in message


async def test_the_worker_of_the_command_line_says_it_before_it_starts(tmp_path: Path) -> None:
    evicting = ("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru", "--appendonly", "yes")
    with server(options=evicting) as url, project_in(tmp_path) as project:
        project.write("app.py", f"from jobqueue import Queue\nqueue = Queue('q', {url!r})")
        worker = project.start("worker", "app:queue")
        await worker.says("press Ctrl+C to stop")
        warning, banner = worker.err.index("maxmemory-policy"), worker.err.index("Ctrl+C")
        assert warning < banner
        assert worker.err.count("maxmemory-policy allkeys-lru") == 1


def test_a_server_that_hides_its_settings_is_let_be(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "jobqueue"):
        warn_about_settings({"redis_version": "7.0.15"}, "redis://managed")
    assert caplog.records == []


def test_each_server_is_told_of_and_each_run_of_it(caplog: pytest.LogCaptureFixture) -> None:
    for run_id in ("a", "a", "b"):
        warn_about_settings({"run_id": run_id, "aof_enabled": "0"}, "redis://host")
    with caplog.at_level(logging.INFO, "jobqueue"):
        for run_id in ("a", "c", "c"):
            warn_about_settings({"run_id": run_id, "aof_enabled": "0"}, "redis://host")
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("kind", "version", "is_new_enough"),
    [
        ("redis", "6.2.14", False),
        ("redis", "7.0.0", True),
        ("redis", "8.2", True),
        ("valkey", "7.2.4", True),
        ("valkey", "10.0.1", True),
    ],
)
def test_an_old_server_is_refused(kind: str, version: str, is_new_enough: bool) -> None:
    info = {"redis_version": "7.2.4", f"{kind}_version": version}
    if is_new_enough:
        check_version(info, "redis://host")
    else:
        with pytest.raises(ConfigurationError, match=r"is redis 6\.2\.14; 7\.0 or newer is needed"):
            check_version(info, "redis://host")
