"""What happens to a job that fails: backoff, giving up, and a time limit.

Needs no other process: it runs a worker of its own, on storage in memory.

    python examples/retries.py
"""

from __future__ import annotations

import asyncio

from jobqueue import Exponential, JobFailed, Queue, Retry, current_job

queue = Queue("retries", "memory://", retry=Exponential(initial=0.1))


class NoSuchAccount(Exception):
    """Trying again will not help."""


@queue.job(max_attempts=5)
async def flaky() -> str:
    """Fails twice, then works."""
    attempt = current_job().attempt
    if attempt < 3:
        raise ConnectionError("the service is down")
    return f"done at attempt {attempt}"


@queue.job(max_attempts=5, give_up_on=(NoSuchAccount,))
async def charge(account: str) -> None:
    raise NoSuchAccount(account)


@queue.job(max_attempts=2)
async def rate_limited() -> str:
    """Says itself when to come back."""
    if current_job().attempt == 1:
        raise Retry(delay=0.5)
    return "let through"


@queue.job(timeout=0.2, max_attempts=1)
async def endless() -> None:
    await asyncio.sleep(3600)


async def main() -> None:
    async with queue, queue.worker():
        print("flaky:       ", await flaky.call())
        print("rate_limited:", await rate_limited.call())
        for name, call in {"charge": charge.call("A-17"), "endless": endless.call()}.items():
            try:
                await call
            except JobFailed as failed:
                print(f"{name + ':':13} {failed}")


if __name__ == "__main__":
    asyncio.run(main())
