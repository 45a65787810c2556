"""The benchmark suite. ``README.md`` says what is measured and how.

make bench          # everything, in rounds; 45 minutes
make bench-quick    # the main peers, two minutes
make bench ARGS="--only drain --peers bullmq,streaq --rounds 3"
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import envs
import harness
import report
from peers import EVERYBODY, FLOOR, HUEY, OURS, PEERS, Peer
from redis import Redis
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from scenarios import SCENARIOS
from sizes import FULL, QUICK, Size

RESULTS = Path(__file__).parent / "results"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="jobqueue and its peers, side by side.")
    parser.add_argument("--quick", action="store_true", help="main peers, fewer jobs, 2 minutes")
    parser.add_argument("--only", metavar="SCENARIO[,...]", help=", ".join(SCENARIOS))
    parser.add_argument("--peers", metavar="PEER[,...]", help=", ".join(p.name for p in PEERS))
    parser.add_argument("--rounds", type=int, help="default: 5, quick 2")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--results", type=Path, help="folder (default: results/full or /quick)")
    given = parser.parse_args()
    for names, known in ((given.only, SCENARIOS), (given.peers, {p.name for p in EVERYBODY})):
        unknown = [name for name in (names or "").split(",") if name and name not in known]
        if unknown:
            parser.error(f"unknown: {', '.join(unknown)}")
    if given.rounds is not None and given.rounds < 1:
        parser.error("--rounds must be at least 1")
    return given


def chosen_peers(given: argparse.Namespace) -> list[Peer]:
    """Ours, and those that were asked for."""
    if given.peers:
        names = given.peers.split(",")
        return [OURS, *(peer for peer in PEERS if peer.name in names)]
    return [OURS, *(peer for peer in PEERS if peer.main or not given.quick)]


def install(peers: Sequence[Peer], console: Console) -> None:
    """Make the environments before anything is measured."""
    for env in dict.fromkeys(peer.env for peer in peers):
        with console.status(f"environment of {env}"):
            try:
                envs.command(env, ("",))
            except envs.NotInstalled as error:
                console.print(f"{env} cannot be installed: {error}", style="yellow")


def measure(
    size: Size, names: Sequence[str], peers: Sequence[Peer], folder: Path, console: Console
) -> list[dict[str, Any]]:
    """Run the scenarios; each result is written as soon as it is there."""
    columns = (
        TextColumn("{task.description:44.44}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    scenarios = [SCENARIOS[name](size, peers) for name in names]
    steps = [step for scenario in scenarios for step in scenario.steps]
    turns = sum(len(step.peers) * min(step.rounds or size.rounds, size.rounds) for step in steps)
    results: list[dict[str, Any]] = []
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=turns)
        started = -1

        def progress(doing: str) -> None:
            nonlocal started
            started += 1
            bar.update(task, description=doing, completed=started)

        for scenario in scenarios:
            with harness.server() as server, Redis.from_url(server.url) as redis:
                about = harness.about(server, size.rounds)
                bench = harness.Bench(server.url, redis, size)
                measured = {
                    step.name: harness.run_step(bench, step, size.rounds, progress)
                    for step in scenario.steps
                }
            results.append(
                {
                    "scenario": scenario.name,
                    "title": scenario.title,
                    "about": {**about, "text": scenario.about, "versions": bench.versions},
                    "steps": measured,
                }
            )
            report.write(folder, results[-1])
    return results


def main() -> None:
    given = arguments()
    size = QUICK if given.quick else FULL
    if given.rounds:
        size = replace(size, rounds=given.rounds)
    names = given.only.split(",") if given.only else list(SCENARIOS)
    peers = chosen_peers(given)
    folder = given.results or RESULTS / size.name
    console = Console(stderr=True)
    envs.take_snapshot()
    install([*peers, FLOOR, HUEY] if "sqlite" in names else peers, console)
    results = measure(size, names, peers, folder, console)
    if given.json:
        json.dump(results, sys.stdout, indent=2)
        print()
    else:
        for result in results:
            report.show(Console(width=None if sys.stdout.isatty() else 132), result)
    console.print(f"written to {folder}")


if __name__ == "__main__":
    main()
