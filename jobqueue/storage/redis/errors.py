"""What redis-py raises, as the errors of the storage port."""

from __future__ import annotations

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


class translated:
    """Raise the port's errors for redis-py's, in a ``with`` block.

    Every refusal of the server (out of memory, read-only, loading, no quorum) is "unavailable": it
    may pass, and nothing of ours can mend it. ``url`` is named, with its password masked.
    """

    __slots__ = ("_url",)

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, _LOGIN):
            raise ConfigurationError(
                f"{self._url} refuses this user: {error}. Check user, password and ACL of the URL"
            ) from error
        if isinstance(error, redis_errors.RedisError | OSError):
            raise StorageUnavailable(f"{self._url} cannot serve now: {error}") from error
