"""drain: jobs that wait are run by workers of concurrency 100."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

from harness import Bench, Figures, Metric, Scenario, Step
from peers import OURS, Peer
from sizes import Size

PAYLOAD_BYTES = 100
CONCURRENCY = 100
FILL_SECONDS = 900
RATE = (Metric("rate", "jobs run", "jobs/s"),)
SCALING = (*RATE, Metric("scaling", "times one process", "×"))


def fill(bench: Bench, peer: Peer, queue: str, count: int, ms: int, url: str | None = None) -> None:
    """Have a process of the system enqueue so many jobs."""
    with bench.adapter(peer, queue, "producer", url=url) as producer:
        producer.ask(
            {
                "do": "enqueue",
                "mode": "concurrent",
                "concurrency": CONCURRENCY,
                "payload_bytes": PAYLOAD_BYTES,
                "handler": "sleep" if ms else "noop",
                "ms": ms,
                "count": count,
            },
            timeout=FILL_SECONDS,
        )


def drain(
    bench: Bench,
    peer: Peer,
    queue: str,
    count: int,
    ms: int = 0,
    processes: int = 1,
    url: str | None = None,
    settle_seconds: float = 0,
) -> float:
    """Seconds that so many workers need for so many jobs.

    Args:
        settle_seconds: How long the workers live on, to store the last results.
    """
    with ExitStack() as stack:
        workers = [
            stack.enter_context(bench.adapter(peer, queue, "worker", url=url))
            for _ in range(processes)
        ]
        for worker in workers:
            worker.ask(
                {
                    "do": "work",
                    "concurrency": CONCURRENCY,
                    "handler": "sleep" if ms else "noop",
                }
            )
        seconds = bench.drained(workers, count)
        time.sleep(settle_seconds)
        return seconds


def make(size: Size, peers: Sequence[Peer]) -> Scenario:
    """No-op and sleeping handlers, one and two worker processes."""

    def step(name: str, title: str, count: int, ms: int, processes: int) -> Step:
        def run(bench: Bench, peer: Peer) -> Figures:
            jobs = bench.jobs(peer, count)

            def rate(processes: int) -> float:
                queue = bench.queue()
                fill(bench, peer, queue, jobs, ms)
                return jobs / drain(bench, peer, queue, jobs, ms, processes)

            if processes == 1 or peer is not OURS:
                return {"rate": rate(processes)}
            one = rate(1)
            several = rate(processes)
            return {"rate": several, "scaling": several / one}

        return Step(name, title, RATE if processes == 1 else SCALING, run, peers)

    steps = [step("noop", "Drain, no-op", size.drain, 0, 1)]
    for ms, count in size.sleeps.items():
        steps.append(step(f"{ms}ms", f"Drain, {ms} ms handlers", count, ms, 1))
    for ms in size.two_workers:
        kind = f"{ms} ms handlers" if ms else "no-op"
        count = size.sleeps[ms] if ms else size.drain
        name = f"{ms}ms-2" if ms else "noop-2"
        steps.append(step(name, f"Drain, {kind}, 2 processes", count, ms, 2))
    return Scenario(
        "drain",
        "Drain",
        "Jobs that wait are run by worker processes of concurrency 100: from the first handler's "
        "first line to the last handler's last.",
        steps,
    )
