"""The tree of errors."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jobqueue
from jobqueue import errors
from jobqueue.control import Cancel, Retry, Snooze
from jobqueue.errors import (
    AccessDenied,
    ConfigurationError,
    DrainTimeout,
    JobCancelled,
    JobError,
    JobExpired,
    JobFailed,
    JobNotFound,
    JobQueueError,
    LeaseLost,
    NotAccepted,
    QueueDraining,
    QueueFull,
    ScheduleNotFound,
    SerializationError,
    ServerNotTrusted,
    StorageError,
    StorageUnavailable,
    WaitTimeout,
)
from jobqueue.spec import SpecError

text = st.text(max_size=20)
job_errors = st.builds(
    JobError,
    type=text,
    message=text,
    traceback=text,
    attempts=st.integers(0, 10**6),
    reason=text,
)
makers: dict[type[Exception], st.SearchStrategy[Exception]] = {
    JobQueueError: st.builds(JobQueueError, text),
    ConfigurationError: st.builds(ConfigurationError, text),
    StorageError: st.builds(StorageError, text),
    StorageUnavailable: st.builds(StorageUnavailable, text),
    SerializationError: st.builds(SerializationError, text),
    JobNotFound: st.builds(JobNotFound, text),
    JobFailed: st.builds(JobFailed, text, job_errors),
    JobCancelled: st.builds(JobCancelled, text, text),
    JobExpired: st.builds(JobExpired, text, text),
    WaitTimeout: st.builds(WaitTimeout, text, st.floats(0, 1e6)),
    LeaseLost: st.builds(LeaseLost, text),
    NotAccepted: st.builds(NotAccepted, text),
    QueueFull: st.builds(QueueFull, text, st.none() | st.integers(1, 10**6), st.floats(0.1, 10)),
    QueueDraining: st.builds(QueueDraining, text),
    DrainTimeout: st.builds(
        DrainTimeout, text, st.floats(0, 1e6), st.integers(1, 10**6), st.booleans()
    ),
    ScheduleNotFound: st.builds(ScheduleNotFound, text),
    AccessDenied: st.builds(AccessDenied, text),
    ServerNotTrusted: st.builds(ServerNotTrusted, text),
    SpecError: st.builds(SpecError, text),
    Retry: st.builds(Retry, st.none() | st.floats(0, 1e6)),
    Snooze: st.builds(Snooze, st.floats(0.001, 1e6)),
    Cancel: st.builds(Cancel, text),
}
TREE = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, Exception)
]


def test_no_error_is_left_out() -> None:
    assert set(TREE) <= set(makers)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
@pytest.mark.parametrize("cls", makers)
def test_every_error_can_be_copied(cls: type[Exception], copied: Callable[[Any], Any]) -> None:
    @settings(max_examples=10)
    @given(makers[cls])
    def check(error: Exception) -> None:
        same(copied(error), error)

    check()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("cls", makers)
def test_every_error_pickles(cls: type[Exception], protocol: int) -> None:
    @settings(max_examples=10)
    @given(makers[cls])
    def check(error: Exception) -> None:
        same(pickle.loads(pickle.dumps(error, protocol)), error)

    check()


def same(one: Exception, other: Exception) -> None:
    assert type(one) is type(other)
    assert one.args == other.args
    assert str(one) == str(other)
    assert vars(one) == vars(other)


def test_a_note_survives_a_pickle() -> None:
    error = JobNotFound("a")
    error.add_note("said on the way")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["said on the way"]


@pytest.mark.parametrize("cls", TREE)
def test_every_error_is_one_of_ours_and_public(cls: type[JobQueueError]) -> None:
    assert issubclass(cls, JobQueueError)
    assert getattr(jobqueue, cls.__name__) is cls
    assert cls.__name__ in jobqueue.__all__


def test_the_codes_are_distinct_and_do_not_change() -> None:
    assert {cls.__name__: cls.code for cls in TREE} == {
        "JobQueueError": "jobqueue_error",
        "ConfigurationError": "configuration",
        "StorageError": "storage",
        "StorageUnavailable": "storage_unavailable",
        "AccessDenied": "access_denied",
        "ServerNotTrusted": "server_not_trusted",
        "SerializationError": "serialization",
        "JobNotFound": "job_not_found",
        "JobFailed": "job_failed",
        "JobCancelled": "job_cancelled",
        "JobExpired": "job_expired",
        "WaitTimeout": "wait_timeout",
        "LeaseLost": "lease_lost",
        "NotAccepted": "not_accepted",
        "QueueFull": "queue_full",
        "QueueDraining": "queue_draining",
        "DrainTimeout": "drain_timeout",
        "ScheduleNotFound": "schedule_not_found",
    }


def test_who_is_what() -> None:
    assert issubclass(StorageUnavailable, StorageError)
    # The user's to mend, and yet an outage: a worker that is at work holds on to what it has.
    for error in (AccessDenied, ServerNotTrusted):
        assert issubclass(error, ConfigurationError)
        assert issubclass(error, StorageError)
        assert not issubclass(error, StorageUnavailable)
    assert issubclass(JobExpired, JobCancelled)
    assert issubclass(WaitTimeout, TimeoutError)
    assert issubclass(DrainTimeout, TimeoutError)
    assert issubclass(QueueFull, NotAccepted)
    assert issubclass(QueueDraining, NotAccepted)
    assert not issubclass(JobFailed, StorageError)


def test_receipts_stay_in_the_process_of_their_error() -> None:
    error = QueueFull("q", 3, 0.5)
    error.receipts = [lambda: "no pickle can hold this"]
    error.add_note("said on the way")
    again = pickle.loads(pickle.dumps(error))
    assert (again.queue, again.limit, again.retry_after, again.receipts) == ("q", 3, 0.5, ())
    assert again.__notes__ == ["said on the way"]


def test_messages_say_what_to_do() -> None:
    assert str(QueueFull("q", 3, 0.52)) == (
        "queue 'q' holds its limit of 3 waiting jobs; try again in 0.5 s"
    )
    assert "holds its limit of waiting jobs" in str(QueueFull("q", None, 1))
    assert "queue.resume()" in str(QueueDraining("q"))
    assert str(DrainTimeout("q", 2, 7)) == "queue 'q' still holds 7 jobs after 2 s of draining"
    assert "is paused" in str(DrainTimeout("q", 2, 7, paused=True))
    assert "queue.result(id)" in str(WaitTimeout("a", 1.5))
    assert "1.5 s" in str(WaitTimeout("a", 1.5))
    assert "result_ttl" in str(JobNotFound("a"))
    error = JobError(type="ValueError", message="no", attempts=1)
    assert str(JobFailed("a", error)) == "job 'a' failed after 1 attempt: ValueError: no"
    error = JobError(type="ValueError", message="no", attempts=2)
    assert str(JobFailed("a", error)) == "job 'a' failed after 2 attempts: ValueError: no"
    assert str(JobCancelled("a")) == "job 'a' was cancelled"
    assert str(JobCancelled("a", "why")) == "job 'a' was cancelled: why"


@pytest.mark.parametrize("id", ["\0", "a\nb", "'", "\U0001f4a9"])
def test_an_id_cannot_disturb_a_message(id: str) -> None:
    for error in (JobNotFound(id), LeaseLost(id), WaitTimeout(id, 1), JobCancelled(id)):
        assert repr(id) in str(error)


def test_a_job_error_cannot_be_changed() -> None:
    error = JobError(type="ValueError", message="no")
    with pytest.raises(AttributeError):
        error.message = "yes"  # type: ignore[misc]
    assert (error.traceback, error.attempts, error.reason) == ("", 0, "exception")
