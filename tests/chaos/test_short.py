"""Some scenarios of the campaign in small; the others are in ``test_scenarios.py``."""

from __future__ import annotations

import pytest

from tests.chaos.short import ALWAYS, check


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ALWAYS)
async def test_scenario(name: str) -> None:
    await check(name)
