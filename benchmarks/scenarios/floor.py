"""floor: ours against the same scripts with nothing around them."""

from __future__ import annotations

from collections.abc import Sequence

from harness import Bench, Figures, Metric, Scenario, Step
from peers import FLOOR, OURS, Peer
from sizes import Size

from scenarios.call import PAYLOAD_BYTES, call
from scenarios.drain import drain, fill
from scenarios.pickup import pickup

RATE = (Metric("rate", "jobs", "jobs/s"),)
P50 = (Metric("p50", "p50", "ms", higher_is_better=False),)
BATCH = 100


def make(size: Size, peers: Sequence[Peer]) -> Scenario:
    """Enqueue, 100 in flight, and drain, no-op; a call and a pick-up, one at a time."""
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

    def call_it(bench: Bench, peer: Peer) -> Figures:
        return {"p50": call(bench, peer, size.calls, 1, PAYLOAD_BYTES)["p50"]}

    def pick_up(bench: Bench, peer: Peer) -> Figures:
        bench.counts[peer.name] = size.pickups
        return {"p50": pickup(bench, peer, size.pickups)["p50"]}

    both = (OURS, FLOOR)
    return Scenario(
        "floor",
        "Floor",
        "The same Lua scripts, driven by the barest pipelined client: what our own Python costs.",
        [
            Step("enqueue", "Floor: enqueue, 100 in flight", RATE, enqueue, both),
            Step("drain", "Floor: drain, no-op", RATE, drain_it, both),
            Step("call", "Floor: call, one at a time", P50, call_it, both),
            Step("pickup", "Floor: pick-up by an idle worker", P50, pick_up, both),
        ],
    )
