"""Ids of jobs, requests, workers and reply addresses, and the check of names from outside."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from typing import Final

if sys.version_info >= (3, 14):
    from uuid import uuid7
else:
    from uuid_utils import uuid7

MAX_NAME_BYTES = 255

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuv"
_PAIRS: Final = [one + other for one in _DIGITS for other in _DIGITS]
_PAIR: Final = (1 << 10) - 1
_THREE_PAIRS: Final = (1 << 30) - 1


def new_job_id() -> str:
    """A new id that sorts by the time of its making: a UUID of version 7 in 26 characters.

    They are those of ``base64.b32hexencode`` in lower case; it is in every key and index of a job,
    and 32 hexadecimal digits would take more room. Small integers make it three times as fast as
    that function.
    """
    n = uuid7().int
    a, b, c, d = n >> 98, n >> 68 & _THREE_PAIRS, n >> 38 & _THREE_PAIRS, n >> 8 & _THREE_PAIRS
    return (
        f"{_PAIRS[a >> 20]}{_PAIRS[a >> 10 & _PAIR]}{_PAIRS[a & _PAIR]}"
        f"{_PAIRS[b >> 20]}{_PAIRS[b >> 10 & _PAIR]}{_PAIRS[b & _PAIR]}"
        f"{_PAIRS[c >> 20]}{_PAIRS[c >> 10 & _PAIR]}{_PAIRS[c & _PAIR]}"
        f"{_PAIRS[d >> 20]}{_PAIRS[d >> 10 & _PAIR]}{_PAIRS[d & _PAIR]}{_PAIRS[n << 2 & _PAIR]}"
    )


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
