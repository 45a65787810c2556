"""pick-up: how soon an idle worker runs a job's first line."""

from __future__ import annotations

from collections.abc import Sequence

from harness import Bench, Figures, Metric, Scenario, Step
from peers import Peer
from processes import wait_until_done
from sizes import Size

from scenarios.call import percentile

CONCURRENCY = 100
GAP_MS = 10
METRICS = (
    Metric("p50", "p50", "ms", higher_is_better=False),
    Metric("p99", "p99", "ms", higher_is_better=False),
)


def pickup(bench: Bench, peer: Peer, count: int, url: str | None = None) -> Figures:
    """Enqueue into an idle worker of another process, now and then."""
    queue = bench.queue()
    with (
        bench.adapter(peer, queue, "worker", url=url) as worker,
        bench.adapter(peer, queue, "producer", url=url) as producer,
    ):
        worker.ask({"do": "work", "concurrency": CONCURRENCY, "handler": "stamp"})
        ask = {"do": "pickup", "gap_ms": GAP_MS, "payload_bytes": 100}
        warm_up = 10
        producer.ask({**ask, "count": warm_up})
        wait_until_done([worker], warm_up)
        producer.ask({**ask, "count": count})
        report = wait_until_done([worker], warm_up + count)[0]
    delays = sorted(micros / 1000 for micros in report["delays_us"][warm_up:])
    return {"p50": percentile(delays, 0.5), "p99": percentile(delays, 0.99)}


def make(size: Size, peers: Sequence[Peer]) -> Scenario:
    """A job every 10 ms."""

    def run(bench: Bench, peer: Peer) -> Figures:
        bench.counts[peer.name] = size.pickups
        return pickup(bench, peer, size.pickups)

    return Scenario(
        "pickup",
        "Pick-up",
        "From just before the enqueue to the handler's first line, in an idle worker of another "
        "process; a job every 10 ms.",
        [Step("idle", "Pick-up by an idle worker", METRICS, run, peers)],
    )
