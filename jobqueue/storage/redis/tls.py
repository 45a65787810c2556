"""TLS: what can be wrong with certificates, in words."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import Any, Final

from jobqueue.errors import ConfigurationError

_FILES: Final = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")


def check_files(settings: Mapping[str, Any], url: str) -> None:
    """See that the files of a URL can be read: what fails later would not say which it was.

    Raises:
        ConfigurationError: One of them cannot.
    """
    for option in _FILES:
        path = settings.get(option)
        if path is not None and not os.access(path, os.R_OK):
            raise ConfigurationError(f"{url}: {option}={path} does not exist or cannot be read")


def distrust(error: BaseException | None) -> str | None:
    """Why the server's certificate is not trusted, if that is what the error comes from."""
    cause = None if error is None else error.__context__  # redis-py names no cause
    return cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else None
