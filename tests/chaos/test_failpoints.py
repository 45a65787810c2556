"""S8 in small, and that no failpoint is left out of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import jobqueue
from jobqueue.storage.failpoints import MOMENTS, VERBS
from tests.chaos import failpoints
from tests.chaos.failpoints import POINTS, ROLES, Point
from tests.support.servers import find_servers

PACKAGE = Path(jobqueue.__file__).parent
SOURCES = {
    "worker": ["consumer", "maintenance"],
    "reaper": ["maintenance/reaper.py"],
    "producer": ["producer.py", "replies.py", "events.py"],
}
_CALL = re.compile(r"storage\.(\w+)\(")


def _verbs_called(source: str) -> set[str]:
    path = PACKAGE / source
    files = [path] if path.is_file() else sorted(path.glob("*.py"))
    assert files
    return {verb for file in files for verb in _CALL.findall(file.read_text(encoding="utf-8"))}


def test_somebody_ends_at_every_failpoint() -> None:
    assert {verb for verbs in ROLES.values() for verb in verbs} == set(VERBS)
    assert {(point.verb, point.moment) for point in POINTS} == {
        (verb, moment) for verb in VERBS for moment in MOMENTS
    }


@pytest.mark.parametrize("who", ROLES)
def test_every_verb_that_a_process_calls_is_among_its_failpoints(who: str) -> None:
    called = set().union(*(_verbs_called(source) for source in SOURCES[who]))
    assert called - {"twin"} == ROLES[who].keys()


async def test_what_a_process_left_undone_is_done_by_others() -> None:
    points = [
        Point("worker", "finish", "after"),
        Point("reaper", "recover", "after"),
        Point("producer", "enqueue", "after"),
    ]
    # Not how soon: this machine may be busy with other tests.
    report = await failpoints.run(points, find_servers()[0], lease=0.6, slack=20)
    assert report.good, "\n".join([report.line(), *report.examples()])
    assert len(report.trials) == 2 * len(points)
    assert report.total("completed") == 2 * (3 + 3 + 2)
