"""Ids of jobs, requests, workers and reply addresses, and the check of names from outside."""

from __future__ import annotations

import os
import secrets
import socket
import sys

if sys.version_info >= (3, 14):
    from uuid import uuid7
else:
    from uuid_utils import uuid7

MAX_NAME_BYTES = 255


def new_job_id() -> str:
    """A new id: 32 hexadecimal digits that sort by the time of their making (UUID version 7)."""
    return uuid7().hex


def new_token() -> str:
    """A random token of 16 characters for a request, a claim or a reply address."""
    return secrets.token_hex(8)


def new_worker_id() -> str:
    """A name no other worker has: host, process and a random part."""
    return f"{socket.gethostname()[:64]}-{os.getpid()}-{secrets.token_hex(4)}"


def check_name(value: object, what: str) -> str:
    """Check an id or a name from outside: any text of 1 to 255 bytes in UTF-8.

    Args:
        value: What was given.
        what: The option's name, for the message.

    Raises:
        TypeError: It is not a string.
        ValueError: It is empty, too long, or not encodable (a lone surrogate).
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a string, not {type(value).__name__}")
    if not value:
        raise ValueError(f"{what} must not be empty")
    if len(value) * 4 > MAX_NAME_BYTES or not value.isascii():
        try:
            size = len(value.encode())
        except UnicodeEncodeError as error:
            raise ValueError(f"{what} is not valid text: {error}") from None
        if size > MAX_NAME_BYTES:
            raise ValueError(f"{what} must be at most {MAX_NAME_BYTES} bytes long, not {size}")
    return value
