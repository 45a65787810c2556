"""A storage and the model side by side: every call goes to both, and both must agree.

What is injected: the clock (it moves by whole hours, so that the time a test really takes, which
shortens the times to live on a real server, never decides anything), and the tokens.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Final, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from jobqueue.outcome import Outcome
from jobqueue.states import TERMINAL, TRANSITIONS, EnqueueStatus, JobState
from jobqueue.storage.types import (
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
from tests.property.plans import (
    IDS,
    LONGEST,
    REAPERS,
    JobPlan,
    counts,
    hours,
    ids,
    limits,
    picks,
    plans,
    some_outcomes,
    values,
    workers,
)
from tests.support.backends import Backend
from tests.support.clock import ManualClock
from tests.support.jobs import HOUR, QUEUE, completed, released

T = TypeVar("T")

SCHEDULED, QUEUED, RUNNING = JobState.SCHEDULED, JobState.QUEUED, JobState.RUNNING
RETRYING, CANCELLED = JobState.RETRYING, JobState.CANCELLED
WAITING: Final = (SCHEDULED, QUEUED, RETRYING)

STEPS: Final[dict[str, frozenset[tuple[JobState, JobState]]]] = {
    "claim": frozenset(
        [
            *((state, QUEUED) for state in (SCHEDULED, RETRYING)),
            *((state, RUNNING) for state in (SCHEDULED, RETRYING, QUEUED)),
            *((state, CANCELLED) for state in (SCHEDULED, QUEUED)),
        ]
    ),
    "finish": frozenset((RUNNING, state) for state in JobState if state is not RUNNING),
    "cancel": frozenset((state, CANCELLED) for state in (SCHEDULED, RETRYING, QUEUED)),
    "clear": frozenset((state, CANCELLED) for state in (SCHEDULED, RETRYING, QUEUED)),
    "promote": frozenset(
        [
            *((state, QUEUED) for state in (SCHEDULED, RETRYING)),
            *((state, CANCELLED) for state in (SCHEDULED, QUEUED)),
        ]
    ),
    "reschedule": frozenset((state, QUEUED) for state in (SCHEDULED, RETRYING)),
    "enqueue": frozenset([(SCHEDULED, QUEUED)]),
}
"""What one call of a verb may do to the state of a job; the other verbs do nothing to it."""


def is_legal(verb: str, before: JobState, after: JobState) -> bool:
    """Whether the verb may do this, in one legal step or by way of ``queued``."""
    direct = after in TRANSITIONS[before]
    by_way = QUEUED in TRANSITIONS[before] and after in TRANSITIONS[QUEUED]
    return (before, after) in STEPS.get(verb, ()) and (direct or by_way)


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


def settled(settlements: Sequence[Settlement]) -> list[Held]:
    """The leases that somebody tried to settle."""
    return [Held(id, fence) for id, fence, _ in settlements]


class StorageMachine(RuleBasedStateMachine):
    """Rules for everything that producers, workers, reapers and time do to one queue.

    Args:
        make_place: Makes an empty place for the jobs of one run.
        done: Counts the steps, the runs, and what was done in them.
    """

    def __init__(self, make_place: Callable[[], Backend], done: Counter[str]) -> None:
        super().__init__()
        self.done = done
        self.done["runs"] += 1
        self.runner = asyncio.Runner()
        self.place = make_place()
        self.clock = ManualClock(self.place.age)
        self.storage = self.place.handle(self.clock.now)
        self.run(self.storage.open())
        self.model = Model(now=self.clock.now())
        self.numbers = count(1)
        self.leases: list[Lease] = []
        self.live: list[Lease] = []
        self.last_enqueue: list[NewJob] = []
        self.last_claims: dict[str, tuple[ClaimRequest, int]] = {}
        self.last_finish: tuple[str, list[Settlement]] | None = None
        self.last_cancel: tuple[list[str], int, bytes, str] | None = None
        self.last_recovery: tuple[str, int, int, str, int] | None = None
        self.seen: dict[str, StoredJob] = {}
        self.step = Step()
        self.some_expired = False
        self.agree = True

    def teardown(self) -> None:
        try:
            if self.agree:
                assert self.place.faults([]) == []
                self._drain()
                assert self.place.faults([]) == []
            self.run(self.storage.close())
        finally:
            self.place.close()
            self.runner.close()

    def run(self, call: Awaitable[T]) -> T:
        async def wait() -> T:
            return await call

        return self.runner.run(wait())

    def states(self, ids: Sequence[str]) -> dict[str, str]:
        """What the storage says of jobs that are there."""
        answers = self.run(self.storage.results(QUEUE, ids)) if ids else []
        return {id: answer.state for id, answer in zip(ids, answers, strict=True) if answer}

    def begin(self, verb: str) -> None:
        self.step = Step(verb)
        self.agree = False
        self.done[verb] += 1

    def any_job(self, *states: str) -> bool:
        """Whether a job is in one of these states."""
        return any(job.state in states for job in self.model.jobs.values())

    # -- producers -------------------------------------------------------------------------------

    @initialize(plans=st.lists(plans, min_size=1, max_size=4))
    def enqueue_first(self, plans: list[JobPlan]) -> None:
        self.enqueue(plans)

    @precondition(lambda self: len(self.model.jobs) < len(IDS) or self.any_job("cancelled"))
    @rule(plans=st.lists(plans, min_size=1, max_size=3))
    def enqueue(self, plans: list[JobPlan]) -> None:
        jobs = [self._new_job(plan) for plan in plans]
        self._enqueue(jobs)
        self.last_enqueue = jobs

    @precondition(lambda self: self.model.jobs)
    @rule(plan=plans)
    def enqueue_one(self, plan: JobPlan) -> None:
        """Of a known id, more often than not."""
        self._enqueue([self._new_job(plan)])

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
            id=plan.id if plan.has_request else f"made for request {number}",
            name=plan.type or f"type {number}",
            spec=plan.spec,
            delay_ms=plan.delay,
            due_ms=0 if plan.due is None else self.model.now + plan.due,
            ttl_ms=plan.ttl,
            request=f"request {number}" if plan.has_request else "",
            flow=plan.flow,
        )

    def _enqueue(self, jobs: list[NewJob]) -> list[Enqueued]:
        self.begin("enqueue")
        before = dict(self.model.jobs)
        answers = self.run(self.storage.enqueue(QUEUE, jobs))
        assert answers == self.model.enqueue(jobs)
        after = self.model.jobs
        self.step.stored_anew = {id for id in after if after[id] is not before.get(id)}
        return answers

    @precondition(lambda self: self.model.jobs)
    @rule(ids=ids, ttl=hours, value=values)
    def cancel(self, ids: list[str], ttl: int, value: bytes) -> None:
        self.begin("cancel")
        self.last_cancel = ids, ttl, value, f"cancel {next(self.numbers)}"
        answers = self.run(self.storage.cancel(QUEUE, *self.last_cancel))
        assert answers == self.model.cancel(*self.last_cancel)

    @precondition(lambda self: self.last_cancel)
    @rule()
    def replay_cancel(self) -> None:
        """The answer was lost: it comes again, as far as the jobs are the same."""
        assert self.last_cancel is not None
        self.begin("cancel")
        answers = self.run(self.storage.cancel(QUEUE, *self.last_cancel))
        assert answers == self.model.cancel(*self.last_cancel)

    @precondition(lambda self: self.model.queued())
    @rule(plan=plans, ttl=hours)
    def replace_first(self, plan: JobPlan, ttl: int) -> None:
        """Whose turn it is loses its place to the others when it is stored anew."""
        id = self.model.queued()[0]
        self.cancel([id], ttl, b"")
        self.check()
        self._enqueue([self._new_job(replace(plan, id=id))])

    @precondition(lambda self: self.live)
    @rule(picks=picks, ttls=st.lists(hours, min_size=1, max_size=2))
    def cancel_running(self, picks: list[int], ttls: list[int]) -> None:
        """The first of several requests counts."""
        ids = [self.live[-1 - pick % len(self.live)].held.id for pick in picks]
        for number, ttl in enumerate(ttls):
            self.cancel(ids, ttl, b"%d" % number)

    @precondition(lambda self: self.any_job(*TERMINAL))
    @rule(ids=ids, ttl=hours)
    def set_result_ttl(self, ids: list[str], ttl: int) -> None:
        self.begin("set_result_ttl")
        answers = self.run(self.storage.set_result_ttl(QUEUE, ids, ttl))
        assert answers == self.model.set_result_ttl(ids, ttl)

    @precondition(lambda self: self.any_job(*TERMINAL))
    @rule(ms=hours)
    def keep_longer(self, ms: int) -> None:
        """What has ended is still there when its first time would be over."""
        ended = [id for id, job in self.model.jobs.items() if job.state in TERMINAL]
        self.set_result_ttl(ended, LONGEST + HOUR)
        self.check()
        self.advance(ms)

    # -- workers ---------------------------------------------------------------------------------

    @precondition(lambda self: self.any_job(*WAITING))
    @rule(worker=workers, count=counts, lease=hours)
    def claim(self, worker: str, count: int, lease: int) -> None:
        self._claim_anew(worker, count, lease, 0)

    @precondition(lambda self: self.model.startable())
    @rule(worker=workers, count=counts, lease=hours)
    def claim_and_wait(self, worker: str, count: int, lease: int) -> None:
        """Only where there is something: the wait itself runs in real time."""
        self._claim_anew(worker, count, lease, HOUR)

    def _claim_anew(self, worker: str, count: int, lease: int, block: int) -> list[Lease]:
        request = ClaimRequest(
            worker=worker,
            count=count,
            token=f"token {next(self.numbers)}",
            lease_ms=lease,
            block_ms=block,
        )
        claims = self._claim(request)
        self.last_claims.pop(worker, None)
        if claims:
            self.last_claims[worker] = request, self.model.now + lease
        return self._got(worker, claims)

    def _got(self, worker: str, claims: Sequence[Claim]) -> list[Lease]:
        got = [Lease(worker, Held(claim.id, claim.fence)) for claim in claims]
        self.leases += got
        self.live += got
        return got

    @precondition(lambda self: self.last_claims)
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
        self.model.claim(request, claims, self.states)
        return claims

    @precondition(lambda self: self.live)
    @rule(picks=picks, outcomes=some_outcomes)
    def finish(self, picks: list[int], outcomes: list[Outcome]) -> None:
        """What is held; one and the same lease perhaps twice in a call."""
        self._finish([self.live[-1 - pick % len(self.live)] for pick in picks], outcomes)

    @precondition(lambda self: self.any_job(*WAITING))
    @rule(worker=workers, outcomes=some_outcomes)
    def work(self, worker: str, outcomes: list[Outcome]) -> None:
        """An attempt from its begin to its end."""
        claimed = self._claim_anew(worker, len(outcomes), LONGEST, 0)
        self.check()
        if claimed:
            self._finish(claimed, outcomes)

    @precondition(lambda self: self.any_job(*WAITING))
    @rule(worker=workers, lease=hours, beat=hours, ms=hours, outcomes=some_outcomes)
    def work_slowly(
        self, worker: str, lease: int, beat: int, ms: int, outcomes: list[Outcome]
    ) -> None:
        """An attempt with a sign of life in between, and a reaper that looks in before its end."""
        claimed = self._claim_anew(worker, len(outcomes), lease, 0)
        self.check()
        self._heartbeat(worker, [one.held for one in claimed], beat)
        self.check()
        self.advance(ms)
        self.check()
        self._recover("reaper", MAX_BATCH, lease)
        self.check()
        if claimed:
            self._finish(claimed, outcomes)

    @precondition(lambda self: len(self.leases) > len(self.live))
    @rule(picks=picks, outcomes=some_outcomes)
    def finish_as_a_ghost(self, picks: list[int], outcomes: list[Outcome]) -> None:
        """A worker that was thought dead, or forgot what it did, comes with what it held."""
        stale = [lease for lease in self.leases if lease not in self.live]
        self._finish([stale[-1 - pick % len(stale)] for pick in picks], outcomes)

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
        self.live = [lease for lease in self.live if lease.held not in settled(settlements)]
        self.step.refunded = {id for id, _, outcome in settlements if outcome.refund}

    @precondition(lambda self: self.live)
    @rule()
    def stop(self) -> None:
        """A worker gives back all that it holds."""
        worker = self.live[-1].worker
        held = [lease for lease in self.live if lease.worker == worker]
        self._finish(held, [released()] * len(held))

    @precondition(lambda self: self.live)
    @rule(lease=hours)
    def heartbeat(self, lease: int) -> None:
        worker = self.live[-1].worker
        held = [one.held for one in self.live if one.worker == worker]
        self._heartbeat(worker, held, lease)

    @precondition(lambda self: len(self.leases) > len(self.live))
    @rule(picks=picks, lease=hours)
    def heartbeat_as_a_ghost(self, picks: list[int], lease: int) -> None:
        """With any of its leases: held, settled, lost or taken over."""
        worker = self.leases[-1 - picks[0] % len(self.leases)].worker
        own = [one.held for one in self.leases if one.worker == worker]
        held = dict.fromkeys(own[-1 - pick % len(own)] for pick in picks)
        self._heartbeat(worker, list(held), lease)

    def _heartbeat(self, worker: str, held: list[Held], lease: int) -> None:
        self.begin("heartbeat")
        if worker in self.last_claims:
            # A sign of life for a shorter time than the last one may bring its death forward.
            request, until = self.last_claims[worker]
            self.last_claims[worker] = request, min(until, self.model.now + lease)
        answer = self.run(self.storage.heartbeat(QUEUE, worker, held, lease))
        expected = self.model.heartbeat(held, lease)
        assert sorted(answer.lost) == sorted(expected.lost)
        assert sorted(answer.cancel_requested) == sorted(expected.cancel_requested)

    @precondition(lambda self: self.live)
    @rule()
    def crash(self) -> None:
        """A worker is gone, and with it all that it knew; time will show."""
        self.begin("crash")
        worker = self.live[-1].worker
        self.live = [lease for lease in self.live if lease.worker != worker]
        self.last_claims.pop(worker, None)

    @precondition(lambda self: self.leases)
    @rule(worker=workers)
    def leave(self, worker: str) -> None:
        self.begin("leave")
        self.run(self.storage.leave(QUEUE, worker))
        self.model.leave(worker)
        self.last_claims.pop(worker, None)

    # -- maintenance and time --------------------------------------------------------------------

    @precondition(lambda self: self.any_job("running"))
    @rule(reaper=st.sampled_from(REAPERS), limit=limits, lease=hours)
    def recover(self, reaper: str, limit: int, lease: int) -> None:
        self._recover(reaper, limit, lease)

    @precondition(lambda self: self.any_job("running"))
    @rule(ms=hours, lease=hours, outcomes=some_outcomes)
    def recover_and_settle(self, ms: int, lease: int, outcomes: list[Outcome]) -> None:
        """What a reaper does when it comes by after a while."""
        self.advance(ms)
        self.check()
        taken = self._recover("reaper", len(outcomes), lease)
        if taken:
            self.check()
            self._finish(taken, outcomes)

    def _recover(self, reaper: str, limit: int, lease: int) -> list[Lease]:
        token = f"token {next(self.numbers)}"
        claims = self._recover_under(reaper, limit, lease, token)
        if claims:
            self.last_claims.pop(reaper, None)
            self.last_recovery = reaper, limit, lease, token, self.model.now + lease
        return self._got(reaper, claims)

    @precondition(lambda self: self.last_recovery)
    @rule()
    def replay_recovery(self) -> None:
        """The answer was lost: the same jobs come, and no others."""
        assert self.last_recovery is not None
        *arguments, until = self.last_recovery
        if self.model.now < until:
            self._recover_under(*arguments)

    def _recover_under(self, reaper: str, limit: int, lease: int, token: str) -> list[Claim]:
        self.begin("recover")
        claims = self.run(self.storage.recover(QUEUE, reaper, limit, lease, token))
        self.model.recover(reaper, limit, lease, token, claims)
        return claims

    @precondition(lambda self: self.any_job(*(state for state in JobState if state is not QUEUED)))
    @rule(ms=hours)
    def advance(self, ms: int) -> None:
        self.begin("advance")
        self.run(self.clock.advance(ms))
        self.model.now = self.clock.now()

    @precondition(lambda self: self.any_job("scheduled", "retrying"))
    @rule(limit=limits)
    def promote(self, limit: int) -> None:
        self.begin("promote")
        answer = self.run(self.storage.promote(QUEUE, limit))
        self.model.promote(limit, self.states, answer)

    @precondition(lambda self: self.some_expired)
    @rule(limit=limits)
    def prune(self, limit: int) -> None:
        """How much is left to drop, a storage decides; that nothing else changes, the model."""
        self.begin("prune")
        assert 0 <= self.run(self.storage.prune(QUEUE, limit)) <= limit
        self.some_expired = False

    def _drain(self) -> None:
        """After enough time, each job that has not ended comes exactly once and can end, unless it
        was not started in time.

        So it was in one place: a job in none would be missing, one in two would come twice.
        """
        self.advance(LONGEST)
        self.check()
        taken = self._recover("reaper", MAX_BATCH, HOUR)
        self.check()
        if taken:
            self._finish(taken, [released()] * len(taken))
            self.check()
        assert not self.any_job("running")
        left = [id for id, job in self.model.jobs.items() if job.state not in TERMINAL]
        came: list[str] = []
        while claimed := self._claim_anew("w1", MAX_BATCH, HOUR, 0):
            came += [lease.held.id for lease in claimed]
            self.check()
            self._finish(claimed, [completed(ttl_ms=HOUR)] * len(claimed))
            self.check()
        self.check()
        expired = [id for id in left if self.model.jobs[id].state == "cancelled"]
        assert sorted(came + expired) == sorted(left)
        assert self.run(self.storage.promote(QUEUE, MAX_BATCH)) is None
        self.advance(LONGEST)
        assert not any(self.run(self.storage.counts(QUEUE)).values())
        self.check()
        self.prune(MAX_BATCH)
        self.check()

    # -- what holds after each step --------------------------------------------------------------

    @invariant()
    def check_step(self) -> None:
        """After each rule, and only then."""
        self.check()
        self.done["steps"] += 1

    def check(self) -> None:
        jobs = self.run(self.storage.get(QUEUE, IDS))
        assert jobs == self.model.get(IDS)
        assert self.run(self.storage.results(QUEUE, IDS)) == self.model.results(IDS)
        assert self.run(self.storage.counts(QUEUE)) == self.model.counts()
        self.model.check_places()
        self._check_history({job.id: job for job in jobs if job is not None})
        self.agree = True

    def _check_history(self, jobs: dict[str, StoredJob]) -> None:
        """The rules for the life of a job, from what was seen of it and not from the model."""
        for id, before in self.seen.items():
            after = jobs.get(id)
            if id in self.step.stored_anew:
                may_go = before.state is CANCELLED or 0 < before.expires_ms <= self.clock.now()
                assert may_go, f"{before} was overwritten"
            elif after is None:
                assert 0 < before.expires_ms <= self.clock.now(), f"{before} vanished"
                self.some_expired = True
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
