"""floor: ours against the same scripts with nothing around them."""

from __future__ import annotations

from collections.abc import Sequence

from harness import Bench, Figures, Metric, Scenario, Step
from peers import FLOOR, OURS, Peer
from sizes import Size

from scenarios.drain import drain, fill

RATE = (Metric("rate", "jobs", "jobs/s"),)
BATCH = 100


def make(size: Size, peers: Sequence[Peer]) -> Scenario:
    """Enqueue, 100 in flight, and drain, no-op."""
    del peers  # it has its own

    def enqueue(bench: Bench, peer: Peer) -> Figures:
        bench.counts[peer.name] = size.concurrent
        with bench.adapter(peer, bench.queue(), "producer") as producer:
            ask = {
                "do": "enqueue",
                "mode": "concurrent",
                "concurrency": BATCH,
                "payload_bytes": 100,
                "handler": "noop",
            }
            producer.ask({**ask, "count": BATCH})
            answer = producer.ask({**ask, "count": size.concurrent})
        return {"rate": answer["count"] / answer["seconds"]}

    def drain_it(bench: Bench, peer: Peer) -> Figures:
        bench.counts[peer.name] = size.drain
        queue = bench.queue()
        fill(bench, OURS, queue, size.drain, 0)  # the very same jobs for both
        return {"rate": size.drain / drain(bench, peer, queue, size.drain)}

    return Scenario(
        "floor",
        "Floor",
        "The same Lua scripts, driven by the barest pipelined client: what our own Python costs.",
        [
            Step("enqueue", "Floor: enqueue, 100 in flight", RATE, enqueue, (OURS, FLOOR)),
            Step("drain", "Floor: drain, no-op", RATE, drain_it, (OURS, FLOOR)),
        ],
    )
