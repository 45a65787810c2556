"""Some scenarios of the campaign in small; the others are in ``test_scenarios.py``."""

from __future__ import annotations

import pytest

from tests.chaos.short import ALWAYS, ALWAYS_WITH_FLOW, WITH_FLOW, check


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ALWAYS)
async def test_scenario(name: str) -> None:
    await check(name)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ALWAYS_WITH_FLOW)
async def test_scenario_with_time_and_flow(name: str) -> None:
    await check(name, ALWAYS_WITH_FLOW[name], flow=name in WITH_FLOW)
