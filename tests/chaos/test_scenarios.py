"""The scenarios in small for which there is no time in the default tests."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.chaos.fleet import ROOT
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.short import ALWAYS, LEASE, SCALES, SEED, WITH_FLOW, WORKERS, check
from tests.chaos.stage import Where
from tests.support.disks import NO_MOUNT, can_mount

ON_A_SMALL_DISK = [name for name in SCENARIOS if SCENARIOS[name].where is Where.SMALL_DISK]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "name", [name for name in SCENARIOS if name not in (*ALWAYS, *ON_A_SMALL_DISK)]
)
async def test_scenario(name: str) -> None:
    await check(name)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [name for name in WITH_FLOW if name not in ON_A_SMALL_DISK])
async def test_scenario_with_time_and_flow(name: str) -> None:
    await check(name, flow=True)


@pytest.mark.timeout(120)
@pytest.mark.skipif(not can_mount(), reason=NO_MOUNT)
@pytest.mark.parametrize("name", ON_A_SMALL_DISK)
def test_scenario_on_a_small_disk(name: str) -> None:
    """Without disks, tests/integration/test_sqlite_faults.py still sees a file that cannot grow."""
    size = ["--seed", SEED, "--scale", SCALES[name], "--workers", WORKERS, "--lease", LEASE]
    command = [sys.executable, "-m", "tests.chaos", name, "--json", *map(str, size)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=100)
    report = json.loads(done.stdout)
    bad = [report[kind] for kind in ("lost", "duplicated_unjustified", "unexpected")]
    assert not any(bad), report["examples"]
    assert report["faults"]["times the disk was full"] == 1
