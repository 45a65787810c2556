"""The campaign in small: each scenario with a few hundred jobs. ``make chaos`` has the real one.

What is late is no failure here: a busy machine may be too slow for any promise of time.
"""

from __future__ import annotations

from typing import Final

from tests.chaos.campaign import run
from tests.chaos.scenarios import SCENARIOS

SEED: Final = 4
WORKERS: Final = 2
LEASE: Final = 0.6
SCALES: Final = {
    "S1": 0.01,
    "S2": 0.01,
    "S3": 0.01,
    "S4": 0.01,
    "S5": 0.01,
    "S9": 0.03,
    "S10": 0.02,
    "S13": 0.03,
    "S14": 0.05,
    "S19": 0.05,
    "S22": 0.01,
    "F09": 0.02,
    "F10": 0.02,
    "F11": 0.02,
    "F12": 0.02,
    "F13": 0.02,
    "F32": 0.02,
    "SQLITE-KILL": 0.005,
    "SQLITE-FREEZE": 0.01,
    "SQLITE-FULL": 0.05,
    "ALL": 0.01,
}
ALWAYS: Final = ("S1", "S2", "S9", "S13", "F10")
"""Those that run with the tests of every change; the others have not time enough there."""


async def check(name: str) -> None:
    """Run a scenario in small."""
    report = await run(SCENARIOS[name], seed=SEED, scale=SCALES[name], workers=WORKERS, lease=LEASE)
    assert report.verdict.good, "\n".join([report.line(), *report.examples()])
    assert sum(report.faults.values()) > 0
