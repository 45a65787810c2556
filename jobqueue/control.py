"""What a handler raises, or returns, to steer its own job."""

from __future__ import annotations

from jobqueue.values import Seconds, to_ms


class Retry(Exception):
    """Try again later, as after a failure: the attempt is charged, ``max_attempts`` holds.

    Args:
        delay: Seconds until the next attempt. Default: what the retry policy says.
    """

    def __init__(self, delay: Seconds | None = None) -> None:
        self.delay_ms = None if delay is None else to_ms(delay, "Retry.delay", zero=True)
        super().__init__(delay)


class Snooze(Exception):
    """Put the job back for a while; the attempt is not charged.

    Args:
        delay: Seconds until the job is due again.
    """

    def __init__(self, delay: Seconds) -> None:
        self.delay_ms = to_ms(delay, "Snooze.delay")
        super().__init__(delay)


class Cancel(Exception):
    """End the job as ``cancelled``; it is not run again.

    Args:
        reason: Told to everybody who waits for the job.
    """

    def __init__(self, reason: str = "") -> None:
        self.reason = str(reason)
        super().__init__(reason)
