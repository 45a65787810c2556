"""From a URL to a storage; and no message shows a password."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobqueue import MemoryStorage, Queue, RedisStorage, SQLiteStorage
from jobqueue.errors import ConfigurationError
from jobqueue.storage.redis import connections
from jobqueue.storage.redis.connections import connection_settings
from jobqueue.storage.url import DEFAULT_URL, masked, storage_from

REDIS_SCHEMES = ["redis", "rediss", "valkey", "valkeys"]


@pytest.mark.parametrize("scheme", REDIS_SCHEMES)
def test_each_scheme_of_a_server(scheme: str) -> None:
    storage = storage_from(f"{scheme}://host:7000/3")
    assert isinstance(storage, RedisStorage)
    assert storage.url == f"{scheme}://host:7000/3"
    settings = connection_settings(storage.url)
    assert (settings["host"], settings["port"], settings["db"]) == ("host", 7000, 3)
    is_tls = "connection_class" in settings and "SSL" in settings["connection_class"].__name__
    assert is_tls == (scheme in ("rediss", "valkeys"))


def test_a_socket() -> None:
    storage = storage_from("unix:///run/valkey.sock?db=2")
    assert isinstance(storage, RedisStorage)
    settings = connection_settings(storage.url)
    assert (settings["path"], settings["db"]) == ("/run/valkey.sock", 2)
    assert "socket_keepalive" not in settings


def test_memory_without_a_name_is_shared_with_nobody() -> None:
    one, other = storage_from("memory://"), storage_from("memory://")
    assert isinstance(one, MemoryStorage)
    assert one.url == other.url == "memory://"
    assert one._space is not other._space  # type: ignore[attr-defined]


def test_memory_with_a_name_is_shared_by_those_who_give_it() -> None:
    one, same, other = map(storage_from, ["memory://A b", "memory://A%20b", "memory://a b"])
    assert one._space is same._space  # type: ignore[attr-defined]
    assert one._space is not other._space  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///jobs.db", "jobs.db"),
        ("sqlite:///sub/jobs.db", "sub/jobs.db"),
        ("sqlite:////abs/jobs.db", "/abs/jobs.db"),
        ("sqlite:///a%20b%23.db", "a b#.db"),
        ("sqlite:///a b.db", "a b.db"),
    ],
)
def test_a_file(url: str, path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    storage = storage_from(url)
    assert isinstance(storage, SQLiteStorage)
    assert storage.url == f"sqlite:///{os.path.join(tmp_path, path)}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("REDIS://host", RedisStorage),
        ("Valkeys://host", RedisStorage),
        ("SQLite:///jobs.db", SQLiteStorage),
        ("MEMORY://Name", MemoryStorage),
    ],
)
def test_schemes_are_read_in_any_case(url: str, kind: type) -> None:
    assert isinstance(storage_from(url), kind)


def test_no_url_means_the_environment_and_else_a_file_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOBQUEUE_URL", "memory://from-the-environment")
    assert storage_from(None).url == "memory://from-the-environment"
    assert storage_from("memory://given").url == "memory://given"
    for unset in (
        lambda: monkeypatch.setenv("JOBQUEUE_URL", ""),
        lambda: monkeypatch.delenv("JOBQUEUE_URL"),
    ):
        unset()
        assert storage_from(None).url == f"sqlite:///{tmp_path}/jobqueue.db"
    assert DEFAULT_URL == "sqlite:///jobqueue.db"


def test_a_storage_is_returned_as_it_is() -> None:
    storage = MemoryStorage()
    assert storage_from(storage) is storage


@pytest.mark.parametrize("wrong", [1, b"redis://", [], object, Path("jobs.db")])
def test_what_is_neither_is_a_type_error(wrong: Any) -> None:
    with pytest.raises(TypeError, match="storage must be a URL or a Storage"):
        storage_from(wrong)


@pytest.mark.parametrize(
    "url",
    ["", "host", "host:6379", "http://host", "postgres://h/db", "redis+tls://h", "://", "jobs.db"],
)
def test_an_unknown_scheme_names_the_known_ones(url: str) -> None:
    with pytest.raises(ConfigurationError, match="has no known scheme: use memory://") as caught:
        storage_from(url)
    for scheme in ["sqlite:///", "unix://", *[f"{each}://" for each in REDIS_SCHEMES]]:
        assert scheme in str(caught.value)


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("sqlite:", "sqlite:///relative.db"),
        ("sqlite://", "sqlite:///relative.db"),
        ("sqlite:///", "sqlite:////absolute/path.db"),
        ("sqlite://jobs.db", "sqlite:///relative.db"),
        ("sqlite:///folder/", "sqlite:///relative.db"),
        ("sqlite:///:memory:", "use memory://"),
        ("sqlite:///a%00b", "give a path"),
        ("memory", "memory://NAME"),
        ("memory:", "memory://NAME"),
        ("memory://a/b", "memory://NAME"),
        ("memory://a?b", "memory://NAME"),
        ("sqlite:///a.db?timeout=1", "without options"),
        ("sqlite:///a#b.db", "%23"),
        ("redis", "redis://HOST:PORT/DB"),
        ("redis://host:port", "redis://HOST:PORT/DB"),
        ("redis://host:99999", "redis://HOST:PORT/DB"),
        ("rediss://[::1", "redis://HOST:PORT/DB"),
        ("valkey://host?socket_timeout=soon", "redis://HOST:PORT/DB"),
        ("redis:host", "redis://HOST:PORT/DB"),
        ("redis:/host", "redis://HOST:PORT/DB"),
        ("redis://user:pass@word/1@host", "must be percent-encoded"),
        ("redis://user:pass@word?@host", "must be percent-encoded"),
        ("redis://user:pass@word#@host", "must be percent-encoded"),
        ("redis://user:7000/word@host", "must be percent-encoded"),
    ],
)
def test_a_malformed_url_says_what_to_do(url: str, advice: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        storage_from(url)
    assert advice in str(caught.value)


def test_a_malformed_url_is_found_when_the_queue_is_made() -> None:
    with pytest.raises(ConfigurationError):
        Queue("q", "redis://host:port")


# -- passwords -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host", "redis://host"),
        ("redis://host:6379/0?db=1", "redis://host:6379/0?db=1"),
        ("redis://secret@host", "redis://***@host"),
        ("redis://secret%40@host:6379/0", "redis://***@host:6379/0"),
        ("redis://user:secret@host/0", "redis://user:***@host/0"),
        ("redis://:secret@host", "redis://:***@host"),
        ("redis://user:@host", "redis://user:***@host"),
        ("redis://user:se@cr@et@host", "redis://user:***@host"),
        ("redis://user:se/cr?e#t@host/0", "redis://user:***@host/0"),
        ("redis://user:secret@[::1]:7/0", "redis://user:***@[::1]:7/0"),
        ("redis://user:secret@[::1/0", "redis://user:***@[::1/0"),
        ("redis://host?db=1&password=secret&x=y", "redis://host?db=1&password=***&x=y"),
        ("unix:///a.sock?password=sec%20ret", "unix:///a.sock?password=***"),
        ("rediss://h?ssl_password=secret", "rediss://h?ssl_password=***"),
        ("redis://h?pass%77ord=secret", "redis://h?pass%77ord=***"),
        ("redis://h?username=me&PASSWORD=a=b?c", "redis://h?username=me&PASSWORD=***"),
        ("unix://user:secret@/a.sock", "unix://user:***@/a.sock"),
        ("unix:///tmp/a@b.sock", "unix:///tmp/a@b.sock"),
        ("redis:user:secret@host", "redis:***@host"),
        ("secret@host", "***@host"),
        ("", ""),
        ("no url", "no url"),
    ],
)
def test_a_password_is_masked(url: str, shown: str) -> None:
    assert masked(url) == shown
    assert connections.masked is masked


SECRETS = st.text(st.characters(codec="utf-8", exclude_characters="&"), max_size=12).map(
    lambda text: f"s3cr{text}et"
)
HOLDERS = st.sampled_from(
    [
        "{scheme}://user:{secret}@host/0",
        "{scheme}://:{secret}@host:7000",
        "{scheme}://:{secret}@host:port",
        "{scheme}://user:{secret}@[::1",
        "{scheme}://host/0?password={secret}",
        "{scheme}://host/0?db=1&PASSWORD={secret}&x=1",
        "{scheme}:///path/to?password={secret}",
        "{scheme}://host/0?username=me&%70ass%77ord={secret}",
        "{scheme}://{secret}@host/0",
    ]
)
SCHEMES = st.sampled_from([*REDIS_SCHEMES, "unix", "sqlite", "memory", "postgres", "REDIS"])


@given(HOLDERS, SCHEMES, SECRETS, st.booleans())
def test_no_password_is_ever_shown(holder: str, scheme: str, secret: str, is_quoted: bool) -> None:
    secret = quote(secret, safe="") if is_quoted else secret
    url = holder.format(scheme=scheme, secret=secret)
    assert "s3cr" not in masked(url)
    shown = _what_is_shown(url)
    if scheme not in ("sqlite", "memory"):  # where it would be part of the name
        assert "s3cr" not in shown


def _what_is_shown(url: str) -> str:
    try:
        storage = storage_from(url)
    except ConfigurationError as error:
        return "".join(traceback.format_exception(error))
    return f"{storage.url} {storage!r} {Queue('q', storage)!r}"
