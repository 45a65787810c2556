"""call: a caller waits for the result that a worker in another process computes."""

from __future__ import annotations

from collections.abc import Sequence

from harness import Bench, Figures, Metric, Scenario, Step
from peers import Peer
from sizes import Size

CONCURRENCY = 100
PAYLOAD_BYTES = 100
WARM_UP = 100
METRICS = (
    Metric("p50", "p50", "ms", higher_is_better=False),
    Metric("p95", "p95", "ms", higher_is_better=False),
    Metric("p99", "p99", "ms", higher_is_better=False),
    Metric("rate", "calls", "calls/s"),
)
PLATFORMATIC = (
    ("p-100x1", "100 calls, 1 at a time", 100, 1, 100),
    ("p-500x10", "500 calls, 10 at a time", 500, 10, 100),
    ("p-1000x50", "1000 calls, 50 at a time", 1000, 50, 100),
    ("p-200x10", "200 calls of 10 kB, 10 at a time", 200, 10, 10_000),
    ("p-2000x100", "2000 calls, 100 at a time", 2000, 100, 100),
)
"""Requests, concurrency and payloads of @platformatic/job-queue's benchmark/request-response.ts."""


def percentile(sorted_values: Sequence[float], share: float) -> float:
    """As that benchmark takes it."""
    return sorted_values[min(int(len(sorted_values) * share), len(sorted_values) - 1)]


def call(bench: Bench, peer: Peer, count: int, in_flight: int, payload_bytes: int) -> Figures:
    """Call a worker in another process."""
    queue = bench.queue()
    with (
        bench.adapter(peer, queue, "worker", results=True) as worker,
        bench.adapter(peer, queue, "producer", results=True) as caller,
    ):
        worker.ask({"do": "work", "concurrency": CONCURRENCY, "handler": "echo"})
        ask = {"do": "call", "concurrency": in_flight, "payload_bytes": payload_bytes}
        bench.counts[peer.name] = count
        caller.ask({**ask, "count": min(WARM_UP, count)})
        answer = caller.ask({**ask, "count": count})
    took = sorted(micros / 1000 for micros in answer["took_us"])
    return {
        "p50": percentile(took, 0.5),
        "p95": percentile(took, 0.95),
        "p99": percentile(took, 0.99),
        "rate": len(took) / answer["seconds"],
    }


def make(size: Size, peers: Sequence[Peer]) -> Scenario:
    """One at a time, 100 in flight, and the five scenarios of platformatic's benchmark."""

    def step(name: str, title: str, count: int, in_flight: int, payload: int) -> Step:
        def run(bench: Bench, peer: Peer) -> Figures:
            given = count if name.startswith("p-") else bench.jobs(peer, count, 100)
            return call(bench, peer, given, in_flight, payload)

        # The last five are that project's own: for it, for us and for the main peers.
        asked = [peer for peer in peers if peer.main] if name.startswith("p-") else peers
        return Step(name, title, METRICS, run, asked)

    steps = [
        step("one", "Call, one at a time", size.calls, 1, PAYLOAD_BYTES),
        step("100", "Call, 100 in flight", size.calls_in_flight, 100, PAYLOAD_BYTES),
    ]
    if size.name == "full":
        steps += [step(*given) for given in PLATFORMATIC]
    return Scenario(
        "call",
        "Call",
        "Enqueue a job with 100 bytes and wait for its result; a worker of concurrency 100 in "
        "another process. The last five are those of @platformatic/job-queue's own benchmark, for "
        "the main peers.",
        steps,
    )
