"""The oracle itself: what it calls lost, duplicated, recovered and unexpected."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.chaos.ledger import Ledger, Pen
from tests.chaos.verdict import Books, Verdict

Write: TypeAlias = Callable[..., None]
Judge: TypeAlias = Callable[..., Verdict]
DRIVER, PRODUCER, FIRST, SECOND = 1, 2, 3, 4


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Adds an entry to the ledger of some process."""

    def write(process: int, at: float, kind: str, about: object = "one", attempt: int = 0) -> None:
        with (tmp_path / f"{process}.ledger").open("a") as file:
            file.write(f"{kind} {at:.6f} {attempt} {about}\n")

    return write


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """The verdict on one job, given its state in the storage."""

    def judge(state: str | None, **options: Any) -> Verdict:
        options = {"lease": 1.0, "window": 0.0, "cut_off": False, **options}
        return Books(Ledger(tmp_path), **options).judge({"one": state})

    return judge


def _run(
    write: Write, process: int, at: float, attempt: int = 1, fate: str | None = "settled"
) -> None:
    write(process, at, "start", attempt=attempt)
    if fate is not None:
        write(process, at + 0.1, "end", attempt=attempt)
        write(process, at + 0.2, fate, attempt=attempt if fate == "settled" else 0)


def test_a_job_that_was_run_once(write: Write, judge: Judge) -> None:
    write(PRODUCER, 1, "accepted")
    _run(write, FIRST, 2)
    verdict = judge("completed")
    assert verdict.good
    assert (verdict.completed, verdict.recovered, verdict.justified) == (1, 0, 0)


@pytest.mark.parametrize("state", [None, "queued", "running"])
def test_one_that_was_accepted_and_is_not_completed_is_lost(
    write: Write, judge: Judge, state: str | None
) -> None:
    write(PRODUCER, 1, "accepted")
    verdict = judge(state)
    assert len(verdict.lost) == 1
    assert not verdict.good


def test_one_that_was_never_accepted_may_be_gone(judge: Judge) -> None:
    assert judge(None).good


@pytest.mark.parametrize(("window", "down", "lost"), [(2, 2.5, 0), (2, 3.5, 1), (0, 1.0, 1)])
def test_what_a_server_need_not_have_kept_is_excused(
    write: Write, judge: Judge, window: float, down: float, lost: int
) -> None:
    write(PRODUCER, 1, "accepted")
    write(DRIVER, down, "server_down")
    verdict = judge(None, window=window)
    assert (len(verdict.lost), verdict.excused) == (lost, 1 - lost)


@pytest.mark.parametrize("fate", ["settled", None])
def test_a_second_run_without_a_reason(write: Write, judge: Judge, fate: str | None) -> None:
    _run(write, FIRST, 2, fate=fate)
    _run(write, SECOND, 4, attempt=2)
    verdict = judge("completed")
    assert len(verdict.unjustified) == 1
    assert not verdict.good


def test_a_settled_run_is_not_repeated_whoever_dies(write: Write, judge: Judge) -> None:
    _run(write, FIRST, 2)
    write(DRIVER, 2.5, "kill", FIRST)
    _run(write, SECOND, 4, attempt=2)
    assert len(judge("completed", cut_off=True).unjustified) == 1


@pytest.mark.parametrize("reason", ["killed", "stalled", "unheard", "stopped", "frozen", "cut"])
def test_a_second_run_with_a_reason(write: Write, judge: Judge, reason: str) -> None:
    _run(write, FIRST, 2, fate=reason if reason in ("unheard", "stopped") else None)
    if reason == "killed":
        write(DRIVER, 2.5, "kill", FIRST)
    elif reason == "stalled":
        write(SECOND, 3.5, "stalled", attempt=1)
    elif reason == "frozen":
        write(DRIVER, 2.5, "freeze", FIRST)
    _run(write, SECOND, 4, attempt=2)
    verdict = judge("completed", cut_off=reason == "cut")
    assert verdict.good
    assert (verdict.justified, verdict.recovered) == (1, 1)
    assert verdict.recovery == ([1.5] if reason == "killed" else [])


def test_a_second_run_before_the_lease_could_be_over(write: Write, judge: Judge) -> None:
    _run(write, FIRST, 2, fate=None)
    _run(write, SECOND, 2.5, attempt=2)
    assert len(judge("completed", cut_off=True).unjustified) == 1


def test_a_server_that_forgot_an_end(write: Write, judge: Judge) -> None:
    _run(write, FIRST, 2)
    write(DRIVER, 3, "server_down")
    _run(write, SECOND, 4)
    assert judge("completed", window=2.0).good
    assert not judge("completed", window=0.5).good


def test_a_server_that_forgot_everything(write: Write, judge: Judge) -> None:
    write(PRODUCER, 1, "accepted")
    write(DRIVER, 5, "forget", "")
    write(DRIVER, 5.1, "forgot", "")
    verdict = judge(None)
    assert (verdict.good, verdict.excused) == (True, 1)


def test_and_what_was_accepted_afterwards(write: Write, judge: Judge) -> None:
    write(DRIVER, 5, "forget", "")
    write(DRIVER, 5.1, "forgot", "")
    write(PRODUCER, 6, "accepted")
    assert len(judge(None).lost) == 1


def test_a_run_that_was_forgotten_may_be_repeated(write: Write, judge: Judge) -> None:
    _run(write, FIRST, 2)
    write(DRIVER, 5, "forget", "")
    write(DRIVER, 5.1, "forgot", "")
    _run(write, SECOND, 6)
    assert judge("completed").good


@pytest.mark.parametrize(
    ("called", "gone", "good"), [(4, 6, True), (5.05, 6, True), (4, 4.5, False), (6, 7, False)]
)
def test_a_caller_to_whom_a_job_is_unknown(
    write: Write, judge: Judge, called: float, gone: float, good: bool
) -> None:
    write(DRIVER, 5, "forget", "")
    write(DRIVER, 5.1, "forgot", "")
    write(PRODUCER, called, "called")
    write(PRODUCER, gone, "gone")
    assert judge(None).good is good


def test_a_server_that_was_only_away_forgets_nothing(write: Write, judge: Judge) -> None:
    write(PRODUCER, 1, "accepted")
    write(DRIVER, 1.5, "away", "")
    assert len(judge(None, window=2.0).lost) == 1


def test_a_stale_claim_that_starts_late(write: Write, judge: Judge) -> None:
    _run(write, SECOND, 4, attempt=2)
    _run(write, FIRST, 5, attempt=1, fate="stopped")
    assert judge("completed").good


@pytest.mark.parametrize("state", ["failed", "cancelled", "completed"])
def test_what_must_not_be(judge: Judge, state: str) -> None:
    assert len(judge(state).unexpected) == 1  # completed: without having been run


def test_an_entry_without_a_run(write: Write, judge: Judge) -> None:
    write(FIRST, 2, "settled", attempt=1)
    assert len(judge(None).unexpected) == 1


def test_half_a_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    ledger, pen = Ledger(tmp_path), Pen(tmp_path)
    pen.note("accepted", "one")
    pen.close()
    (path,) = tmp_path.glob("*.ledger")
    line = path.read_bytes()
    path.write_bytes(line + line[:9])
    assert ledger.refresh()
    path.write_bytes(line + line.replace(b"one", b"two"))
    assert ledger.refresh()
    assert list(ledger.accepted) == ["one", "two"]
    assert not ledger.refresh()


async def test_who_asks_in_one_turn_shares_one_fsync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pen, synced = Pen(tmp_path), []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(_lines(tmp_path)))

    async def note(about: str) -> list[str]:
        pen.note("end", about)
        await pen.kept()
        return synced[-1]

    for kept in await asyncio.gather(note("one"), note("two")):
        assert kept == ["one", "two"]
    assert len(synced) == 1
    assert await note("three") == ["one", "two", "three"]
    assert len(synced) == 2
    pen.close()


async def test_one_that_no_longer_waits_takes_nothing_from_the_others(tmp_path: Path) -> None:
    pen = Pen(tmp_path)
    first, second = asyncio.create_task(pen.kept()), asyncio.create_task(pen.kept())
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert first.cancelled()
    pen.close()


def _lines(folder: Path) -> list[str]:
    ledger = Ledger(folder)
    ledger.refresh()
    return [entry.about for entry in ledger.entries]
