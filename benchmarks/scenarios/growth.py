"""growth: what a long queue costs: its drain, a claim, the server's CPU and memory."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from harness import Bench, Figures, Metric, Scenario, Step
from peers import FLOOR, OURS, Peer
from processes import wait_until_done
from sizes import Size

from scenarios.drain import CONCURRENCY, drain, fill

WAITING = (
    Metric("rate", "jobs run", "jobs/s"),
    Metric("server_us", "server CPU per job", "µs", higher_is_better=False),
    Metric("claim_us", "claim of one job", "µs", higher_is_better=False),
    Metric("claim_server_us", "of it in the server", "µs", higher_is_better=False),
)
MEMORY = (
    Metric("waiting", "per waiting job", "bytes", higher_is_better=False),
    Metric("finished", "per finished job", "bytes", higher_is_better=False),
)
SETTLE_SECONDS = 0.5


def make(size: Size, peers: Sequence[Peer]) -> Scenario:
    """The queue's length, and the memory of a job."""

    rounds = 1 if size.name == "quick" else 0

    def waiting(count: int) -> Step:
        def run(bench: Bench, peer: Peer) -> Figures:
            bench.counts[peer.name] = count
            queue = bench.queue()
            fill(bench, peer, queue, count, 0)
            figures = _claims(bench, queue, size.growth_claims) if peer is OURS else {}
            wanted = min(size.growth_drain, count - size.growth_claims)
            return {**figures, **_drain_some(bench, peer, queue, max(100, _part(peer, wanted)))}

        # To fill a million takes most systems many minutes: how they grow is not asked here.
        able = [peer for peer in peers if count <= size.growth[0] and peer.share >= 1]
        return Step(
            f"waiting-{count}", f"{count:,} jobs waiting", WAITING, run, able or [OURS], rounds
        )

    def memory(bench: Bench, peer: Peer) -> Figures:
        count = bench.jobs(peer, size.memory_jobs, 1000)
        queue = bench.queue()
        fill(bench, peer, queue, 1, 0)
        drain(bench, peer, queue, 1)
        empty = bench.settled_memory_bytes()
        fill(bench, peer, queue, count, 0)
        full = bench.settled_memory_bytes()
        drain(bench, peer, queue, count, settle_seconds=SETTLE_SECONDS)
        done = bench.settled_memory_bytes()
        return {"waiting": (full - empty) / count, "finished": (done - empty) / count}

    return Scenario(
        "growth",
        "Growth",
        "What a long queue costs, and the server's memory for jobs with a payload of 100 bytes. "
        "What a finished job takes depends on what each system keeps of it.",
        [
            *(waiting(count) for count in size.growth),
            Step("memory", "Memory in the server", MEMORY, memory, peers, 1),  # hardly varies
        ],
    )


def _part(peer: Peer, count: int) -> int:
    return round(count * min(1.0, peer.share * 2))


def _drain_some(bench: Bench, peer: Peer, queue: str, count: int) -> Figures:
    """The rate and the server's CPU of the first jobs of many."""
    with bench.adapter(peer, queue, "worker") as worker:
        before = bench.server_cpu_seconds()
        worker.ask({"do": "work", "concurrency": CONCURRENCY, "handler": "noop"})
        report = wait_until_done([worker], count)[0]
        cpu = bench.server_cpu_seconds() - before
    seconds = (report["last_ns"] - report["first_ns"]) / 1e9
    return {"rate": report["count"] / seconds, "server_us": cpu / report["count"] * 1e6}


def _claims(bench: Bench, queue: str, count: int) -> Figures:
    """What the claim script takes, called for one job at a time."""
    with bench.adapter(FLOOR, queue, "producer") as client:
        before = _evalsha_us(bench)
        took: list[float] = client.ask({"do": "claims", "count": count})["took_us"]
        in_server = _evalsha_us(bench) - before
    return {"claim_us": median(took), "claim_server_us": in_server / count}


def _evalsha_us(bench: Bench) -> float:
    stats: Any = bench.redis.info("commandstats")
    return float(stats.get("cmdstat_evalsha", {}).get("usec", 0))
