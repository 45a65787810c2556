"""The campaign in small: each scenario with a few hundred jobs. ``make chaos`` has the real one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.chaos.campaign import run
from tests.chaos.fleet import ROOT
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.stage import Where
from tests.support.disks import NO_MOUNT, can_mount

SEED = 4
SCALES = {
    "S1": 0.01,
    "S2": 0.01,
    "S3": 0.01,
    "S4": 0.01,
    "S5": 0.01,
    "S9": 0.03,
    "S10": 0.02,
    "S13": 0.03,
    "S14": 0.05,
    "S22": 0.01,
    "SQLITE-KILL": 0.005,
    "SQLITE-FREEZE": 0.01,
    "SQLITE-FULL": 0.05,
    "ALL": 0.01,
}


@pytest.mark.parametrize(
    "name", [name for name in SCENARIOS if SCENARIOS[name].where is not Where.SMALL_DISK]
)
async def test_scenario(name: str) -> None:
    report = await run(SCENARIOS[name], seed=SEED, scale=SCALES[name], workers=2, lease=0.6)
    assert report.good, "\n".join([report.line(), *report.examples()])
    assert sum(report.faults.values()) > 0


@pytest.mark.timeout(120)
@pytest.mark.skipif(not can_mount(), reason=NO_MOUNT)
@pytest.mark.parametrize(
    "name", [name for name in SCENARIOS if SCENARIOS[name].where is Where.SMALL_DISK]
)
def test_scenario_on_a_small_disk(name: str) -> None:
    """Without disks, tests/integration/test_sqlite_faults.py still sees a file that cannot grow."""
    arguments = [name, "--seed", SEED, "--scale", SCALES[name], "--workers", 2, "--lease", 0.6]
    command = [sys.executable, "-m", "tests.chaos", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 times the disk was full" in done.stdout
