"""The comparison in small, by this queue alone: other queues need their environments."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.peers.campaign import TRIALS, run
from tests.chaos.peers.report import line, write
from tests.chaos.peers.systems import SYSTEMS
from tests.support.servers import find_servers


@pytest.mark.parametrize("name", TRIALS)
async def test_trial(name: str, tmp_path: Path) -> None:
    result = await run(
        TRIALS[name], SYSTEMS["jobqueue"], seed=4, scale=0.02, binary=find_servers()[0]
    )
    told = result.as_dict()
    assert result.tally.good, "\n".join([line(told), *told["examples"]])
    assert result.tally.completed == result.tally.jobs
    assert sum(result.faults.values()) > 0
    about = {"server": "", "python": "", "seed": 4, "scale": 1.0, "systems": {}}
    write(tmp_path, about, told)
    write(tmp_path, about, {**told, "seed": 5})
    write(tmp_path, about, told)
    assert f"| jobqueue | {2 * result.tally.jobs} |" in (tmp_path / "README.md").read_text()
