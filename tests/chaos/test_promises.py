"""The oracle of time and flow: what it calls a broken promise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from jobqueue.flow import Flow, LimitInfo, LimitKind, LimitScope
from jobqueue.flow import Limit as FlowLimit
from jobqueue.outcome import EXPIRED
from jobqueue.states import JobState
from jobqueue.storage.types import StoredJob
from tests.chaos.ledger import Ledger
from tests.chaos.loads import CUSTOMER, RATE, RATED
from tests.chaos.pace import Pace, pace_of
from tests.chaos.promises import Promises, left_under_limits, state_of
from tests.chaos.verdict import Books, Verdict

Write: TypeAlias = Callable[..., None]
DRIVER, PRODUCER, FIRST, SECOND = 1, 2, 3, 4
ONE_KEY = Flow(limit=CUSTOMER, key="k")
START_MS = 1_000_000


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Adds an entry to the ledger of some process."""

    def write(process: int, at: float, kind: str, about: object = "a", attempt: int = 0) -> None:
        with (tmp_path / f"{process}.ledger").open("a") as file:
            file.write(f"{kind} {at:.6f} {attempt} {about}\n")

    return write


def run(write: Write, process: int, id: str, start: float, end: float | None, fate: str) -> None:
    write(process, start, "start", id, 1)
    if end is not None:
        write(process, end, "end", id, 1)
    if fate:
        write(process, (end or start) + 0.1, fate, id, 1 if fate == "settled" else 0)


def job(id: str, start: float = 0.0, end: float = 0.0, **fields: Any) -> StoredJob:
    """A job that was started and has ended so many seconds after its enqueue."""
    given: dict[str, Any] = {
        "name": "task",
        "spec": b"",
        "state": JobState.COMPLETED,
        "attempt": 1,
        "fence": 1,
        "enqueued_ms": START_MS,
        "started_ms": START_MS + round(1000 * start) if start else 0,
        "finished_ms": START_MS + round(1000 * end),
    }
    return StoredJob(id=id, **given | fields)


def expired(id: str, end: float, **fields: Any) -> StoredJob:
    return job(id, 0, end, state=JobState.CANCELLED, value=EXPIRED, attempt=0, **fields)


def judged(folder: Path, *jobs: StoredJob | None, load: str = "keys", **options: Any) -> Verdict:
    """The verdict on some jobs of a run."""
    options = {"lease": 1.0, "window": 0.0, "cut_off": False, **options}
    books = Books(Ledger(folder), **options)
    stored = {each.id: each for each in jobs if each is not None}
    verdict = books.judge({id: state_of(each) for id, each in stored.items()})
    Promises(books, stored, load).judge(verdict)
    return verdict


# -- one of a key at a time ------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "is_good"), [(1.4, False), (1.5001, True), (2.0, True)], ids=str)
def test_two_of_a_key_by_the_ledger(
    write: Write, tmp_path: Path, start: float, is_good: bool
) -> None:
    run(write, FIRST, "a", 1.0, 1.5, "settled")
    run(write, SECOND, "b", start, 3.0, "settled")
    flows = [{"flow": ONE_KEY}, {"flow": Flow(limit=CUSTOMER, key="k")}]
    verdict = judged(tmp_path, job("a", 1, 1.5, **flows[0]), job("b", 2, 3, **flows[1]))
    assert verdict.good is is_good
    assert judged(tmp_path, job("a", 1, 1.5), job("b", 1, 3)).good


def test_those_of_other_keys_may_run_at_once(write: Write, tmp_path: Path) -> None:
    run(write, FIRST, "a", 1.0, 1.5, "settled")
    run(write, SECOND, "b", 1.1, 3.0, "settled")
    other = Flow(limit=CUSTOMER, key="other")
    assert judged(tmp_path, job("a", 1, 1.5, flow=ONE_KEY), job("b", 1.1, 3, flow=other)).good
    alone = Flow(alone="alone")
    assert not judged(tmp_path, job("a", 1, 1.5, flow=alone), job("b", 1.1, 3, flow=alone)).good


@pytest.mark.parametrize(
    ("kind", "about", "is_good"),
    [
        ("stalled", "a", True),
        ("stalled", "b", True),
        ("kill", FIRST, True),
        ("stalled", "c", False),
    ],
)
def test_a_lost_lease_justifies_two_at_once(
    write: Write, tmp_path: Path, kind: str, about: Any, is_good: bool
) -> None:
    lost = "b" if about == "b" else "a"
    run(write, FIRST, "a", 1.0, 5.0 if lost == "b" else None, "settled" if lost == "b" else "")
    write(DRIVER, 1.9, kind, about, 1 if kind == "stalled" else 0)
    run(write, SECOND, "b", 2.0, 3.0, "unheard" if lost == "b" else "settled")
    # Its next run settles it.
    jobs = [job("a", 6, 7, attempt=2, flow=ONE_KEY), job("b", 7, 8, attempt=2, flow=ONE_KEY)]
    at_once = [each for each in judged(tmp_path, *jobs).unexpected if "at once" in each]
    assert (at_once == []) is is_good


def test_two_of_a_key_by_the_storage(write: Write, tmp_path: Path) -> None:
    run(write, FIRST, "a", 1.0, 1.5, "settled")
    run(write, SECOND, "b", 2.0, 3.0, "settled")
    verdict = judged(tmp_path, job("a", 1, 2.001, flow=ONE_KEY), job("b", 2, 3, flow=ONE_KEY))
    assert [each.partition(":")[0] for each in verdict.unexpected] == [
        "two of customer k at once by the storage"
    ]


def test_a_server_that_has_forgotten_its_limits_holds_nobody_back(
    write: Write, tmp_path: Path
) -> None:
    write(DRIVER, 0.5, "declared")
    write(DRIVER, 0.8, "forget")
    write(DRIVER, 0.9, "forgot")
    run(write, FIRST, "a", 1.0, 1.5, "settled")
    run(write, SECOND, "b", 1.1, 3.0, "settled")
    jobs = [job("a", 1, 1.5, flow=ONE_KEY), job("b", 1.1, 3, flow=ONE_KEY)]
    assert judged(tmp_path, *jobs).good
    write(DRIVER, 0.95, "declared")
    assert not judged(tmp_path, *jobs).good


# -- when they start -------------------------------------------------------------------------------


def test_expiry(write: Write, tmp_path: Path) -> None:
    says = {"flow": Flow(expires_ms=2_000)}
    verdict = judged(tmp_path, expired("a", 2.0, **says))
    assert (verdict.good, verdict.expired) == (True, {"a"})
    assert not judged(tmp_path, expired("a", 1.999, **says)).good
    assert not judged(tmp_path, expired("a", 2.0)).good
    run(write, FIRST, "a", 1.0, 1.5, "settled")
    assert not judged(tmp_path, expired("a", 2.0, **says)).good
    assert judged(tmp_path, job("a", 1.999, 3, **says)).good
    assert not judged(tmp_path, job("a", 2.0, 3, **says)).good


def test_what_is_doomed_must_expire(write: Write, tmp_path: Path) -> None:
    says = {"flow": Flow(expires_ms=2_000)}
    write(PRODUCER, 1, "accepted", "doomed-1")
    assert judged(tmp_path, expired("doomed-1", 2.0, **says)).good
    run(write, FIRST, "doomed-1", 1.0, 1.5, "settled")
    assert not judged(tmp_path, job("doomed-1", 1.0, 1.5, **says)).good


def test_a_merged_job_is_lost_with_the_one_in_its_place(write: Write, tmp_path: Path) -> None:
    run(write, FIRST, "a", 1.0, 1.5, "settled")
    write(PRODUCER, 1, "merged", "b a")
    assert judged(tmp_path, job("a", 1, 1.5)).good
    assert judged(tmp_path).lost == ["a is gone, and stands for b"]


def test_too_many_in_a_second(tmp_path: Path, write: Write) -> None:
    def rated(moments: list[float]) -> list[StoredJob]:
        for n, at in enumerate(moments):
            run(write, FIRST, f"{n}", at, at, "settled")
        return [job(f"{n}", at, at, name=RATED) for n, at in enumerate(moments)]

    for name in ("allow", "queue", "skip", "replace"):
        run(write, FIRST, f"{name}@2026-01-01T00:00:00Z", 1, 1, "settled")
    schedules = [job(f"{name}@2026-01-01T00:00:00Z") for name in ("allow", "queue")]
    schedules += [job(f"{name}@2026-01-01T00:00:00Z") for name in ("skip", "replace")]
    jobs = rated([1.0] * RATE + [2.0])
    assert judged(tmp_path, *schedules, *jobs, load="flow").good
    assert not judged(tmp_path, *schedules, *jobs, job("x", 1.999, 2, name=RATED), load="flow").good


# -- schedules -------------------------------------------------------------------------------------


def test_an_instant_that_is_missing_is_lost(write: Write, tmp_path: Path) -> None:
    ids = [f"allow@2026-01-01T00:00:00{part}Z" for part in ("", ".100", ".300")]
    ids += [f"{name}@2026-01-01T00:00:00Z" for name in ("queue", "skip", "replace")]
    for id in ids:
        run(write, FIRST, id, 1, 1, "settled")
    verdict = judged(tmp_path, *map(job, ids), load="flow")
    assert verdict.lost == ["allow@2026-01-01T00:00:00.200Z was never fired"]
    assert verdict.unexpected == []
    verdict = judged(tmp_path, *map(job, ids[:3]), load="flow")
    assert len(verdict.lost) == 4  # those whose jobs are gone, too


def test_what_is_left_under_limits() -> None:
    scope, limit = LimitScope(LimitKind.TYPE, "task"), FlowLimit(concurrency=1)
    assert list(left_under_limits([LimitInfo(scope, limit, 0, 0)])) == []
    assert list(left_under_limits([LimitInfo(scope, limit, 1, 2)])) == [
        "limit of type 'task': 1 run, 2 are held back"
    ]


# -- pace ------------------------------------------------------------------------------------------


def test_the_pace_of_moments() -> None:
    assert pace_of([], 5) is None
    assert pace_of([0, 4.9], 5) is None
    assert pace_of(list(range(0, 20)), 5) == Pace(5, 5)
    assert pace_of([0, 0, 0, 6, 6], 5) == Pace(0, 3)
    assert pace_of([0, 1, 2, 3, 7, 7.5, 8, 9], 5) == Pace(2, 4)
