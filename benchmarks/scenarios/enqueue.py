"""enqueue: jobs with a payload of 100 bytes, from one process."""

from __future__ import annotations

from collections.abc import Sequence

from harness import Bench, Figures, Metric, Scenario, Step
from peers import Peer
from sizes import Size

PAYLOAD_BYTES = 100
IN_FLIGHT = 100
RATE = (Metric("rate", "enqueues", "jobs/s"),)
LEAST = 100


def make(size: Size, peers: Sequence[Peer]) -> Scenario:
    """One at a time, 100 in flight, and the bulk call."""

    def step(mode: str, title: str, count: int) -> Step:
        def run(bench: Bench, peer: Peer) -> Figures:
            with bench.adapter(peer, bench.queue(), "producer") as producer:
                ask = {
                    "do": "enqueue",
                    "mode": mode,
                    "concurrency": IN_FLIGHT,
                    "payload_bytes": PAYLOAD_BYTES,
                    "handler": "noop",
                }
                producer.ask({**ask, "count": LEAST})  # connections, compiled scripts
                answer = producer.ask({**ask, "count": bench.jobs(peer, count, LEAST)})
                return {"rate": answer["count"] / answer["seconds"]}

        return Step(mode, title, RATE, run, peers)

    return Scenario(
        "enqueue",
        "Enqueue",
        "Jobs with a payload of 100 bytes, stored by one process.",
        [
            step("single", "Enqueue, one at a time", size.single),
            step("concurrent", "Enqueue, 100 in flight", size.concurrent),
            step("bulk", "Enqueue, bulk call", size.bulk),
        ],
    )
