"""Runs scenarios: rounds in which every system has its turn, on one server.

A scenario is a list of steps. A step is run in rounds; in each round every system does the same
thing once, ours first, so that a slow minute of the machine falls on all of them. The figure of a
step is the median over the rounds, and so is the ratio of ours to theirs, taken within each round.
"""

from __future__ import annotations

import itertools
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import envs
from peers import Peer
from processes import Adapter, Failed, Unsupported, wait_until_done
from redis import Redis
from sizes import Size

sys.path.insert(0, str(envs.REPOSITORY))  # tests/support needs nothing but the standard library

from tests.support.servers import Server

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of a step.

    Attributes:
        name: In the results.
        label: In tables and plots.
        unit: ``"jobs/s"``, ``"ms"``, ...
        higher_is_better: What is good.
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """What is measured at a time.

    Attributes:
        name: In the results, such as ``"10ms"``.
        title: In tables and plots.
        metrics: What :attr:`run` returns.
        run: Measures one system once.
        peers: Whom it is measured for.
        rounds: At most; 0: as many as there are.
    """

    name: str
    title: str
    metrics: Sequence[Metric]
    run: Callable[[Bench, Peer], Figures]
    peers: Sequence[Peer]
    rounds: int = 0


@dataclass(frozen=True, slots=True)
class Scenario:
    """A file of the results."""

    name: str
    title: str
    about: str
    steps: Sequence[Step]


@dataclass
class Bench:
    """What a step has at hand.

    Attributes:
        url: The server.
        redis: A connection to it, for what the server alone can tell.
        size: How much of everything.
        versions: Of each system, as its adapter says.
        counts: Jobs that each system was given in the step that runs.
    """

    url: str
    redis: Redis
    size: Size
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    _names: Iterator[int] = field(default_factory=itertools.count)

    def queue(self) -> str:
        """A queue name that nobody has used."""
        return f"bench-{os.getpid()}-{next(self._names)}"

    def jobs(self, peer: Peer, count: int, least: int = 200) -> int:
        """How many of so many jobs this system gets; recorded."""
        given = max(min(count, least), round(count * peer.share))
        self.counts[peer.name] = given
        return given

    @contextmanager
    def adapter(
        self, peer: Peer, queue: str, role: str, *, results: bool = False, url: str | None = None
    ) -> Iterator[Adapter]:
        """A process of a system, for the time of the block."""
        with Adapter(
            peer, url or self.url, queue, role, results=results, patience=self.size.patience
        ) as adapter:
            self.versions[peer.name] = adapter.versions
            yield adapter

    def drained(self, workers: list[Adapter], count: int) -> float:
        """Seconds from the first handler's first line to the last handler's last."""
        reports = wait_until_done(workers, count)
        first = min(report["first_ns"] for report in reports if report["count"])
        return (max(report["last_ns"] for report in reports) - first) / 1e9

    def server_cpu_seconds(self) -> float:
        """CPU time that the server has used."""
        info: Any = self.redis.info("cpu")
        return info["used_cpu_user"] + info["used_cpu_sys"]

    def settled_memory_bytes(self) -> int:
        """Memory that the server uses for data, once the last processes' connections are gone:
        without what clients' buffers and cached scripts take."""
        time.sleep(0.3)
        memory: Any = self.redis.info("memory")
        besides = memory.get("mem_clients_normal", 0) + memory.get("used_memory_scripts", 0)
        return int(memory["used_memory"]) - int(besides)


Progress = Callable[[str], None]


def run_step(bench: Bench, step: Step, rounds: int, progress: Progress) -> dict[str, Any]:
    """All rounds of a step.

    Returns:
        What the results file says of it: ``rounds`` has a map from system to figures for each
        round, ``missing`` why a system has none.
    """
    rounds = min(rounds, step.rounds or rounds)
    bench.counts.clear()
    begun = time.monotonic()
    all_rounds: list[dict[str, Figures]] = []
    missing: dict[str, str] = {}
    for number in range(rounds):
        figures: dict[str, Figures] = {}
        for peer in step.peers:
            progress(f"{step.title}: {peer.label}, round {number + 1}")
            if missing.get(peer.name, "").startswith(PERMANENT):
                continue
            try:
                bench.redis.flushall()
                figures[peer.name] = step.run(bench, peer)
                missing.pop(peer.name, None)
            except Unsupported as error:
                missing[peer.name] = f"none: {error}"
            except envs.NotInstalled as error:
                missing[peer.name] = f"not installed: {error}"
            except Failed as error:
                missing[peer.name] = f"failed: {error}"
        all_rounds.append(figures)
    return {
        "title": step.title,
        "took_seconds": round(time.monotonic() - begun, 1),
        "metrics": {
            metric.name: {
                "label": metric.label,
                "unit": metric.unit,
                "higher_is_better": metric.higher_is_better,
            }
            for metric in step.metrics
        },
        "labels": {peer.name: peer.label for peer in step.peers},
        "jobs": dict(bench.counts),
        "rounds": all_rounds,
        "missing": missing,
    }


PERMANENT = ("none:", "not installed:")


@contextmanager
def server() -> Iterator[Server]:
    """One fresh server that keeps everything in memory, on a free port of the loopback."""
    process = Server()
    try:
        process.start()
        yield process
    finally:
        process.stop()


def about(server: Server, rounds: int) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "command": " ".join(["python", *sys.orig_argv[1:]]),
        "commit": _commit(),
        "rounds": rounds,
        "server": server.binary.label,
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
            "system": f"{platform.system()} {platform.release()}",
            "load_before": round(os.getloadavg()[0], 2),
        },
    }


def _commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=envs.REPOSITORY, capture_output=True, text=True
        )
        return done.stdout.strip()

    # What is measured, and what measures: not the results and pages that runs have changed.
    measured = ("jobqueue", "lua", "benchmarks", ":!benchmarks/results")
    changed = "-dirty" if git("status", "--porcelain", "--", *measured) else ""
    return (git("rev-parse", "--short", "HEAD") or "unknown") + changed


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
