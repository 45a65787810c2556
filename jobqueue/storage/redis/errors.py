"""What redis-py raises, as the errors of the storage port."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from redis import exceptions as redis_errors

from jobqueue.errors import ConfigurationError, StorageUnavailable

RETRYABLE: Final = (redis_errors.ConnectionError, redis_errors.TimeoutError, OSError)
"""The answer was lost, or the command was: nobody knows whether it ran."""

_LOGIN: Final = (
    redis_errors.AuthenticationError,
    redis_errors.AuthorizationError,
    redis_errors.NoPermissionError,
)


@contextmanager
def translated(url: str) -> Generator[None]:
    """Raise the port's errors for redis-py's.

    Every refusal of the server (out of memory, read-only, loading, no quorum) is "unavailable": it
    may pass, and nothing of ours can mend it. ``url`` is named, with its password masked.
    """
    try:
        yield
    except _LOGIN as error:
        raise ConfigurationError(
            f"{url} refuses this user: {error}. Check user, password and ACL of the URL"
        ) from error
    except (redis_errors.RedisError, OSError) as error:
        raise StorageUnavailable(f"{url} cannot serve now: {error}") from error
