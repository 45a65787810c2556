"""pick-up: how soon an idle worker runs a job's first line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from harness import Bench, Figures, Metric, Scenario, Step
from peers import OURS, Peer
from processes import wait_until_done
from sizes import Size

from scenarios.call import percentile

CONCURRENCY = 100
GAP_MS = 10
METRICS = (
    Metric("p50", "p50", "ms", higher_is_better=False),
    Metric("p99", "p99", "ms", higher_is_better=False),
)
HOPS = (
    Metric("sent", "written by the producer", "ms", higher_is_better=False),
    Metric("received", "received by the worker", "ms", higher_is_better=False),
    Metric("started", "handler's first line", "ms", higher_is_better=False),
)
OURS_WITH_HOPS = replace(OURS, program=("adapters.ours_hops",))
WARM_UP = 10


def pickup(bench: Bench, peer: Peer, count: int, url: str | None = None) -> Figures:
    """Enqueue into an idle worker of another process, now and then."""
    started, _, _ = _pick_up(bench, peer, count, url)
    delays = sorted(micros / 1000 for micros in started)
    return {"p50": percentile(delays, 0.5), "p99": percentile(delays, 0.99)}


def _pick_up(
    bench: Bench, peer: Peer, count: int, url: str | None = None
) -> tuple[list[float], list[float], list[float]]:
    """Microseconds from the enqueue until each was started; of ours with hops also until it was
    sent and received."""
    queue = bench.queue()
    with (
        bench.adapter(peer, queue, "worker", url=url) as worker,
        bench.adapter(peer, queue, "producer", url=url) as producer,
    ):
        worker.ask({"do": "work", "concurrency": CONCURRENCY, "handler": "stamp"})
        ask = {"do": "pickup", "gap_ms": GAP_MS, "payload_bytes": 100}
        producer.ask({**ask, "count": WARM_UP})
        wait_until_done([worker], WARM_UP)
        answer = producer.ask({**ask, "count": count})
        report = wait_until_done([worker], WARM_UP + count)[0]
    return (
        report["delays_us"][WARM_UP:],
        answer.get("hops_us", []),
        report.get("hops_us", [])[WARM_UP:],
    )


def make(size: Size, peers: Sequence[Peer]) -> Scenario:
    """A job every 10 ms."""

    def run(bench: Bench, peer: Peer) -> Figures:
        bench.counts[peer.name] = size.pickups
        return pickup(bench, peer, size.pickups)

    def hops(bench: Bench, peer: Peer) -> Figures:
        bench.counts[peer.name] = size.pickups
        started, sent, received = _pick_up(bench, peer, size.pickups)
        return {
            "sent": median(sent) / 1000,
            "received": median(received) / 1000,
            "started": median(started) / 1000,
        }

    return Scenario(
        "pickup",
        "Pick-up",
        "From just before the enqueue to the handler's first line, in an idle worker of another "
        "process; a job every 10 ms.",
        [
            Step("idle", "Pick-up by an idle worker", METRICS, run, peers),
            Step("hops", "Ours, hop by hop (p50)", HOPS, hops, (OURS_WITH_HOPS,)),
        ],
    )
