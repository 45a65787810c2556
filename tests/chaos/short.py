"""The campaign in small: each scenario with a few hundred jobs. ``make chaos`` has the real one.

What is late is no failure here: a busy machine may be too slow for any promise of time.
"""

from __future__ import annotations

from typing import Final

from tests.chaos.campaign import run
from tests.chaos.faults import nothing
from tests.chaos.loads import PLAIN
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
    "HANDED-KILL": 0.02,
    "HANDED-SERVER": 0.02,
    "HANDED-CUT": 0.02,
    "SENT-KILL": 0.02,
    "SENT-SERVER": 0.02,
    "SENT-CUT": 0.02,
    "SQLITE-KILL": 0.005,
    "SQLITE-FREEZE": 0.01,
    "SQLITE-FULL": 0.05,
    "ALL": 0.01,
    "LIMITS": 0.01,
    "RATE": 0.25,
    "WINDOW": 0.25,
    "SQLITE-LIMITS": 0.01,
    "SQLITE-RATE": 0.25,
    "SQLITE-WINDOW": 0.25,
}
ALWAYS: Final = ("S1", "S2", "S9", "S13", "F10")
"""Those that run with the tests of every change; the others have not time enough there."""


ALWAYS_WITH_FLOW: Final = {"S1": 0.003, "LIMITS": 0.005, "SQLITE-WINDOW": 0.05}
"""Of those with time and flow, and how small they are then."""
WITH_FLOW: Final = tuple(
    name for name, each in SCENARIOS.items() if each.load == PLAIN and not each.ticks
)
"""Those that can be run with time and flow."""


async def check(name: str, scale: float = 0.0, *, flow: bool = False) -> None:
    """Run a scenario in small.

    Args:
        name: Which.
        scale: How small; 0 for what :data:`SCALES` says.
        flow: With time and flow.
    """
    scenario = SCENARIOS[name]
    lease = None if scenario.plan is nothing else LEASE
    scale = scale or SCALES[name]
    report = await run(scenario, seed=SEED, scale=scale, workers=WORKERS, lease=lease, flow=flow)
    assert report.verdict.good, "\n".join([report.line(), *report.examples()])
    assert scenario.plan is nothing or sum(report.faults.values()) > 0
