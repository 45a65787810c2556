"""Waiting for something to become true, with a deadline: never a bare sleep as proof."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

INTERVAL_SECONDS = 0.005


async def wait_until(
    predicate: Callable[[], Any | Awaitable[Any]], timeout: float = 5.0, what: str = ""
) -> Any:
    """Wait until ``predicate`` gives something true, and return that.

    Args:
        predicate: A function or a coroutine function. It is called once more at the deadline.
        timeout: Seconds to wait at most.
        what: What is waited for, for the message.

    Raises:
        AssertionError: It was not true in time.
    """
    deadline = time.monotonic() + timeout
    while True:
        late = time.monotonic() >= deadline
        value = predicate()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if late:
            raise AssertionError(
                f"not within {timeout:g} s: {what or inspect.getsource(predicate)}"
            )
        await asyncio.sleep(INTERVAL_SECONDS)
