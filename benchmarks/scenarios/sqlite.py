"""SQLite: ours against huey's SQLite storage, a new file each time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from harness import Bench, Figures, Metric, Scenario, Step
from peers import HUEY, OURS, Peer
from sizes import Size

from scenarios.drain import drain, fill
from scenarios.pickup import METRICS as PICKUP
from scenarios.pickup import pickup

RATE = Metric("rate", "jobs", "jobs/s")


def make(size: Size, peers: Sequence[Peer]) -> Scenario:
    """Enqueue, drain and pick-up."""
    del peers  # it has its own

    def step(
        name: str,
        title: str,
        metrics: Sequence[Metric],
        measure: Callable[[Bench, Peer, str], Figures],
    ) -> Step:
        def run(bench: Bench, peer: Peer) -> Figures:
            with tempfile.TemporaryDirectory(prefix="jobqueue-bench-") as folder:
                return measure(bench, peer, f"sqlite://{Path(folder).as_posix()}/jobs.db")

        return Step(name, title, metrics, run, (OURS, HUEY))

    def enqueue(bench: Bench, peer: Peer, url: str) -> Figures:
        bench.counts[peer.name] = size.sqlite
        with bench.adapter(peer, bench.queue(), "producer", url=_url(peer, url)) as producer:
            ask = {
                "do": "enqueue",
                "mode": "concurrent",
                # huey's threads would only wait for each other's lock
                "concurrency": 100 if peer is OURS else 1,
                "payload_bytes": 100,
                "handler": "noop",
            }
            producer.ask({**ask, "count": 100})
            answer = producer.ask({**ask, "count": size.sqlite})
        return {"rate": answer["count"] / answer["seconds"]}

    def drain_it(bench: Bench, peer: Peer, url: str) -> Figures:
        bench.counts[peer.name] = size.sqlite
        queue = bench.queue()
        fill(bench, peer, queue, size.sqlite, 0, _url(peer, url))
        seconds = drain(bench, peer, queue, size.sqlite, url=_url(peer, url))
        return {"rate": size.sqlite / seconds}

    def pick_up(bench: Bench, peer: Peer, url: str) -> Figures:
        bench.counts[peer.name] = size.pickups
        return pickup(bench, peer, size.pickups, _url(peer, url))

    return Scenario(
        "sqlite",
        "SQLite",
        "One file in WAL mode, a new one each time, producer and worker in two processes.",
        [
            step("enqueue", "SQLite, enqueue", (RATE,), enqueue),
            step("drain", "SQLite, drain", (RATE,), drain_it),
            step("pickup", "SQLite, pick-up by an idle worker", PICKUP, pick_up),
        ],
    )


def _url(peer: Peer, url: str) -> str:
    """An absolute path has a fourth slash in our URLs."""
    return url.replace("sqlite://", "sqlite:///", 1) if peer is OURS else url
