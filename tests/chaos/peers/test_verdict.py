"""The oracle for all queues: what it calls lost, stranded, repeated with a reason and without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.chaos.ledger import Ledger
from tests.chaos.peers.verdict import Account, Tally

Write: TypeAlias = Callable[..., None]
Judge: TypeAlias = Callable[..., Tally]
DRIVER, PRODUCER, FIRST, SECOND = 1, 2, 3, 4
JOB = "job-0"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Adds an entry to the ledger of some process."""

    def write(process: int, at: float, kind: str, about: object = JOB, run: int = 0) -> None:
        with (tmp_path / f"{process}.ledger").open("a") as file:
            file.write(f"{kind} {at:.6f} {run} {about}\n")

    return write


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """The verdict on one job, given what the queue still holds."""

    def judge(*held: str) -> Tally:
        return Account(Ledger(tmp_path), jobs=1, recovery=2.0, lease=2.0).judge(set(held))

    return judge


def _run(write: Write, process: int, at: float, end: float | None = None, run: int = 1) -> None:
    write(process, at, "start", run=run)
    if end is not None:
        write(process, end, "end", run=run)


def test_a_job_that_was_run_once(write: Write, judge: Judge) -> None:
    write(PRODUCER, 1, "accepted")
    _run(write, FIRST, 2, 2.1)
    tally = judge()
    assert tally.good
    assert (tally.accepted, tally.completed, tally.justified) == (1, 1, 0)


def test_what_was_never_acknowledged_is_not_lost(write: Write, judge: Judge) -> None:
    write(PRODUCER, 1, "refused", f"{JOB} ConnectionError: gone")
    tally = judge()
    assert tally.good
    assert (tally.accepted, tally.refused) == (0, 1)


@pytest.mark.parametrize("started", [False, True])
def test_one_that_the_queue_has_forgotten_is_lost(
    write: Write, judge: Judge, started: bool
) -> None:
    write(PRODUCER, 1, "accepted")
    if started:
        _run(write, FIRST, 2)
    tally = judge()
    assert not tally.good
    assert (len(tally.lost), tally.stranded) == (1, [])


def test_one_that_the_queue_still_has_is_stranded(write: Write, judge: Judge) -> None:
    write(PRODUCER, 1, "accepted")
    tally = judge(JOB)
    assert not tally.good
    assert (tally.lost, len(tally.stranded), tally.stranded_unrun) == ([], 1, 1)


def test_one_that_was_run_and_that_the_queue_still_has(write: Write, judge: Judge) -> None:
    write(PRODUCER, 1, "accepted")
    _run(write, FIRST, 2, 2.1)
    tally = judge(JOB)
    assert not tally.good
    assert (len(tally.stranded), tally.stranded_unrun) == (1, 0)


@pytest.mark.parametrize("ended", ["kill", "died"])
def test_a_repetition_after_the_end_of_the_process(write: Write, judge: Judge, ended: str) -> None:
    _run(write, FIRST, 2)
    write(DRIVER, 2.5, ended, FIRST)
    _run(write, SECOND, 5, 5.1)
    tally = judge()
    assert tally.good
    assert tally.justified == 1
    assert tally.recovery == ([2.5] if ended == "kill" else [])


def test_an_end_long_after_the_run_is_no_reason(write: Write, judge: Judge) -> None:
    _run(write, FIRST, 2, 2.1)
    write(FIRST, 2.2, "settled")
    write(DRIVER, 3.2, "kill", FIRST)
    _run(write, SECOND, 5, 5.1)
    tally = judge()
    assert len(tally.unjustified) == 1
    assert tally.ended_twice == 1


def test_a_repetition_without_a_reason(write: Write, judge: Judge) -> None:
    _run(write, FIRST, 2, 2.5)
    _run(write, SECOND, 2.1, 2.6)
    assert not judge().good


@pytest.mark.parametrize(
    ("again", "told", "good"),
    [(3.0, None, False), (3.9, None, True), (3.9, 2.2, False), (4.0, 3.9, True)],
)
def test_a_worker_that_could_not_tell_its_end(
    write: Write, judge: Judge, again: float, told: float | None, good: bool
) -> None:
    _run(write, FIRST, 2, 2.1)
    if told is not None:
        write(FIRST, told, "settled")
    _run(write, SECOND, again, again + 0.1)
    assert judge().good == good


@pytest.mark.parametrize("late", [FIRST, SECOND])
def test_a_frozen_process(write: Write, judge: Judge, late: int) -> None:
    """The repetition is in another process, or in the frozen one, of a job that it held."""
    write(DRIVER, 2.5, "freeze", late)
    write(DRIVER, 8.5, "thaw", late)
    _run(write, FIRST, 2.4, 8.6 if late == FIRST else 2.6)
    _run(write, SECOND, 5 if late == FIRST else 8.6, 9)
    tally = judge()
    assert tally.good
    assert tally.justified == 1


def test_one_that_the_producer_sent_again(write: Write, judge: Judge) -> None:
    write(PRODUCER, 1, "refused", f"{JOB} ConnectionError: gone")
    write(PRODUCER, 1.1, "accepted")
    for number in range(3):
        _run(write, FIRST, 2 + number / 100, 2.5, run=number)
    tally = judge()
    assert (tally.resent, tally.justified, len(tally.unjustified)) == (1, 1, 1)


def test_two_endings_that_the_queue_took(write: Write, judge: Judge) -> None:
    write(FIRST, 2, "settled")
    write(SECOND, 3, "settled")
    assert judge().settled_twice == 1
