"""The campaign's command: ``python -m tests.chaos S1 S9 --scale 0.1 --seed 7``.

What is a scenario has faults, a ledger and a verdict; what is a measure runs on several storages
and prints a figure for each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.chaos import failpoints
from tests.chaos.campaign import Show, run
from tests.chaos.measures import MEASURES, Measure, Row, measured
from tests.chaos.peers.command import run_peers
from tests.chaos.report import Report
from tests.chaos.scenarios import SCENARIOS, Scenario
from tests.chaos.stage import Where
from tests.support.disks import IN_NAMESPACE, NO_MOUNT, can_mount
from tests.support.servers import ServerBinary, find_servers


def main(arguments: list[str] | None = None) -> int:
    """Run scenarios one after the other; 1 if one of them ended badly."""
    given = _parser().parse_args(arguments)
    # Ended from outside, the run still ends its servers.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    binary = None
    if given.server is not None:
        found = [server for server in find_servers() if server.label.startswith(given.server)]
        if not found:
            labels = ", ".join(server.label for server in find_servers())
            print(f"there is no server {given.server!r}, only {labels}", file=sys.stderr)
            return 2
        binary = found[0]
    seed = random.SystemRandom().getrandbits(32) if given.seed is None else given.seed
    print(f"seed {seed}, scale {given.scale:g}", file=sys.stderr)
    if given.peers is not None:
        return run_peers(given, binary or find_servers()[0], seed)
    bad = 0
    for name in given.scenario or (*SCENARIOS, failpoints.NAME, *MEASURES):
        if name in MEASURES:
            bad += not _measure(MEASURES[name], given, binary, seed)
            continue
        if name == failpoints.NAME:
            bad += not _run_failpoints(given, binary, seed)
            continue
        scenario = SCENARIOS[name]
        if scenario.where is Where.SMALL_DISK and not given.may_mount:
            bad += not _run_where_disks_may_be_mounted(scenario, given, seed)
        else:
            bad += not _run_one(scenario, given, binary, seed)
    return 1 if bad else 0


def _measure(
    measure: Measure, given: argparse.Namespace, binary: ServerBinary | None, seed: int
) -> bool:
    rows: list[Row] = []
    for entry in measure.places(binary):
        row = asyncio.run(measured(measure, entry, seed=seed, scale=given.scale))
        rows.append(row)
        print(json.dumps(row.as_dict()) if given.json else row.line(), flush=True)
        if not given.json:
            for problem in row.finding.problems:
                print(f"     {problem}", flush=True)
    return all(row.good for row in rows)


def _run_where_disks_may_be_mounted(
    scenario: Scenario, given: argparse.Namespace, seed: int
) -> bool:
    if not can_mount():
        print(f"{scenario.name} was not run: {NO_MOUNT}", flush=True)
        return False
    command = [*IN_NAMESPACE, sys.executable, "-m", "tests.chaos", scenario.name, "--may-mount"]
    options = {"seed": seed, "scale": given.scale, "workers": given.workers, "lease": given.lease}
    for name, value in options.items():
        command += [] if value is None else [f"--{name}", str(value)]
    command += ["--json"] if given.json else []
    command += ["--flow"] if given.flow else []
    return subprocess.run(command).returncode == 0


def _run_one(
    scenario: Scenario, given: argparse.Namespace, binary: ServerBinary | None, seed: int
) -> bool:
    with _progress(f"{scenario.name} {scenario.title}") as show:
        report = asyncio.run(
            run(
                scenario,
                seed=seed,
                scale=given.scale,
                workers=given.workers,
                lease=given.lease,
                binary=binary,
                flow=given.flow,
                show=show,
            )
        )
    return _say(report, given, seed)


def _run_failpoints(given: argparse.Namespace, binary: ServerBinary | None, seed: int) -> bool:
    with _progress(f"{failpoints.NAME} {failpoints.TITLE}") as show:
        report = asyncio.run(
            failpoints.run(
                failpoints.draw(seed, given.scale),
                binary or find_servers()[0],
                seed=seed,
                scale=given.scale,
                lease=given.lease or failpoints.LEASE,
                show=show,
            )
        )
    return _say(report, given, seed)


def _say(report: Report | failpoints.Report, given: argparse.Namespace, seed: int) -> bool:
    if given.json:
        print(json.dumps(report.as_dict()), flush=True)
        return report.good
    print(report.line(), flush=True)
    for example in report.examples():
        print(f"     {example}", flush=True)
    if not report.good:
        print(f"     again: python -m tests.chaos {report.scenario} --seed {seed}", end="")
        print(f" --scale {given.scale:g}", end="")
        print(" --flow" if given.flow else "", end="")
        print("" if given.server is None else f" --server {given.server}", flush=True)
    return report.good


@contextmanager
def _progress(title: str) -> Iterator[Show]:
    """A bar on the standard error, if somebody sees it."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns,
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument(
        "scenario",
        nargs="*",
        metavar="SCENARIO",
        help=f"{', '.join((*SCENARIOS, failpoints.NAME, *MEASURES))}; default: all",
    )
    parser.add_argument("--scale", type=float, default=1.0, help="part of the full size")
    parser.add_argument("--seed", type=int, help="repeat a run's choices")
    parser.add_argument("--workers", type=int, help="worker processes")
    parser.add_argument("--lease", type=float, help="the queue's lease in seconds")
    parser.add_argument(
        "--server",
        metavar="PREFIX",
        help="run on the first server whose label starts so, such as valkey, and on no other one",
    )
    parser.add_argument(
        "--peers",
        nargs="?",
        const="",
        metavar="QUEUE,...",
        help="this queue and others, or those named, at the same size (S1, S5, S5b, S9)",
    )
    parser.add_argument("--rounds", type=int, default=1, help="with --peers: how often, in turn")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="with --peers: write there")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="with --peers: keep ledgers")
    parser.add_argument(
        "--flow",
        action="store_true",
        help="the scenarios with priorities, groups, delays, expiry, uniqueness, limits, schedules",
    )
    parser.add_argument("--may-mount", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print each run as a line of JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
