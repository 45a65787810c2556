"""The campaign in small: each scenario with a few hundred jobs. ``make chaos`` has the real one."""

from __future__ import annotations

import pytest

from tests.chaos.campaign import run
from tests.chaos.scenarios import SCENARIOS

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
    "ALL": 0.01,
}


@pytest.mark.parametrize("name", SCENARIOS)
async def test_scenario(name: str) -> None:
    report = await run(SCENARIOS[name], seed=SEED, scale=SCALES[name], workers=2, lease=0.6)
    assert report.good, "\n".join([report.line(), *report.examples()])
    assert sum(report.faults.values()) > 0
