"""What redis-py raises, as the errors of the storage port."""

from __future__ import annotations

from typing import Final

from redis import exceptions as redis_errors

from jobqueue.errors import AccessDenied, ServerNotTrusted, StorageUnavailable
from jobqueue.storage.redis.tls import distrust

RETRYABLE: Final = (redis_errors.ConnectionError, redis_errors.TimeoutError, OSError)
"""The answer was lost, or the command was: nobody knows whether it ran."""

_DENIED: Final = (
    redis_errors.AuthenticationError,
    redis_errors.AuthorizationError,
    redis_errors.NoPermissionError,
)
_DENIED_IN_A_SCRIPT: Final = ("The user executing the script can't", "ACL failure in script")
"""How Redis and Valkey say it; as errors of no kind of their own."""


def is_denied(error: BaseException | None) -> bool:
    """Whether the server refuses this user, and not the command as such."""
    return isinstance(error, _DENIED) or str(error).startswith(_DENIED_IN_A_SCRIPT)


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
        if error is None:
            return
        if is_denied(error):
            raise AccessDenied(
                f"{self._url} refuses this user: {error}. Check the URL's user and password, and "
                "the user's permissions (ACL)"
            ) from error
        reason = distrust(error)
        if reason is not None:
            raise ServerNotTrusted(
                f"the certificate of {self._url} is not trusted: {reason}. Name the host as its "
                "certificate does, and the authority that signed it with "
                "?ssl_ca_certs=/path/to/ca.crt"
            ) from error
        if isinstance(error, redis_errors.RedisError | OSError):
            raise StorageUnavailable(f"{self._url} cannot serve now: {error}") from error
