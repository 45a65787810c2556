"""S8 in small, and that no failpoint is left out of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import jobqueue
from jobqueue.storage.failpoints import MOMENTS, VERBS
from tests.chaos import failpoints
from tests.chaos.failpoints import POINTS, ROLES, Point, Trial, judge
from tests.chaos.ledger import Ledger
from tests.chaos.verdict import Books
from tests.support.servers import find_servers

PACKAGE = Path(jobqueue.__file__).parent
SOURCES = {
    "worker": ["consumer", "maintenance", "schedules/scheduler.py", "limiting.py"],
    "reaper": ["maintenance/reaper.py"],
    "producer": ["producer.py", "replies.py", "events.py"],
    "operator": ["admin.py", "limiting.py", "schedules/admin.py"],
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


def test_what_was_settled_must_not_run_again(tmp_path: Path) -> None:
    trial = Trial(Point("worker", "finish", "after"), "somewhere")
    (tmp_path / "1.ledger").write_text("accepted 1 0 job-0\nkill 3 0 2\n")
    (tmp_path / "2.ledger").write_text("start 2 1 job-0\nend 2.5 1 job-0\n")
    (tmp_path / "3.ledger").write_text("start 4 2 job-0\nend 5 2 job-0\nsettled 5 2 job-0\n")
    books = Books(Ledger(tmp_path), lease=1.0, window=0.0, cut_off=False)

    judge(trial, books, 3.0, {"job-0": "running"}, {"job-0": "completed"})
    assert (trial.verdict.justified, trial.verdict.unjustified) == (1, [])
    assert (trial.seconds, trial.verdict.late) == (2.0, [])
    assert trial.verdict.unexpected == ["at its end the jobs were {'job-0': 'running'}"]

    books.lease = 0.5
    judge(trial, books, 3.0, {"job-0": "completed"}, {"job-0": "completed"})
    assert len(trial.verdict.unjustified) == 1
    assert trial.verdict.late == ["done only after 2.00 s"]


def test_a_job_that_never_ends_is_never_in_time(tmp_path: Path) -> None:
    trial = Trial(Point("reaper", "recover", "after"), "somewhere")
    (tmp_path / "1.ledger").write_text("accepted 1 0 job-0\nkill 3 0 2\n")
    books = Books(Ledger(tmp_path), lease=1.0, window=0.0, cut_off=False)
    judge(trial, books, 3.0, {"job-0": "running"}, {"job-0": "running"})
    assert len(trial.verdict.lost) == 1
    assert trial.verdict.late == ["done only after inf s"]


async def test_what_a_process_left_undone_is_done_by_others() -> None:
    points = [
        Point("worker", "finish", "after"),
        Point("reaper", "recover", "after"),
        Point("producer", "enqueue", "after"),
        Point("worker", "put_schedule", "after"),
        Point("operator", "obliterate", "before"),
    ]
    # Not how soon: this machine may be busy with other tests.
    report = await failpoints.run(points, find_servers()[0], lease=0.6)
    bad = [trial for trial in report.trials if not trial.verdict.good]
    assert not bad, "\n".join([report.line(), *report.examples()])
    assert len(report.trials) == 2 * len(points)
    assert report.total("completed") == 2 * (3 + 3 + 2 + 3 + 1)
