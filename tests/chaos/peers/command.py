"""The part of the campaign's command that runs other queues: ``S1 S5 S9 --peers``."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import Any

from benchmarks.envs import NotInstalled
from tests.chaos.peers.campaign import TRIALS, run
from tests.chaos.peers.report import line, write
from tests.chaos.peers.systems import SYSTEMS, System
from tests.support.servers import ServerBinary


def run_peers(given: argparse.Namespace, binary: ServerBinary, seed: int) -> int:
    """Run the scenarios by all queues, in turn; 1 if this queue ended badly in one of them."""
    names = given.peers.split(",") if given.peers else list(SYSTEMS)
    trials = given.scenario or list(TRIALS)
    unknown = [each for each in names if each not in SYSTEMS]
    unknown += [each for each in trials if each not in TRIALS]
    if unknown:
        print(f"with --peers there are {', '.join(TRIALS)} and {', '.join(SYSTEMS)}: not ", end="")
        print(", ".join(unknown))
        return 2
    about = {
        "server": binary.label,
        "python": sys.version.split()[0],
        "scale": given.scale,
        "seed": seed,
        "systems": {name: _about(SYSTEMS[name]) for name in names},
    }
    good = True
    for trial in trials:
        for number in range(given.rounds * TRIALS[trial].rounds):
            for name in names:
                result = _run_one(trial, name, given, binary, seed + number)
                if result is None:
                    continue
                good &= name != "jobqueue" or result["good"]
                if given.results:
                    write(given.results, about, result)
    return 0 if good else 1


def _about(system: System) -> dict[str, str]:
    try:
        return {"versions": system.versions, "settings": system.settings}
    except NotInstalled as error:
        return {"versions": f"not installed: {error}", "settings": system.settings}


def _run_one(
    trial: str, name: str, given: argparse.Namespace, binary: ServerBinary, seed: int
) -> dict[str, Any] | None:
    try:
        result = asyncio.run(
            run(
                TRIALS[trial],
                SYSTEMS[name],
                seed=seed,
                scale=given.scale,
                binary=binary,
                keep=given.keep,
            )
        ).as_dict()
    except NotInstalled as error:
        print(f"{trial} {name}: its environment cannot be made: {error}", file=sys.stderr)
        return None
    if given.json:
        print(json.dumps(result), flush=True)
    else:
        print(line(result), flush=True)
        for example in result["examples"]:
            print(f"     {example}", flush=True)
    return result
