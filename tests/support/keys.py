"""Keys that a test leaves on a server, held against the rules for keys.

A key without a time to live stays for ever, so each has to be one of those that may: the fixed keys
of a queue, and jobs that have not ended. A job that has not ended must not have a time to live: it
would vanish without having run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from jobqueue.states import TERMINAL

FIXED_KEYS: Final = re.compile(
    rb"\Ajq:\{.*\}:(ready|priority|delayed|leases|workers|counts|fence|finished:[a-z]+)\Z",
    re.DOTALL,
)
JOB_KEY: Final = re.compile(rb"\Ajq:\{.*?\}:job:", re.DOTALL)


def find_faults(admin: Any, allowed: Sequence[str]) -> list[str]:
    """Name every key of a server that breaks a rule.

    Args:
        admin: A client of redis-py, not asyncio, that does not decode.
        allowed: Regular expressions of keys that are exempt.
    """
    exempt = [re.compile(pattern.encode(), re.DOTALL) for pattern in allowed]
    keys = [key for key in admin.keys("*") if not any(rule.search(key) for rule in exempt)]
    return [fault for key in keys if (fault := _fault(admin, key))]


def _fault(admin: Any, key: bytes) -> str | None:
    lives_for_ever = admin.pttl(key) == -1
    if JOB_KEY.match(key) and admin.type(key) == b"hash":
        state = admin.hget(key, "state")
        if state is None:
            return f"{key!r} is a job without a state"
        if lives_for_ever and state.decode() in TERMINAL:
            return f"{key!r} is {state.decode()} and has no time to live"
        if not lives_for_ever and state.decode() not in TERMINAL:
            return f"{key!r} is {state.decode()} and has a time to live"
        return None
    if lives_for_ever and not FIXED_KEYS.match(key):
        return f"{key!r} has no time to live"
    return None
