"""cost: what a job of ours takes of each side, and what changes when it is set up otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness import Bench, Figures, Metric, Scenario, Step
from peers import OURS, Peer
from processes import wait_until_done
from sizes import Size

from scenarios.drain import CONCURRENCY, PAYLOAD_BYTES, fill

COST = (
    Metric("python_us", "Python, CPU", "µs", higher_is_better=False),
    Metric("scripts_us", "scripts in the server", "µs", higher_is_better=False),
    Metric("scripts", "script calls", "", higher_is_better=False),
)
RATE = (Metric("rate", "jobs run", "jobs/s"), *COST)
CONCURRENCIES = (1, 10, 1000)
PLAIN = (
    replace(
        OURS, name="no-uvloop", label="without uvloop", program=(*OURS.program, "without-uvloop")
    ),
    replace(
        OURS, name="no-hiredis", label="without hiredis", program=(*OURS.program, "without-hiredis")
    ),
)


def make(size: Size, peers: Sequence[Peer]) -> Scenario:
    """Per job: an enqueue, a drain, a call; and the drain set up otherwise."""
    del peers  # ours alone

    def enqueue(mode: str, title: str, count: int) -> Step:
        def run(bench: Bench, peer: Peer) -> Figures:
            bench.counts[peer.name] = count
            ask = {
                "do": "enqueue",
                "mode": mode,
                "concurrency": CONCURRENCY,
                "payload_bytes": PAYLOAD_BYTES,
                "handler": "noop",
            }
            with bench.adapter(peer, bench.queue(), "producer") as producer:
                producer.ask({**ask, "count": 100})
                before = _scripts(bench)
                answer = producer.ask({**ask, "count": count})
                return _cost(bench, before, answer["cpu_s"], count)

        return Step(f"enqueue-{mode}", title, COST, run, (OURS,))

    def drain(name: str, title: str, concurrency: int, peers: Sequence[Peer]) -> Step:
        def run(bench: Bench, peer: Peer) -> Figures:
            # One at a time there is nothing to share, and a tenth says the same.
            count = size.drain if concurrency >= 10 else size.drain // 10
            bench.counts[peer.name] = count
            queue = bench.queue()
            fill(bench, OURS, queue, count, 0)
            with bench.adapter(peer, queue, "worker") as worker:
                cpu = worker.ask({"do": "report"})["cpu_s"]
                before = _scripts(bench)
                worker.ask({"do": "work", "concurrency": concurrency, "handler": "noop"})
                (report,) = wait_until_done([worker], count)
                rate = count / ((report["last_ns"] - report["first_ns"]) / 1e9)
                return {"rate": rate, **_cost(bench, before, report["cpu_s"] - cpu, count)}

        return Step(name, title, RATE, run, peers)

    def call(bench: Bench, peer: Peer) -> Figures:
        bench.counts[peer.name] = size.calls
        queue = bench.queue()
        with (
            bench.adapter(peer, queue, "worker", results=True) as worker,
            bench.adapter(peer, queue, "producer", results=True) as caller,
        ):
            worker.ask({"do": "work", "concurrency": CONCURRENCY, "handler": "echo"})
            ask = {"do": "call", "concurrency": 1, "payload_bytes": PAYLOAD_BYTES}
            caller.ask({**ask, "count": 100})
            cpu = worker.ask({"do": "report"})["cpu_s"]
            before = _scripts(bench)
            answer = caller.ask({**ask, "count": size.calls})
            cpu = worker.ask({"do": "report"})["cpu_s"] - cpu + answer["cpu_s"]
            return _cost(bench, before, cpu, size.calls)

    return Scenario(
        "cost",
        "Cost of a job",
        "What one job of 100 bytes takes: CPU time of our process (user and system), time in the "
        "scripts as the server counts it, and calls of scripts. A drain is the claim and the "
        "finish of each job; a call is both sides of it, one at a time.",
        [
            enqueue("single", "Cost: enqueue, one at a time", size.single),
            enqueue("concurrent", "Cost: enqueue, 100 in flight", size.concurrent),
            enqueue("bulk", "Cost: enqueue, bulk call", size.bulk),
            drain("drain", "Cost: drain, no-op, concurrency 100", 100, (OURS, *PLAIN)),
            *(
                drain(f"drain-{n}", f"Cost: drain, no-op, concurrency {n}", n, (OURS,))
                for n in CONCURRENCIES
            ),
            Step("call", "Cost: call, one at a time", COST, call, (OURS,)),
        ],
    )


def _scripts(bench: Bench) -> tuple[int, float]:
    """Calls of scripts so far, and the microseconds that they took."""
    stats: Any = bench.redis.info("commandstats")
    evalsha = stats.get("cmdstat_evalsha", {})
    return int(evalsha.get("calls", 0)), float(evalsha.get("usec", 0))


def _cost(bench: Bench, before: tuple[int, float], cpu_s: float, count: int) -> Figures:
    calls, micros = _scripts(bench)
    return {
        "python_us": cpu_s / count * 1e6,
        "scripts_us": (micros - before[1]) / count,
        "scripts": (calls - before[0]) / count,
    }
