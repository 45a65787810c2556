"""flow: what limits, priorities and scheduled jobs cost, and how exactly they hold."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median

from harness import Bench, Figures, Metric, Scenario, Step
from peers import OURS_WITH_FLOW, Peer
from processes import Adapter
from sizes import Size

from scenarios.drain import CONCURRENCY, FILL_SECONDS

PROCESSES = 4
KEYS = 1000
RATE = 200
BURST = 10
"""Of a bucket: what a worker that is late by some milliseconds may make up for."""
WINDOW_SECONDS = 5
RUNNING_MS = 20
DAY = 86_400

LIMITED = (
    Metric("rate", "jobs run, limit 1 for each key", "jobs/s"),
    Metric("share", "of the rate without a limit", "×"),
)
EXACT = (
    Metric("most", "of the rate, in the fullest 5 s", "×", higher_is_better=False),
    Metric("least", "of the rate, in the emptiest 5 s", "×"),
)
URGENT = (
    Metric("p50_ms", "high behind many normal, p50", "ms", higher_is_better=False),
    Metric("worst_ms", "worst", "ms", higher_is_better=False),
)
DELAYED = (
    Metric("p50_ms", "start after the due time, idle worker, p50", "ms", higher_is_better=False),
    Metric("p99_ms", "p99", "ms", higher_is_better=False),
)
SCHEDULED = (
    Metric("rate", "jobs run beside scheduled ones", "jobs/s"),
    Metric("share", "of the rate without them", "×"),
)


def make(size: Size, peers: Sequence[Peer]) -> Scenario:
    """Ours alone: the others have nothing like it, or it is not asked for here."""
    del peers
    count = size.flow
    # Not a million: just above that, at 2^20 keys, the server doubles its table of keys, and until
    # it has done so, all takes longer, whatever the keys are.
    scheduled_jobs = size.growth[-1] * 3 // 2

    def limited(bench: Bench, peer: Peer) -> Figures:
        free = _drain(bench, peer, count, keys=KEYS, is_limited=False)
        rate = _drain(bench, peer, count, keys=KEYS, is_limited=True)
        return {"rate": rate, "share": rate / free}

    def exact(kind: str) -> Step:
        def run(bench: Bench, peer: Peer) -> Figures:
            return _windows(bench, peer, kind, size.flow_seconds)

        return Step(f"rate-{kind}", f"{RATE} a second, {kind}", EXACT, run, [OURS_WITH_FLOW], 1)

    def urgent(bench: Bench, peer: Peer) -> Figures:
        queue = bench.queue()
        with ExitStack() as stack:
            producer = stack.enter_context(bench.adapter(peer, queue, "producer"))
            # All slots are taken by jobs of RUNNING_MS, and as many wait as do not run out.
            ask = {"do": "enqueue", "mode": "bulk", "payload_bytes": 100, "handler": "sleep"}
            producer.ask({**ask, "ms": RUNNING_MS, "count": count}, timeout=FILL_SECONDS)
            worker = stack.enter_context(bench.adapter(peer, queue, "worker"))
            worker.ask({"do": "work", "concurrency": 10, "handler": "noop"})
            time.sleep(1)
            producer.ask({"do": "urgent", "count": size.pickups // 2, "gap_ms": 50})
            time.sleep(1)
            delays = [us / 1000 for us in worker.ask({"do": "report"})["delays_us"]]
        return {"p50_ms": median(delays), "worst_ms": max(delays)}

    def delayed(bench: Bench, peer: Peer) -> Figures:
        return _lateness(bench, peer, size.pickups)

    def delayed_on_sqlite(bench: Bench, peer: Peer) -> Figures:
        with tempfile.TemporaryDirectory(prefix="jobqueue-bench-") as folder:
            return _lateness(bench, peer, size.pickups, f"sqlite:///{folder}/jobs.db")

    def scheduled(bench: Bench, peer: Peer) -> Figures:
        alone = _drain(bench, peer, size.flow_drain, processes=1)
        beside = _drain(bench, peer, size.flow_drain, processes=1, scheduled=scheduled_jobs)
        return {"rate": beside, "share": beside / alone}

    return Scenario(
        "flow",
        "Limits, priorities, schedules",
        f"Ours alone. Limits: {count:,} no-op jobs of {KEYS:,} keys in turn, {PROCESSES} worker "
        f"processes. High: {count:,} jobs of {RUNNING_MS} ms wait, ten run.",
        [
            Step("limited", "A limit for each key", LIMITED, limited, [OURS_WITH_FLOW]),
            exact("sliding"),
            exact("bucket"),
            Step("urgent", "A job of high priority", URGENT, urgent, [OURS_WITH_FLOW], 1),
            Step("delayed", "Delayed jobs", DELAYED, delayed, [OURS_WITH_FLOW]),
            Step(
                "delayed-sqlite",
                "Delayed jobs, SQLite",
                DELAYED,
                delayed_on_sqlite,
                [OURS_WITH_FLOW],
            ),
            Step(
                "scheduled",
                f"{scheduled_jobs:,} scheduled jobs",
                SCHEDULED,
                scheduled,
                [OURS_WITH_FLOW],
            ),
        ],
    )


def _workers(bench: Bench, peer: Peer, queue: str, count: int, stack: ExitStack) -> list[Adapter]:
    workers = [stack.enter_context(bench.adapter(peer, queue, "worker")) for _ in range(count)]
    for worker in workers:
        worker.ask({"do": "work", "concurrency": CONCURRENCY, "handler": "noop"})
    return workers


def _drain(
    bench: Bench,
    peer: Peer,
    count: int,
    *,
    keys: int = 0,
    is_limited: bool = False,
    scheduled: int = 0,
    processes: int = PROCESSES,
) -> float:
    """Jobs a second."""
    queue = bench.queue()
    with ExitStack() as stack:
        producer = stack.enter_context(bench.adapter(peer, queue, "producer"))
        if is_limited:
            producer.ask({"do": "limit", "key": "customers", "concurrency": 1})
        if scheduled:
            producer.ask({"do": "schedule", "count": scheduled, "delay": DAY}, timeout=FILL_SECONDS)
        producer.ask({"do": "fill", "count": count, "keys": keys}, timeout=FILL_SECONDS)
        workers = _workers(bench, peer, queue, processes, stack)
        return count / bench.drained(workers, count)


def _lateness(bench: Bench, peer: Peer, count: int, url: str | None = None) -> Figures:
    queue = bench.queue()
    with ExitStack() as stack:
        producer = stack.enter_context(bench.adapter(peer, queue, "producer", url=url))
        worker = stack.enter_context(bench.adapter(peer, queue, "worker", url=url))
        worker.ask({"do": "work", "concurrency": 10, "handler": "stamp"})
        producer.ask({"do": "delayed", "count": count, "most_ms": 900})
        delays = sorted(us / 1000 for us in worker.ask({"do": "report"})["delays_us"])
    return {"p50_ms": median(delays), "p99_ms": delays[math.ceil(len(delays) * 0.99) - 1]}


def _windows(bench: Bench, peer: Peer, kind: str, seconds: int) -> Figures:
    """The fullest and the emptiest window of starts, of those that lie within the run."""
    queue = bench.queue()
    with ExitStack() as stack:
        producer = stack.enter_context(bench.adapter(peer, queue, "producer"))
        limit = {"do": "limit", "type": "noop", "rate": RATE, "kind": kind}
        producer.ask({**limit, "burst": BURST if kind == "bucket" else 1})
        count = RATE * seconds
        producer.ask({"do": "fill", "count": count, "keys": 0})
        workers = _workers(bench, peer, queue, PROCESSES, stack)
        bench.drained(workers, count)
        starts = sorted(
            start / 1e9 for worker in workers for start in worker.ask({"do": "starts"})["starts_ns"]
        )
    wanted = RATE * WINDOW_SECONDS
    spans = [starts[n + wanted] - starts[n] for n in range(len(starts) - wanted)]
    return {"most": WINDOW_SECONDS / min(spans), "least": WINDOW_SECONDS / max(spans)}
