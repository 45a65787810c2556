"""memory: our memory storage, producer and worker in one process, compared with nobody."""

from __future__ import annotations

from collections.abc import Sequence

from harness import Bench, Figures, Metric, Scenario, Step
from peers import OURS, Peer
from sizes import Size

from scenarios.call import percentile

METRICS = (
    Metric("enqueue", "enqueue, 100 in flight", "jobs/s"),
    Metric("drain", "drain, no-op", "jobs/s"),
    Metric("call_p50", "call, one at a time", "ms", higher_is_better=False),
    Metric("calls", "call, 100 in flight", "calls/s"),
)


def make(size: Size, peers: Sequence[Peer]) -> Scenario:
    """Enqueue, drain and call, one after the other."""
    del peers  # ours alone

    def run(bench: Bench, peer: Peer) -> Figures:
        bench.counts[peer.name] = size.drain
        with bench.adapter(
            peer, bench.queue(), "both", results=True, url="memory://bench"
        ) as process:
            enqueued = process.ask(
                {
                    "do": "enqueue",
                    "mode": "concurrent",
                    "concurrency": 100,
                    "payload_bytes": 100,
                    "handler": "noop",
                    "count": size.drain,
                }
            )
            process.ask({"do": "work", "concurrency": 100, "handler": "noop"})
            drained = bench.drained([process], size.drain)
            ask = {"do": "call", "payload_bytes": 100}
            one = process.ask({**ask, "count": size.calls, "concurrency": 1})
            many = process.ask({**ask, "count": size.calls_in_flight, "concurrency": 100})
        return {
            "enqueue": size.drain / enqueued["seconds"],
            "drain": size.drain / drained,
            "call_p50": percentile(sorted(one["took_us"]), 0.5) / 1000,
            "calls": size.calls_in_flight / many["seconds"],
        }

    return Scenario(
        "memory",
        "Memory",
        "The memory storage, producer and worker in one process.",
        [Step("memory", "Memory storage", METRICS, run, (OURS,))],
    )
