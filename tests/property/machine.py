"""A storage and the model side by side: every call goes to both, and both must agree.

What is injected: the clock (it moves by whole hours, so that the time a test really takes, which
shortens the times to live on a real server, never decides anything), and the tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from jobqueue.outcome import Outcome
from jobqueue.states import TERMINAL, TRANSITIONS, EnqueueStatus, JobState
from jobqueue.storage.base import (
    MAX_BATCH,
    Claim,
    ClaimRequest,
    Enqueued,
    Held,
    NewJob,
    Settlement,
    StoredJob,
)
from tests.property.model import Model
from tests.support.backends import Backend
from tests.support.clock import ManualClock
from tests.support.jobs import (
    HOUR,
    QUEUE,
    cancelled,
    completed,
    failed,
    released,
    requeued,
    retrying,
    snoozed,
)

T = TypeVar("T")

IDS: Final = ("a", "b c", "c:{d}", "\0", "\N{PILE OF POO}*", "10")
WORKERS: Final = ("w1", "w 2", "w:{3}")
REAPERS: Final = ("reaper", "w1")
LONGEST: Final = 4 * HOUR

SCHEDULED, QUEUED, RUNNING = JobState.SCHEDULED, JobState.QUEUED, JobState.RUNNING
RETRYING, CANCELLED = JobState.RETRYING, JobState.CANCELLED

STEPS: Final[dict[str, frozenset[tuple[JobState, JobState]]]] = {
    "claim": frozenset(
        [
            *((state, QUEUED) for state in (SCHEDULED, RETRYING)),
            *((state, RUNNING) for state in (SCHEDULED, RETRYING, QUEUED)),
        ]
    ),
    "finish": frozenset((RUNNING, state) for state in JobState if state is not RUNNING),
    "cancel": frozenset((state, CANCELLED) for state in (SCHEDULED, RETRYING, QUEUED)),
    "promote": frozenset((state, QUEUED) for state in (SCHEDULED, RETRYING)),
}
"""What one call of a verb may do to the state of a job; the other verbs do nothing to it."""


def is_legal(verb: str, before: JobState, after: JobState) -> bool:
    """Whether the verb may do this, in one legal step or by way of ``queued``."""
    direct = after in TRANSITIONS[before]
    by_way = QUEUED in TRANSITIONS[before] and after in TRANSITIONS[QUEUED]
    return (before, after) in STEPS.get(verb, ()) and (direct or by_way)


hours = st.integers(1, LONGEST // HOUR).map(lambda n: n * HOUR)
hours_or_none = st.integers(0, LONGEST // HOUR).map(lambda n: n * HOUR)
values = st.binary(max_size=3)
ids = st.lists(st.sampled_from(IDS), min_size=1, max_size=3)
workers = st.sampled_from(WORKERS)
limits = st.sampled_from([1, 2, MAX_BATCH])
picks = st.lists(st.integers(0, 7), min_size=1, max_size=3)
"""Of the leases given so far, counted from the newest."""

outcomes = st.one_of(
    st.builds(completed, values, ttl_ms=hours),
    st.builds(failed, values, ttl_ms=hours),
    st.builds(cancelled, values, ttl_ms=hours),
    st.builds(retrying, hours_or_none, value=values),
    st.builds(snoozed, hours_or_none),
    st.builds(released),
    st.builds(requeued),
)


@dataclass(frozen=True)
class JobPlan:
    """A job to enqueue, but for what only the machine knows. ``due`` is relative to now."""

    id: str
    spec: bytes
    delay: int = 0
    due: int | None = None
    ttl: int = 0
    has_request: bool = True


plans = st.one_of(
    st.builds(JobPlan, st.sampled_from(IDS), values, ttl=hours_or_none),
    st.builds(
        JobPlan,
        st.sampled_from(IDS),
        values,
        delay=hours_or_none,
        ttl=hours_or_none,
        has_request=st.booleans(),
    ),
    st.builds(
        JobPlan,
        st.sampled_from(IDS),
        values,
        due=st.integers(-2, 4).map(lambda n: n * HOUR),
        ttl=hours_or_none,
    ),
)


@dataclass
class Lease:
    """A lease that was given to a worker, whatever became of it."""

    worker: str
    held: Held


@dataclass
class Step:
    """What the step under way may do beyond the ordinary."""

    verb: str = ""
    stored_anew: set[str] = field(default_factory=set)
    refunded: set[str] = field(default_factory=set)


class StorageMachine(RuleBasedStateMachine):
    """Rules for everything that producers, workers, reapers and time do to one queue.

    Args:
        make_place: Makes an empty place for the jobs of one run.
    """

    def __init__(self, make_place: Callable[[], Backend]) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.place = make_place()
        self.clock = ManualClock(self.place.age)
        self.storage = self.place.handle(self.clock.now)
        self.run(self.storage.open())
        self.model = Model(now=self.clock.now())
        self.numbers = count(1)
        self.leases: list[Lease] = []
        self.forgotten: list[Lease] = []
        self.last_enqueue: list[NewJob] = []
        self.last_claims: dict[str, tuple[ClaimRequest, int]] = {}
        self.last_finish: tuple[str, list[Settlement]] | None = None
        self.seen: dict[str, StoredJob] = {}
        self.step = Step()

    def teardown(self) -> None:
        try:
            self.run(self.storage.close())
        finally:
            self.place.close()
            self.runner.close()

    def run(self, call: Awaitable[T]) -> T:
        async def wait() -> T:
            return await call

        return self.runner.run(wait())

    def begin(self, verb: str) -> None:
        self.step = Step(verb)

    # -- producers -------------------------------------------------------------------------------

    @initialize(plans=st.lists(plans, max_size=4))
    def enqueue_first(self, plans: list[JobPlan]) -> None:
        self.enqueue(plans)

    @rule(plans=st.lists(plans, min_size=1, max_size=3))
    def enqueue(self, plans: list[JobPlan]) -> None:
        jobs = [self._new_job(plan) for plan in plans]
        self._enqueue(jobs)
        self.last_enqueue = jobs

    @precondition(lambda self: self.last_enqueue)
    @rule()
    def replay_enqueue(self) -> None:
        """The answer was lost: whatever was stored is not stored again."""
        before = dict(self.model.jobs)
        answers = self._enqueue(self.last_enqueue)
        ids = [job.id for job in self.last_enqueue]
        for job, answer in zip(self.last_enqueue, answers, strict=True):
            there = before.get(job.id)
            if there is not None and there.new is job and ids.count(job.id) == 1:
                assert (answer.status, answer.value) == (EnqueueStatus.QUEUED, None)
                assert job.id not in self.step.stored_anew

    def _new_job(self, plan: JobPlan) -> NewJob:
        number = next(self.numbers)
        return NewJob(
            id=plan.id,
            name=f"type {number}",
            spec=plan.spec,
            delay_ms=plan.delay,
            due_ms=0 if plan.due is None else self.model.now + plan.due,
            ttl_ms=plan.ttl,
            request=f"request {number}" if plan.has_request else "",
        )

    def _enqueue(self, jobs: list[NewJob]) -> list[Enqueued]:
        self.begin("enqueue")
        before = dict(self.model.jobs)
        answers = self.run(self.storage.enqueue(QUEUE, jobs))
        assert answers == self.model.enqueue(jobs)
        after = self.model.jobs
        self.step.stored_anew = {id for id in after if after[id] is not before.get(id)}
        return answers

    @rule(ids=ids, ttl=hours, value=values)
    def cancel(self, ids: list[str], ttl: int, value: bytes) -> None:
        self.begin("cancel")
        answers = self.run(self.storage.cancel(QUEUE, ids, ttl, value))
        assert answers == self.model.cancel(ids, ttl, value)

    @rule(ids=ids, ttl=hours)
    def set_result_ttl(self, ids: list[str], ttl: int) -> None:
        self.begin("set_result_ttl")
        answers = self.run(self.storage.set_result_ttl(QUEUE, ids, ttl))
        assert answers == self.model.set_result_ttl(ids, ttl)

    # -- workers ---------------------------------------------------------------------------------

    @rule(worker=workers, count=st.integers(1, 4), lease=hours, blocks=st.booleans())
    def claim(self, worker: str, count: int, lease: int, blocks: bool) -> None:
        request = ClaimRequest(
            worker=worker,
            count=count,
            token=f"token {next(self.numbers)}",
            lease_ms=lease,
            # Only where there is something: the wait itself runs in real time.
            block_ms=HOUR if blocks and self.model.ready else 0,
        )
        claims = self._claim(request)
        self.last_claims.pop(worker, None)
        if claims:
            self.last_claims[worker] = request, self.model.now + lease
            self.leases += [Lease(worker, Held(claim.id, claim.fence)) for claim in claims]

    @rule(worker=workers)
    def replay_claim(self, worker: str) -> None:
        """The answer was lost: the same jobs come, and no others."""
        request, until = self.last_claims.get(worker, (None, 0))
        if request is not None and self.model.now < until:
            self._claim(
                ClaimRequest(
                    worker=worker,
                    count=request.count,
                    token=request.token,
                    lease_ms=request.lease_ms,
                )
            )

    def _claim(self, request: ClaimRequest) -> list[Claim]:
        self.begin("claim")
        claims = self.run(self.storage.claim(QUEUE, request))
        self.model.claim(request, claims)
        return claims

    @precondition(lambda self: self.leases)
    @rule(picks=picks, outcomes=st.lists(outcomes, min_size=3, max_size=3))
    def finish(self, picks: list[int], outcomes: list[Outcome]) -> None:
        """Of any leases: held, settled before, lost or taken over."""
        self._finish([self.leases[-1 - pick % len(self.leases)] for pick in picks], outcomes)

    @precondition(lambda self: self.forgotten)
    @rule(picks=picks, outcomes=st.lists(outcomes, min_size=3, max_size=3))
    def finish_as_a_ghost(self, picks: list[int], outcomes: list[Outcome]) -> None:
        """A worker that was thought dead comes back with what it held."""
        self._finish([self.forgotten[-1 - pick % len(self.forgotten)] for pick in picks], outcomes)

    @precondition(lambda self: self.last_finish)
    @rule()
    def replay_finish(self) -> None:
        assert self.last_finish is not None
        self._settle(*self.last_finish)

    def _finish(self, leases: Sequence[Lease], outcomes: Sequence[Outcome]) -> None:
        settlements = [
            Settlement(*lease.held, outcome)
            for lease, outcome in zip(leases, outcomes, strict=False)
        ]
        self.last_finish = leases[0].worker, settlements
        self._settle(*self.last_finish)

    def _settle(self, worker: str, settlements: list[Settlement]) -> None:
        self.begin("finish")
        answers = self.run(self.storage.finish(QUEUE, worker, settlements))
        assert answers == self.model.finish(settlements)
        self.step.refunded = {id for id, _, outcome in settlements if outcome.refund}

    @rule(worker=workers, picks=picks, lease=hours)
    def heartbeat(self, worker: str, picks: list[int], lease: int) -> None:
        own = [lease for lease in self.leases if lease.worker == worker]
        self._heartbeat(worker, own, picks if own else [], lease)

    @precondition(lambda self: self.forgotten)
    @rule(picks=picks, lease=hours)
    def heartbeat_as_a_ghost(self, picks: list[int], lease: int) -> None:
        self._heartbeat(self.forgotten[-1].worker, self.forgotten, picks, lease)

    def _heartbeat(self, worker: str, of: list[Lease], picks: list[int], lease: int) -> None:
        self.begin("heartbeat")
        held = list(dict.fromkeys(of[-1 - pick % len(of)].held for pick in picks))
        answer = self.run(self.storage.heartbeat(QUEUE, worker, held, lease))
        expected = self.model.heartbeat(held, lease)
        assert sorted(answer.lost) == sorted(expected.lost)
        assert sorted(answer.cancel_requested) == sorted(expected.cancel_requested)

    @rule(worker=workers)
    def crash(self, worker: str) -> None:
        """The worker is gone, and with it all that it knew."""
        self.begin("crash")
        self.forgotten += [lease for lease in self.leases if lease.worker == worker]
        self.leases = [lease for lease in self.leases if lease.worker != worker]
        self.last_claims.pop(worker, None)

    @rule(worker=workers)
    def leave(self, worker: str) -> None:
        self.begin("leave")
        self.run(self.storage.leave(QUEUE, worker))
        self.model.leave(worker)
        self.last_claims.pop(worker, None)

    # -- maintenance and time --------------------------------------------------------------------

    @rule(reaper=st.sampled_from(REAPERS), limit=limits, lease=hours)
    def recover(self, reaper: str, limit: int, lease: int) -> None:
        self._recover(reaper, limit, lease)

    @rule(outcomes=st.lists(outcomes, min_size=len(IDS), max_size=len(IDS)))
    def recover_and_settle(self, outcomes: list[Outcome]) -> None:
        taken = self._recover("reaper", MAX_BATCH, HOUR)
        if taken:
            self.check()
            self._finish(taken, outcomes)

    def _recover(self, reaper: str, limit: int, lease: int) -> list[Lease]:
        self.begin("recover")
        claims = self.run(self.storage.recover(QUEUE, reaper, limit, lease))
        self.model.recover(reaper, limit, lease, claims)
        taken = [Lease(reaper, Held(claim.id, claim.fence)) for claim in claims]
        self.leases += taken
        return taken

    @rule(hours=hours)
    def advance(self, hours: int) -> None:
        self.begin("advance")
        self._advance(hours)

    def _advance(self, ms: int) -> None:
        self.run(self.clock.advance(ms))
        self.model.now = self.clock.now()

    @rule(limit=limits)
    def promote(self, limit: int) -> None:
        self.begin("promote")
        answer = self.run(self.storage.promote(QUEUE, limit))
        assert answer == self.model.promote(limit, self._which_are_queued)

    def _which_are_queued(self, ids: list[str]) -> list[str]:
        jobs = self.run(self.storage.get(QUEUE, ids))
        return [job.id for job in jobs if job is not None and job.state is JobState.QUEUED]

    @rule(limit=limits)
    def prune(self, limit: int) -> None:
        """How much is left to drop, a storage decides; that nothing else changes, the model."""
        self.begin("prune")
        assert 0 <= self.run(self.storage.prune(QUEUE, limit)) <= limit

    @rule()
    def drain(self) -> None:
        """After enough time, each job that has not ended comes exactly once, and can end.

        So it was in one place: a job in none would be missing, one in two would come twice.
        """
        left = {id for id, job in self.model.jobs.items() if job.state not in TERMINAL}
        self.advance(LONGEST)
        self.check()
        taken = self._recover("reaper", MAX_BATCH, HOUR)
        assert {lease.held.id for lease in taken} == {
            id for id, job in self.model.jobs.items() if job.state == "running"
        }
        self.check()
        if taken:
            self._finish(taken, [released()] * len(taken))
            self.check()
        asked_to_stop = {id for id in left if self.model.jobs[id].state in TERMINAL}
        self.claim("w1", MAX_BATCH, HOUR, False)
        self.check()
        running = [job.new.id for job in self.model.jobs.values() if job.state == "running"]
        assert set(running) == left - asked_to_stop
        assert self.run(self.storage.promote(QUEUE, MAX_BATCH)) is None
        if running:
            self._finish(self.leases[-len(running) :], [completed(ttl_ms=HOUR)] * len(running))
            self.check()
        self.advance(LONGEST)
        assert not any(self.run(self.storage.counts(QUEUE)).values())

    # -- what holds after each step --------------------------------------------------------------

    @invariant()
    def check(self) -> None:
        jobs = self.run(self.storage.get(QUEUE, IDS))
        assert jobs == self.model.get(IDS)
        assert self.run(self.storage.results(QUEUE, IDS)) == self.model.results(IDS)
        assert self.run(self.storage.counts(QUEUE)) == self.model.counts()
        self.model.check_places()
        assert self.place.faults([]) == []
        self._check_history({job.id: job for job in jobs if job is not None})

    def _check_history(self, jobs: dict[str, StoredJob]) -> None:
        """The rules for the life of a job, from what was seen of it and not from the model."""
        for id, before in self.seen.items():
            after = jobs.get(id)
            if id in self.step.stored_anew:
                may_go = before.state is CANCELLED or 0 < before.expires_ms <= self.clock.now()
                assert may_go, f"{before} was overwritten"
            elif after is None:
                assert 0 < before.expires_ms <= self.clock.now(), f"{before} vanished"
            else:
                self._check_step(before, after)
        self.seen = jobs
        self.step = Step()

    def _check_step(self, before: StoredJob, after: StoredJob) -> None:
        if after.state is not before.state:
            assert is_legal(self.step.verb, before.state, after.state), (self.step, before, after)
        may_fall = 1 if after.id in self.step.refunded else 0
        assert before.attempt - may_fall <= after.attempt <= before.attempt + 1
        assert after.fence >= before.fence
        if after.fence == before.fence and before.state is not RUNNING:
            assert after.state is not RUNNING, "a job ran again under the same fence"
        if before.state in TERMINAL:
            assert (after.value, after.attempt) == (before.value, before.attempt)
