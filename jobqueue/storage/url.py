"""From a URL to a storage. Each storage's libraries load only when it is used."""

from __future__ import annotations

import os
import re
from typing import Final
from urllib.parse import unquote

from jobqueue.errors import ConfigurationError
from jobqueue.storage.base import Storage

DEFAULT_URL: Final = "sqlite:///jobqueue.db"
ENVIRONMENT: Final = "JOBQUEUE_URL"
_REDIS: Final = frozenset({"redis", "rediss", "unix", "valkey", "valkeys"})
_RESERVED: Final = frozenset("/?#")
_PASSWORD_IN_QUERY: Final = re.compile(r"([?&][a-z_]*password=)[^&]*", re.IGNORECASE)


def storage_from(where: Storage | str | None) -> Storage:
    """The storage for a URL; a storage is returned as it is.

    Args:
        where: ``None`` for ``$JOBQUEUE_URL``, and without it ``sqlite:///jobqueue.db``.

    Raises:
        ConfigurationError: Unknown scheme, malformed URL, or a package that is not installed.
        TypeError: Something else altogether.
    """
    if where is None:
        where = os.environ.get(ENVIRONMENT) or DEFAULT_URL
    if isinstance(where, Storage):
        return where
    if not isinstance(where, str):  # pyright: ignore[reportUnnecessaryIsInstance] - users are not always typed
        raise TypeError(f"storage must be a URL or a Storage, not {type(where).__name__}")
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
    hidden as well.
    """
    url = _PASSWORD_IN_QUERY.sub(r"\g<1>***", url)
    address, at, place = url.rpartition("@")
    scheme, separator, user = address.partition("://")
    if at and not separator:
        scheme, colon, _ = scheme.rpartition(":")
        return f"{scheme.partition(':')[0]}{colon}***@{place}"
    name, colon, _ = user.partition(":")
    return f"{scheme}://{name}:***@{place}" if colon else url


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
