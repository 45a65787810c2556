"""decide(): what happens to a job next."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobqueue.errors import JobError
from jobqueue.options import Policy
from jobqueue.outcome import (
    MAX_MESSAGE_CHARS,
    MAX_TRACEBACK_CHARS,
    CancelAsked,
    Happened,
    Outcome,
    Raised,
    Refused,
    Released,
    RetryAsked,
    Returned,
    Snoozed,
    WorkerLost,
    cancellation,
    decide,
    decode_error,
    describe,
    encode_error,
    with_result_ttl,
)
from jobqueue.packing import pack
from jobqueue.retry import Backoff, Fixed, Immediate, Narrowing
from jobqueue.states import TERMINAL, TRANSITIONS, EventType, JobState
from jobqueue.values import MAX_MS

TTL = 5_000
FIXED = Fixed(2)
NO_NARROWING = Narrowing()


def policy(
    max_attempts: int = 3, retry: Backoff = FIXED, narrowing: Narrowing = NO_NARROWING
) -> Policy:
    return Policy(
        max_attempts=max_attempts,
        retry=retry,
        narrowing=narrowing,
        timeout_ms=None,
        result_ttl_ms=TTL,
    )


def error_of(outcome: Outcome) -> JobError:
    return decode_error(outcome.value)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise SystemExit("even this")


def raised(cls: type[BaseException] = ValueError, *args: object) -> Raised:
    try:
        raise cls(*args)
    except BaseException as error:
        return Raised(error)


# -- every way for an attempt to end -------------------------------------------------------------


def test_a_result_completes_the_job() -> None:
    assert decide(policy(), 1, Returned(b"value")) == Outcome(
        state=JobState.COMPLETED, event=EventType.COMPLETED, value=b"value", ttl_ms=TTL
    )


def test_an_error_is_retried_after_its_backoff_and_kept() -> None:
    outcome = decide(policy(), 2, raised(ValueError, "no"))
    assert (outcome.state, outcome.event) == (JobState.RETRYING, EventType.RETRYING)
    assert (outcome.delay_ms, outcome.refund, outcome.ttl_ms) == (2_000, False, 0)
    error = error_of(outcome)
    assert (error.type, error.message, error.attempts) == ("ValueError", "no", 2)
    assert error.traceback.endswith("ValueError: no\n")


@pytest.mark.parametrize("attempt", [3, 4, 100])
def test_the_last_attempt_fails_the_job(attempt: int) -> None:
    outcome = decide(policy(max_attempts=3), attempt, raised(ValueError, "no"))
    assert (outcome.state, outcome.event) == (JobState.FAILED, EventType.FAILED)
    assert (outcome.delay_ms, outcome.refund, outcome.ttl_ms) == (0, False, TTL)
    assert error_of(outcome).attempts == attempt


def test_one_attempt_is_no_retry() -> None:
    assert decide(policy(max_attempts=1), 1, raised()).state is JobState.FAILED


def test_a_time_out_says_so() -> None:
    outcome = decide(policy(max_attempts=1), 1, Raised(TimeoutError("1 s"), "timeout"))
    assert error_of(outcome).reason == "timeout"


def test_a_policy_that_gives_up_fails_the_job() -> None:
    gives_up = policy(retry=lambda attempt, error: None)
    assert decide(gives_up, 1, raised()).state is JobState.FAILED
    narrow = policy(narrowing=Narrowing(give_up_on=(ValueError,)))
    assert decide(narrow, 1, raised(ValueError)).state is JobState.FAILED
    assert decide(narrow, 1, raised(OSError)).state is JobState.RETRYING


def test_a_policy_that_fails_leaves_the_error_of_the_job() -> None:
    def broken(attempt: int, error: BaseException) -> float:
        raise LookupError("a bug in the policy")

    outcome = decide(policy(retry=broken), 1, raised(ValueError, "no"))
    assert outcome.state is JobState.FAILED
    assert error_of(outcome).type == "ValueError"
    assert "a bug in the policy" in error_of(outcome).traceback


@pytest.mark.parametrize("delay", [1e18, 1e300, 10**400])
def test_a_backoff_is_no_longer_than_ten_years(delay: float) -> None:
    outcome = decide(policy(retry=lambda attempt, error: delay), 1, raised())
    assert outcome.state is JobState.FAILED or outcome.delay_ms == MAX_MS


@pytest.mark.parametrize("cls", [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException])
def test_what_is_no_ordinary_exception_fails_at_once(cls: type[BaseException]) -> None:
    outcome = decide(policy(), 1, raised(cls, "out"))
    assert outcome.state is JobState.FAILED
    assert error_of(outcome).type == cls.__name__


def test_a_stray_cancellation_fails_at_once() -> None:
    assert decide(policy(), 1, raised(asyncio.CancelledError)).state is JobState.FAILED


def test_an_error_that_cannot_be_printed_fails_at_once() -> None:
    outcome = decide(policy(), 1, raised(Unprintable))
    assert outcome.state is JobState.FAILED
    assert error_of(outcome).type == "Unprintable"
    assert error_of(outcome).message == "<the error cannot be printed: SystemExit>"


def test_what_can_never_succeed_fails_at_once() -> None:
    outcome = decide(policy(), 1, Refused(LookupError("nobody"), "no_handler"))
    assert outcome.state is JobState.FAILED
    assert (error_of(outcome).reason, error_of(outcome).attempts) == ("no_handler", 1)


def test_a_retry_that_was_asked_for_waits_as_asked() -> None:
    outcome = decide(policy(), 1, RetryAsked(700))
    assert (outcome.state, outcome.delay_ms) == (JobState.RETRYING, 700)
    assert not outcome.refund
    assert decide(policy(), 1, RetryAsked(0)).delay_ms == 0


def test_a_retry_that_was_asked_for_without_a_delay_waits_as_the_policy_says() -> None:
    assert decide(policy(), 1, RetryAsked(None)).delay_ms == 2_000
    gives_up = policy(retry=lambda attempt, error: None)
    assert decide(gives_up, 1, RetryAsked(None)).state is JobState.RETRYING


def test_a_retry_asked_for_at_the_last_attempt_fails_the_job() -> None:
    outcome = decide(policy(max_attempts=2), 2, RetryAsked(700))
    assert outcome.state is JobState.FAILED
    assert error_of(outcome).message == "asked for a retry after its last attempt (2)"


@pytest.mark.parametrize("attempt", [1, 3, 100])
def test_a_snooze_is_free_and_may_come_at_any_attempt(attempt: int) -> None:
    assert decide(policy(max_attempts=3), attempt, Snoozed(700)) == Outcome(
        state=JobState.SCHEDULED, event=EventType.RELEASED, refund=True, delay_ms=700
    )


@pytest.mark.parametrize("attempt", [1, 3, 100])
def test_a_release_is_free_and_may_come_at_any_attempt(attempt: int) -> None:
    assert decide(policy(max_attempts=3), attempt, Released()) == Outcome(
        state=JobState.QUEUED, event=EventType.RELEASED, refund=True
    )


def test_a_handler_may_give_up() -> None:
    outcome = decide(policy(), 1, CancelAsked("not needed"))
    assert (outcome.state, outcome.event) == (JobState.CANCELLED, EventType.CANCELLED)
    assert (error_of(outcome).message, error_of(outcome).reason) == ("not needed", "cancelled")
    assert outcome.ttl_ms == TTL


def test_a_lost_worker_costs_an_attempt_and_no_time() -> None:
    outcome = decide(policy(max_attempts=3), 2, WorkerLost("w1"))
    assert (outcome.state, outcome.event) == (JobState.QUEUED, EventType.RETRYING)
    assert (outcome.refund, outcome.delay_ms) == (False, 0)
    assert error_of(outcome).reason == "worker_lost"


def test_a_worker_lost_at_the_last_attempt_fails_the_job() -> None:
    outcome = decide(policy(max_attempts=2), 2, WorkerLost("w\n1"))
    assert (outcome.state, outcome.ttl_ms) == (JobState.FAILED, TTL)
    error = error_of(outcome)
    assert (error.type, error.reason, error.attempts) == ("WorkerLost", "worker_lost", 2)
    assert repr("w\n1") in error.message


# -- what holds for all of them ------------------------------------------------------------------

delays = st.integers(0, MAX_MS)
happened: st.SearchStrategy[Happened] = st.one_of(
    st.builds(Returned, st.binary()),
    st.builds(Raised, st.sampled_from([ValueError("x"), OSError(), SystemExit(), Unprintable()])),
    st.builds(Refused, st.just(ValueError("x")), st.just("undecodable")),
    st.builds(RetryAsked, st.none() | delays),
    st.builds(Snoozed, delays),
    st.builds(CancelAsked, st.text()),
    st.builds(Released),
    st.builds(WorkerLost, st.text(st.characters(exclude_categories=["Cs"]))),
)
policies = st.builds(
    policy,
    st.integers(1, 5),
    st.sampled_from([Immediate(), Fixed(1), lambda attempt, error: None, lambda a, e: "nonsense"]),
    st.sampled_from([Narrowing(), Narrowing(give_up_on=(ValueError,))]),
)


@given(policies, st.integers(1, 7), happened, st.booleans())
def test_every_outcome_is_a_legal_step_and_whole(
    policy: Policy, attempt: int, what: Happened, cancel_requested: bool
) -> None:
    outcome = decide(policy, attempt, what, cancel_requested=cancel_requested)
    assert outcome.state in TRANSITIONS[JobState.RUNNING]
    if outcome.state in TERMINAL:
        assert outcome.ttl_ms == policy.result_ttl_ms
        assert outcome.event == outcome.state.value
        assert (outcome.delay_ms, outcome.refund) == (0, False)
    else:
        assert outcome.ttl_ms == 0
        assert outcome.refund == (outcome.event is EventType.RELEASED)
    if outcome.state in (JobState.FAILED, JobState.CANCELLED):
        assert error_of(outcome).attempts == attempt
    if outcome.state is JobState.RETRYING:
        assert attempt < policy.max_attempts
    assert type(outcome.delay_ms) is int
    assert 0 <= outcome.delay_ms <= MAX_MS


@given(policies, st.integers(1, 7), happened)
def test_a_cancelled_job_ends_cancelled_whatever_happened(
    policy: Policy, attempt: int, what: Happened
) -> None:
    outcome = decide(policy, attempt, what, cancel_requested=True)
    assert outcome.state is JobState.CANCELLED
    assert error_of(outcome).reason == "cancelled"


def test_every_step_from_running_is_one_that_decide_takes() -> None:
    ends: list[tuple[int, Happened]] = [
        (1, Returned(b"")),
        (1, raised()),
        (3, raised()),
        (1, CancelAsked("")),
        (1, Snoozed(1)),
        (1, Released()),
    ]
    reached = {decide(policy(), attempt, what).state for attempt, what in ends}
    assert reached == TRANSITIONS[JobState.RUNNING]


def test_the_time_to_live_can_be_changed_for_one_job() -> None:
    same = policy()
    assert with_result_ttl(same, TTL) is same
    assert decide(with_result_ttl(same, 7), 1, Returned(b"")).ttl_ms == 7


# -- errors as text and as bytes -----------------------------------------------------------------

job_errors = st.builds(
    JobError,
    type=st.text(st.characters(exclude_categories=["Cs"])),
    message=st.text(st.characters(exclude_categories=["Cs"])),
    traceback=st.text(st.characters(exclude_categories=["Cs"])),
    attempts=st.integers(0, 2**31),
    reason=st.sampled_from(["exception", "timeout", "worker_lost"]),
)


@given(job_errors)
def test_an_error_survives_the_storage(error: JobError) -> None:
    assert decode_error(encode_error(error)) == error


def test_an_error_of_a_later_version_can_be_read() -> None:
    assert decode_error(pack(["T", "m", "t", 1, "exception", "more"])).message == "m"


@given(st.binary())
def test_bytes_that_are_no_error_become_one_that_says_so(data: bytes) -> None:
    error = decode_error(data)
    assert error.type == "Unknown"
    assert error.message == "the stored error cannot be read"


@pytest.mark.parametrize("value", [None, [], {}, 5, ["T", "m", "t", "x", "r"], ["T"], "T" * 9])
def test_other_values_become_an_error_that_says_so(value: Any) -> None:
    assert decode_error(pack(value)).type == "Unknown"


@given(st.text())
def test_any_message_can_be_stored(message: str) -> None:
    error = describe(ValueError(message), 1)
    assert decode_error(encode_error(error)) == error
    assert len(error.message) <= MAX_MESSAGE_CHARS


def test_a_long_error_is_cut_where_it_tells_least() -> None:
    def recurse(n: int) -> None:
        if n:
            try:
                recurse(n - 1)
            except ValueError as error:
                raise ValueError("x" * 1_000) from error
        raise ValueError("the first")

    with pytest.raises(ValueError) as caught:
        recurse(50)
    error = describe(caught.value, 1)
    assert len(error.traceback) == MAX_TRACEBACK_CHARS
    assert error.traceback.endswith("x" * 1_000 + "\n")
    assert len(describe(ValueError("x" * 10**6), 1).message) == MAX_MESSAGE_CHARS


def test_lone_surrogates_are_replaced() -> None:
    assert describe(ValueError("a\ud800b"), 1).message == "a?b"


def test_an_error_that_cannot_be_printed_still_has_a_name() -> None:
    error = describe(Unprintable(), 2, "timeout")
    assert (error.type, error.attempts, error.reason) == ("Unprintable", 2, "timeout")


def test_an_error_whose_traceback_cannot_be_printed_has_none() -> None:
    class Evil(Exception):
        @property
        def __notes__(self) -> Any:
            raise KeyboardInterrupt

    assert describe(Evil("x"), 1).message == "x"


def test_a_cancellation_says_why() -> None:
    assert cancellation("why", 2) == JobError(
        type="Cancelled", message="why", attempts=2, reason="cancelled"
    )
