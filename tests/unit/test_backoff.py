"""How long our own plumbing waits for a storage."""

from __future__ import annotations

import pytest

from jobqueue.backoff import Outage


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    moment = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: moment[0])
    return moment


@pytest.mark.parametrize(("jitter", "share"), [("low", 0.5), ("high", 1.0)])
def test_waits_double_up_to_two_seconds(
    monkeypatch: pytest.MonkeyPatch, jitter: str, share: float
) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: low if jitter == "low" else high)
    outage = Outage()
    delays = [outage.failed() for _ in range(9)]
    assert delays == [share * n for n in (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0)]


def test_waits_are_spread() -> None:
    assert len({Outage().failed() for _ in range(20)}) > 1


def test_an_outage_knows_how_long_it_lasted(now: list[float]) -> None:
    outage = Outage()
    assert outage.since is None
    outage.failed()
    now[0] += 3
    outage.failed()
    assert outage.since == 100.0
    assert outage.over() == 3.0
    assert outage.since is None


def test_no_outage_lasted_no_time() -> None:
    assert Outage().over() is None


def test_the_next_outage_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    outage = Outage()
    for _ in range(5):
        outage.failed()
    outage.over()
    assert outage.over() is None
    assert outage.failed() == 0.05
