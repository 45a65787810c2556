"""The states, their legal steps, and the words of the public API."""

from __future__ import annotations

from enum import StrEnum

import pytest

from jobqueue.states import (
    TERMINAL,
    TRANSITIONS,
    CancelResult,
    EnqueueStatus,
    EventType,
    JobState,
    RescheduleResult,
    TtlResult,
)

WORDS: dict[type[StrEnum], set[str]] = {
    JobState: {"scheduled", "queued", "running", "retrying", "completed", "failed", "cancelled"},
    EventType: {
        "enqueued",
        "started",
        "completed",
        "retrying",
        "failed",
        "cancelled",
        "stalled",
        "released",
    },
    EnqueueStatus: {"queued", "duplicate", "completed", "replaced"},
    CancelResult: {"cancelled", "not_found", "running", "finished"},
    RescheduleResult: {"updated", "not_found", "queued", "running", "finished"},
    TtlResult: {"updated", "not_found", "not_finished"},
}


@pytest.mark.parametrize("enum", WORDS, ids=lambda enum: enum.__name__)
def test_the_words_are_those_of_the_public_api(enum: type[StrEnum]) -> None:
    assert set(enum) == WORDS[enum]
    for member in enum:
        assert f"{member}" == member.value


def test_every_state_says_what_may_follow() -> None:
    assert set(TRANSITIONS) == set(JobState)
    for followers in TRANSITIONS.values():
        assert followers <= set(JobState)


def test_nothing_leaves_a_terminal_state() -> None:
    assert set(TERMINAL) == {"completed", "failed", "cancelled"}
    assert {state for state in JobState if not TRANSITIONS[state]} == TERMINAL


def test_every_state_can_be_reached_and_can_end() -> None:
    starts = {JobState.SCHEDULED, JobState.QUEUED}
    for start in starts:
        reached = _reachable(start)
        assert reached | starts == set(JobState)
    for state in set(JobState) - TERMINAL:
        assert _reachable(state) >= TERMINAL


def test_only_a_queued_job_starts_to_run() -> None:
    assert [state for state in JobState if JobState.RUNNING in TRANSITIONS[state]] == ["queued"]


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        TRANSITIONS[JobState.COMPLETED] = frozenset({JobState.QUEUED})  # type: ignore[index]


def _reachable(start: JobState) -> set[JobState]:
    reached: set[JobState] = set()
    waiting = [start]
    while waiting:
        for state in TRANSITIONS[waiting.pop()] - reached:
            reached.add(state)
            waiting.append(state)
    return reached
