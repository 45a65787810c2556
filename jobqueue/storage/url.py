"""From a URL to a storage. Each storage's libraries load only when it is used."""

from __future__ import annotations

import os
import re
from typing import Final
from urllib.parse import unquote, urlsplit

from jobqueue.errors import ConfigurationError
from jobqueue.storage.base import Storage

DEFAULT_URL: Final = "sqlite:///jobqueue.db"
ENVIRONMENT: Final = "JOBQUEUE_URL"
FAILPOINT: Final = "JOBQUEUE_FAILPOINT"
"""Names a place at which this process is to end; see :mod:`jobqueue.storage.failpoints`."""
_REDIS: Final = frozenset({"redis", "rediss", "unix", "valkey", "valkeys"})
_RESERVED: Final = frozenset("/?#")
_OPTION: Final = re.compile(r"(?<=[?&])(?P<name>[^=&?]*)=[^&]*")


def storage_from(where: Storage | str | None) -> Storage:
    """The storage for a URL; a storage is returned as it is.

    Args:
        where: ``None`` for ``$JOBQUEUE_URL``, and without it ``sqlite:///jobqueue.db``.

    Raises:
        ConfigurationError: Unknown scheme, malformed URL, a package that is not installed, or
            ``$JOBQUEUE_FAILPOINT`` names no failpoint.
        TypeError: Something else altogether.
    """
    if where is None:
        where = os.environ.get(ENVIRONMENT) or DEFAULT_URL
    if isinstance(where, Storage):
        return where
    if not isinstance(where, str):  # pyright: ignore[reportUnnecessaryIsInstance] - users are not always typed
        raise TypeError(f"storage must be a URL or a Storage, not {type(where).__name__}")
    storage = _storage_at(where)
    failpoint = os.environ.get(FAILPOINT)
    if not failpoint:
        return storage
    from jobqueue.storage.failpoints import Failpoint

    return Failpoint(failpoint).arm(storage)


def _storage_at(where: str) -> Storage:
    scheme = where.partition(":")[0].lower()
    where = scheme + where[len(scheme) :]
    if scheme in _REDIS:
        return _redis(where)
    if scheme == "sqlite":
        return _sqlite(where)
    if scheme == "memory":
        return _memory(where)
    raise ConfigurationError(
        f"the storage URL {masked(where)!r} has no known scheme: use memory://, "
        "sqlite:///path/to/file.db, redis://HOST:PORT/DB, rediss://, unix://, valkey:// or "
        "valkeys://"
    )


def masked(url: str) -> str:
    """The URL without its password, malformed or not.

    A password with a reserved character in it ends the address too early for a parser. So all that
    stands before the last ``@`` counts as user and password, and what a query calls a password is
    hidden as well. A user stays, for a refusal is about him; but a name without a password is
    hidden too: most often it is a password without its colon.
    """
    url = _OPTION.sub(_masked_option, url)
    address, at, place = url.rpartition("@")
    scheme, separator, user = address.partition("://")
    if at and not separator:
        scheme, colon, _ = scheme.rpartition(":")
        return f"{scheme.partition(':')[0]}{colon}***@{place}"
    name, colon, _ = user.partition(":")
    if not colon:
        # A path may have an @ of its own.
        return f"{scheme}://***@{place}" if user and not user.startswith("/") else url
    return f"{scheme}://{name}:***@{place}"


def is_misread(url: str) -> bool:
    """Whether a parser would take a part of it for something else, and say nothing.

    Without ``//`` it would find no host, and use the default. A reserved character in a password
    would end the address too early: what follows would be the host, and named in errors.
    """
    parts = urlsplit(url)
    if not url.startswith(f"{parts.scheme}://"):
        return True
    behind = parts.path + parts.fragment + (parts.query if "@" in parts.netloc else "")
    return bool(parts.netloc) and "@" in behind


def _masked_option(option: re.Match[str]) -> str:
    is_secret = "password" in unquote(option["name"]).lower()
    return f"{option['name']}=***" if is_secret else option[0]


def _memory(url: str) -> Storage:
    from jobqueue.storage.memory import MemoryStorage

    name = url.removeprefix("memory://").removesuffix("/")
    if not url.startswith("memory://") or _RESERVED & set(name):
        raise ConfigurationError(f"{masked(url)!r} is malformed: use memory:// or memory://NAME")
    return MemoryStorage(unquote(name) or None)


def _sqlite(url: str) -> Storage:
    path = url.removeprefix("sqlite:///") if url.startswith("sqlite:///") else ""
    if not path or path.endswith("/") or {"?", "#"} & set(path):
        raise ConfigurationError(
            f"{masked(url)!r} is malformed: use sqlite:///relative.db or "
            "sqlite:////absolute/path.db, without options, and with %3F and %23 for ? and #"
        )
    try:
        from jobqueue.storage.sqlite import SQLiteStorage
    except ImportError as error:
        raise ConfigurationError(
            f"this Python was built without SQLite ({error}): install the sqlite3 module, or use "
            "a redis:// URL"
        ) from error
    return SQLiteStorage(unquote(path))


def _redis(url: str) -> Storage:
    try:
        from jobqueue.storage.redis import RedisStorage
    except ImportError as error:
        raise ConfigurationError(
            f"the package for Redis is missing or too old ({error}): "
            "pip install 'redis[hiredis]>=8.0.1'"
        ) from error
    return RedisStorage(url)
