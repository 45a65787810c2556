"""What the storage port promises, as lists and dicts: written from its docstrings alone.

The model is told each call and its answer. Where the port leaves a choice (the order of jobs that
are due at the same moment, which of several leases that ran out are taken over first, the numbers
of the fences) it checks that the answer is one of those allowed, and follows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from jobqueue.flow import (
    LEVELS,
    Control,
    Limit,
    LimitInfo,
    LimitKind,
    LimitScope,
    Priority,
    Refusal,
)
from jobqueue.outcome import EXPIRED, Outcome
from jobqueue.states import CancelResult, EnqueueStatus, JobState, RescheduleResult, TtlResult
from jobqueue.storage.types import (
    Claim,
    ClaimRequest,
    Enqueued,
    HeartbeatAnswer,
    Held,
    NewJob,
    Settlement,
    StoredJob,
    StoredResult,
)
from tests.property.starting import SILENT, Rules, counts, flow_of, level_of

ENDED: Final = ("completed", "failed", "cancelled")
DELAYED: Final = ("scheduled", "retrying")
WAITING: Final = (*DELAYED, "queued")

FIELDS: Final = ("paused", "draining", "max_waiting", "low_every")

States = Callable[[Sequence[str]], dict[str, str]]
"""Asked for the states that some jobs have in the storage now, where the port leaves a choice."""


@dataclass
class ModelJob:
    """One job.

    Attributes:
        stop: The value of the first request to stop it while it ran.
        cancel: The token of the cancel that counts.
        replaced_by: The tokens of the requests that took its place.
        perhaps_held: A limit may have held it back when its turn came: it may stand before others.
        released: It went to the head of the queue: those that were held back may stand before it.
    """

    new: NewJob
    enqueued: int
    state: str = "queued"
    ttl: int = 0
    due: int = 0
    attempt: int = 0
    fence: int = 0
    settled_fence: int = 0
    leased_until: int = 0
    started: int = 0
    finished: int = 0
    expires: int = 0
    worker: str = ""
    value: bytes = b""
    stop: bytes | None = None
    cancel: str = ""
    replaced_by: set[str] = field(default_factory=set)
    perhaps_held: bool = False
    released: bool = False

    def as_stored(self) -> StoredJob:
        return StoredJob(
            id=self.new.id,
            name=self.new.name,
            spec=self.new.spec,
            state=JobState(self.state),
            attempt=self.attempt,
            fence=self.fence,
            enqueued_ms=self.enqueued,
            due_ms=self.due,
            started_ms=self.started,
            finished_ms=self.finished,
            expires_ms=self.expires,
            ttl_ms=self.ttl,
            worker=self.worker,
            cancel_requested=self.stop is not None,
            value=self.value,
            flow=self.new.flow,
        )

    @property
    def signature(self) -> tuple[str, ...]:
        """Of two with the same one, the same limits hold."""
        flow = flow_of(self)
        return self.new.name, flow.limit, flow.key, flow.alone


def empty_queue() -> dict[Priority, list[list[str]]]:
    return {level: [] for level in LEVELS}


@dataclass
class Model:
    """One queue.

    Attributes:
        now: The moment; the caller moves it.
        jobs: By id. Those whose time to live is over leave with the next call.
        ready: The queue by level, head first. Ids in one inner list may come in any order.
        rules: What holds for the queue.
        of_key: By unique key: id of the last job stored under it.
        last_fence: The largest fence given out.
        last_claims: By worker or reaper: token and claims of the last one that found something.
    """

    now: int
    jobs: dict[str, ModelJob] = field(default_factory=dict)
    ready: dict[Priority, list[list[str]]] = field(default_factory=empty_queue)
    rules: Rules = field(default_factory=Rules)
    of_key: dict[str, str] = field(default_factory=dict)
    last_fence: int = 0
    last_claims: dict[str, tuple[str, list[Claim]]] = field(default_factory=dict)

    # -- reads -----------------------------------------------------------------------------------

    def expire(self) -> None:
        """Whoever's time to live is over does not exist."""
        for id, job in list(self.jobs.items()):
            if job.state in ENDED and job.expires <= self.now:
                del self.jobs[id]

    def get(self, ids: Sequence[str]) -> list[StoredJob | None]:
        self.expire()
        return [self.jobs[id].as_stored() if id in self.jobs else None for id in ids]

    def results(self, ids: Sequence[str]) -> list[StoredResult | None]:
        self.expire()
        answers: list[StoredResult | None] = []
        for id in ids:
            job = self.jobs.get(id)
            if job is None:
                answers.append(None)
            else:
                value = job.value if job.state in ENDED else None
                answers.append(StoredResult(JobState(job.state), value))
        return answers

    def counts(self) -> dict[JobState, int]:
        self.expire()
        states = [job.state for job in self.jobs.values()]
        return {state: states.count(state.value) for state in JobState}

    def queued(self) -> list[str]:
        """Who waits in the queue, by turn as far as nothing holds anybody back."""
        return [id for level in LEVELS for group in self.ready[level] for id in group]

    def check_places(self) -> None:
        """The model itself is sound: who is queued is in the queue, once."""
        queued = [id for id, job in self.jobs.items() if job.state == "queued"]
        assert sorted(self.queued()) == sorted(queued)

    # -- producers -------------------------------------------------------------------------------

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        self.expire()
        return [self._enqueue_one(job) for job in jobs]

    def _enqueue_one(self, new: NewJob) -> Enqueued:
        job = self.jobs.get(new.id)
        if job is not None and job.new.request == new.request:
            return Enqueued(EnqueueStatus.QUEUED, JobState(job.state), None)
        if job is not None and job.state != "cancelled":
            return self._known(job)
        return (
            self._kept_away(new)
            or self._refused()
            or self._store(new, "" if job is None else job.cancel)
        )

    def _known(self, job: ModelJob, other_id: str = "") -> Enqueued:
        if job.state == "completed":
            return Enqueued(EnqueueStatus.COMPLETED, JobState.COMPLETED, job.value, other_id)
        value = job.value if job.state in ENDED else None
        return Enqueued(EnqueueStatus.DUPLICATE, JobState(job.state), value, other_id)

    def _kept_away(self, new: NewJob) -> Enqueued | None:
        """The answer for one that another of its unique key keeps away."""
        unique = (new.flow or SILENT).unique
        if unique is None:
            return None
        job = self.jobs.get(self.of_key.get(unique.key, ""))
        if job is None:
            return None
        other_id = "" if job.new.id == new.id else job.new.id
        theirs = flow_of(job).unique
        if theirs is None or theirs.key != unique.key:
            return None
        token = new.request or new.id
        if token in job.replaced_by:
            return Enqueued(EnqueueStatus.REPLACED, JobState(job.state), None, job.new.id)
        ended, started = job.state in ENDED, job.fence > 0
        if not counts(unique, ended=ended, started=started, enqueued=job.enqueued, now=self.now):
            return None
        if not unique.replace:
            return self._known(job, other_id)
        job.new = job.new._replace(spec=new.spec)
        job.ttl = new.ttl_ms
        job.replaced_by.add(token)
        if job.state == "scheduled":
            due = self._due_of(new)
            if unique.max_wait_ms:
                due = min(due, job.enqueued + unique.max_wait_ms)
            self._make_due(job, due)
        return Enqueued(EnqueueStatus.REPLACED, JobState(job.state), None, job.new.id)

    def _refused(self) -> Enqueued | None:
        control = self.rules.control
        waiting = sum(job.state in ("scheduled", "queued") for job in self.jobs.values())
        if control.draining:
            return Enqueued(Refusal.DRAINING, JobState.QUEUED, None)
        if control.max_waiting and waiting >= control.max_waiting:
            return Enqueued(Refusal.FULL, JobState.QUEUED, None)
        return None

    def _due_of(self, new: NewJob) -> int:
        return self.now + new.delay_ms if new.delay_ms else new.due_ms

    def _make_due(self, job: ModelJob, due: int) -> None:
        """At that moment, or at once."""
        if due > self.now:
            job.due = due
        else:
            job.state, job.due = "queued", 0
            self.ready[level_of(job)].append([job.new.id])

    def _store(self, new: NewJob, cancel: str) -> Enqueued:
        job = ModelJob(new=new, enqueued=self.now, ttl=new.ttl_ms, cancel=cancel)
        self.jobs[new.id] = job
        job.state = "scheduled"
        self._make_due(job, self._due_of(new))
        unique = flow_of(job).unique
        if unique is not None:
            self.of_key[unique.key] = new.id
        return Enqueued(EnqueueStatus.QUEUED, JobState(job.state), None)

    def cancel(
        self, ids: Sequence[str], ttl: int, value: bytes, request: str
    ) -> list[CancelResult]:
        self.expire()
        return [self._cancel_one(id, ttl, value, request) for id in ids]

    def _cancel_one(self, id: str, ttl: int, value: bytes, request: str) -> CancelResult:
        job = self.jobs.get(id)
        if job is None:
            return CancelResult.NOT_FOUND
        if job.cancel == request:
            return CancelResult.CANCELLED if job.stop is None else CancelResult.RUNNING
        if job.state in ENDED:
            return CancelResult.FINISHED
        job.ttl = job.ttl or ttl
        if job.state == "running":
            if job.stop is None:
                job.stop, job.cancel = value, request
            return CancelResult.RUNNING
        job.cancel = request
        self._end_waiting(job, value, ttl)
        return CancelResult.CANCELLED

    def _take_from_queue(self, id: str) -> None:
        level = level_of(self.jobs[id])
        groups = [[other for other in group if other != id] for group in self.ready[level]]
        self.ready[level] = [group for group in groups if group]

    def _end_waiting(self, job: ModelJob, value: bytes, ttl: int) -> None:
        if job.state == "queued":
            self._take_from_queue(job.new.id)
        job.ttl = job.ttl or ttl
        self._end(job, "cancelled", value, job.ttl)

    def _end(self, job: ModelJob, state: str, value: bytes, ttl: int) -> None:
        job.state, job.value, job.due = state, value, 0
        job.finished, job.expires = self.now, self.now + ttl

    def set_result_ttl(self, ids: Sequence[str], ttl: int) -> list[TtlResult]:
        self.expire()
        answers: list[TtlResult] = []
        for id in ids:
            job = self.jobs.get(id)
            if job is None:
                answers.append(TtlResult.NOT_FOUND)
            elif job.state not in ENDED:
                answers.append(TtlResult.NOT_FINISHED)
            else:
                job.expires = self.now + ttl
                answers.append(TtlResult.UPDATED)
        return answers

    # -- workers ---------------------------------------------------------------------------------

    def claim(self, request: ClaimRequest, answer: Sequence[Claim], states: States) -> None:
        """Check what a claim gave, and follow it."""
        self.expire()
        self._follow_expired(states)
        if not self._is_replay(request.worker, request.token, answer):
            if self.rules.control.paused:
                assert not answer, "a job of a paused queue was started"
                self._promote_group_by_group(self._delayed(), states)
            else:
                self._promote_due()
                for claim in answer:
                    self._start(claim, request)
                assert len(answer) == request.count or not self.startable(), "not all was taken"
            self._check_new_fences(answer)
            if answer:
                self.last_claims[request.worker] = (request.token, list(answer))
        for claim in answer:
            self._check_claim(claim, request.worker, False)

    def _start(self, claim: Claim, request: ClaimRequest) -> None:
        """The next one of a claim."""
        startable = self.startable()
        job = self.jobs[claim.id]
        assert job in startable, f"{claim.id!r} may not start"
        self._check_turn(job, startable)
        low_waits = bool(self.ready[Priority.LOW])
        self.rules.start(job, [*startable], low_waits, self.now)
        self._take_from_queue(claim.id)
        job.state, job.attempt, job.worker = "running", job.attempt + 1, request.worker
        job.fence, job.started = claim.fence, self.now
        job.leased_until = self.now + request.lease_ms
        job.perhaps_held = job.released = False

    def startable(self) -> list[ModelJob]:
        """Those that may start now, whatever their turn. Others may have been held back."""
        running = [job for job in self.jobs.values() if job.state == "running"]
        found: list[ModelJob] = []
        for job in self.jobs.values():
            if job.state != "queued" or self._has_expired(job) or self.rules.control.paused:
                continue
            moment = self.rules.next_ms(job, [*running], self.now)
            if moment is not None and moment <= self.now:
                found.append(job)
            else:
                job.perhaps_held = True
        return found

    def _check_turn(self, job: ModelJob, startable: list[ModelJob]) -> None:
        """It is the first of its level that can, or has been held back and so stands first."""
        for group in self.ready[level_of(job)]:
            if job.new.id in group:
                return
            for other in startable:
                if other.new.id in group:
                    assert self._may_overtake(job, other), f"{job} was taken before {other}"

    def _may_overtake(self, job: ModelJob, other: ModelJob) -> bool:
        alike = job.signature == other.signature
        return job.perhaps_held and (other.released or not alike)

    def _is_replay(self, worker: str, token: str, answer: Sequence[Claim]) -> bool:
        last_token, claims = self.last_claims.get(worker, ("", []))
        if token != last_token:
            return False
        held = [claim for claim in claims if self._holding(Held(claim.id, claim.fence))]
        assert [(claim.id, claim.fence, claim.worker) for claim in answer] == [
            (claim.id, claim.fence, claim.worker) for claim in held
        ]
        return True

    def recover(
        self, reaper: str, limit: int, lease: int, token: str, answer: Sequence[Claim]
    ) -> None:
        """Check what a recovery gave, and follow it."""
        self.expire()
        if self._is_replay(reaper, token, answer):
            for claim in answer:
                stop = self.jobs[claim.id].stop
                self._check_claim(claim, claim.worker, stop is not None)
            return
        ran_out = self.ran_out()
        taken = [claim.id for claim in answer]
        assert len(taken) == len(set(taken)) == min(limit, len(ran_out))
        assert set(taken) <= ran_out
        self._check_new_fences(answer)
        for claim in answer:
            job = self.jobs[claim.id]
            lost_by, job.worker = job.worker, reaper
            job.fence, job.leased_until = claim.fence, self.now + lease
            self._check_claim(claim, lost_by, job.stop is not None)
        if answer:
            self.last_claims[reaper] = (token, list(answer))

    def ran_out(self) -> set[str]:
        """Ids that may be taken over."""
        running = {id: job for id, job in self.jobs.items() if job.state == "running"}
        return {id for id, job in running.items() if job.leased_until <= self.now}

    def _check_new_fences(self, claims: Sequence[Claim]) -> None:
        fences = [claim.fence for claim in claims]
        assert len(set(fences)) == len(fences), "a fence was given twice"
        assert all(fence > self.last_fence for fence in fences), "a fence does not rise"
        self.last_fence = max([self.last_fence, *fences])

    def _check_claim(self, claim: Claim, worker: str, cancel_requested: bool) -> None:
        job = self.jobs[claim.id]
        assert claim == Claim(
            id=job.new.id,
            name=job.new.name,
            spec=job.new.spec,
            fence=job.fence,
            attempt=job.attempt,
            enqueued_ms=job.enqueued,
            ttl_ms=job.ttl,
            cancel_requested=cancel_requested,
            worker=worker,
        )

    def _holding(self, lease: Held) -> ModelJob | None:
        job = self.jobs.get(lease.id)
        if job is None or job.state != "running" or job.fence != lease.fence:
            return None
        return job

    def finish(self, settlements: Sequence[Settlement]) -> list[bool]:
        self.expire()
        released: list[str] = []
        answers: list[bool] = []
        for id, fence, outcome in settlements:
            job = self._holding(Held(id, fence))
            if job is None:
                answers.append(id in self.jobs and self.jobs[id].settled_fence == fence)
                continue
            answers.append(True)
            self._settle(job, outcome)
            if job.state == "queued":
                released.append(id)
        for id in reversed(released):
            job = self.jobs[id]
            job.released = True
            self.ready[level_of(job)].insert(0, [id])
        return answers

    def _settle(self, job: ModelJob, outcome: Outcome) -> None:
        job.settled_fence = job.fence
        job.attempt -= outcome.refund
        if outcome.state.value in ENDED:
            self._end(job, outcome.state.value, outcome.value, outcome.ttl_ms)
        elif job.stop is not None:
            self._end(job, "cancelled", job.stop, job.ttl)
        else:
            job.state, job.value, job.worker = outcome.state.value, outcome.value, ""
            if job.state in DELAYED:
                job.due = self.now + outcome.delay_ms

    def heartbeat(self, held: Sequence[Held], lease: int) -> HeartbeatAnswer:
        self.expire()
        answer = HeartbeatAnswer([], [])
        for one in held:
            job = self._holding(one)
            if job is None:
                answer.lost.append(one.id)
                continue
            job.leased_until = max(job.leased_until, self.now + lease)
            if job.stop is not None:
                answer.cancel_requested.append(one.id)
        return answer

    def leave(self, worker: str) -> None:
        self.last_claims.pop(worker, None)

    # -- time ------------------------------------------------------------------------------------

    def _delayed(self) -> list[ModelJob]:
        delayed = [job for job in self.jobs.values() if job.state in DELAYED]
        return sorted(delayed, key=lambda job: job.due)

    def _promote_due(self) -> None:
        self._promote_group_by_group([job for job in self._delayed() if job.due <= self.now])

    def _promote_group_by_group(
        self, delayed: list[ModelJob], states: States | None = None
    ) -> None:
        """By due time; with ``states``, those of them that are queued now."""
        if states is not None:
            now_there = states([job.new.id for job in delayed])
            delayed = [job for job in delayed if now_there[job.new.id] == "queued"]
            assert all(job.due <= self.now for job in delayed), "promoted before its time"
        for due in sorted({job.due for job in delayed}):
            self._promote_group([job for job in delayed if job.due == due])

    def _promote_group(self, jobs: list[ModelJob]) -> None:
        for level in LEVELS:
            ids = [job.new.id for job in jobs if level_of(job) is level]
            if ids:
                self.ready[level].append(ids)
        for job in jobs:
            job.state, job.due = "queued", 0

    def _has_expired(self, job: ModelJob) -> bool:
        expires = flow_of(job).expires_ms
        return bool(expires) and not job.fence and job.enqueued + expires <= self.now

    def _expired(self) -> list[ModelJob]:
        waiting = [job for job in self.jobs.values() if job.state in WAITING]
        return [job for job in waiting if self._has_expired(job)]

    def _follow_expired(self, states: States) -> int:
        """End those that were not started in time and have ended in the storage; how many."""
        late = self._expired()
        there = states([job.new.id for job in late])
        ended = [job for job in late if there[job.new.id] == "cancelled"]
        for job in ended:
            self._end_waiting(job, EXPIRED, 0)
        return len(ended)

    def promote(self, limit: int, states: States, answer: int | None) -> None:
        """Follow a promotion, and check what it answered."""
        self.expire()
        late = self._expired()
        due = [job for job in self._delayed() if job.due <= self.now]
        assert self._follow_expired(states) == min(limit, len(late))
        # Whether those that have ended were promoted before that is nobody's business.
        left = [job for job in due if job.state in DELAYED]
        queued = states([job.new.id for job in left])
        promoted = [job for job in left if queued[job.new.id] == "queued"]
        at_least = min(limit, len(due)) - (len(due) - len(left))
        assert at_least <= len(promoted) <= min(limit, len(left))
        assert not promoted or all(
            job.due >= promoted[-1].due for job in left if job not in promoted
        ), "promoted out of turn"
        self._promote_group_by_group(promoted)
        self._check_next(answer)

    def _check_next(self, answer: int | None) -> None:
        """Exact for what is due or expires; a rate counts for those whose turn has come."""
        waiting = [job for job in self.jobs.values() if job.state in WAITING]
        moments = [job.due for job in waiting if job.state in DELAYED]
        for job in waiting:
            expires = flow_of(job).expires_ms
            if expires and not job.fence:
                moments.append(job.enqueued + expires)
        exact = max(0, min(moments) - self.now) if moments else None
        if answer == exact:
            return
        by_rate = {
            max(0, moment - self.now)
            for job in waiting
            if job.state == "queued"
            for moment in self.rules.rate_moments(job, self.now)
        }
        assert answer in by_rate, (answer, exact, by_rate)
        assert exact is None or answer is None or answer < exact

    def reschedule(self, ids: Sequence[str], due: int) -> list[RescheduleResult]:
        self.expire()
        return [self._reschedule_one(id, due) for id in ids]

    def _reschedule_one(self, id: str, due: int) -> RescheduleResult:
        job = self.jobs.get(id)
        if job is None:
            return RescheduleResult.NOT_FOUND
        if job.state in ENDED:
            return RescheduleResult.FINISHED
        if job.state in DELAYED:
            self._make_due(job, due)
            return RescheduleResult.UPDATED
        return RescheduleResult(job.state)

    def delayed(self) -> list[StoredJob]:
        self.expire()
        jobs = [job.as_stored() for job in self._delayed()]
        return sorted(jobs, key=lambda job: (job.due_ms, job.id.encode()))

    # -- the whole queue -------------------------------------------------------------------------

    def control(self, changes: dict[str, int]) -> Control:
        now = {name: getattr(self.rules.control, name) for name in FIELDS}
        flags = {"paused", "draining"}
        now |= {name: bool(value) if name in flags else value for name, value in changes.items()}
        self.rules.control = Control(**now)
        if "low_every" in changes:
            self.rules.stood_back = 0
        return self.rules.control

    def set_limit(self, scope: LimitScope, limit: Limit | None) -> None:
        self.rules.set_limit(scope, limit)

    def check_limits(self, infos: Sequence[LimitInfo]) -> None:
        """What is said of the limits in force."""
        self.expire()
        in_force = {scope: one.limit for scope, one in self.rules.limits.items()}
        kinds = list(LimitKind)
        order = [(kinds.index(info.scope.kind), info.scope.name) for info in infos]
        assert order == sorted(order)
        assert {info.scope: info.limit for info in infos} == in_force
        running = [job for job in self.jobs.values() if job.state == "running"]
        for info in infos:
            assert info.running == self.rules.running_under(info.scope, None, running), info
            may = [job for job in self.jobs.values() if job.perhaps_held and job.state == "queued"]
            under = self.rules.running_under(info.scope, None, may)
            assert 0 <= info.held_back <= under, (info, under)

    def clear(self, limit: int, ttl: int, value: bytes, states: States) -> int:
        """Follow a clear, and say what it must have answered."""
        self.expire()
        waiting = [job for job in self.jobs.values() if job.state in WAITING]
        there = states([job.new.id for job in waiting])
        ended = [job for job in waiting if there[job.new.id] == "cancelled"]
        assert min(1, len(waiting)) <= len(ended) <= limit
        for job in ended:
            self._end_waiting(job, value, ttl)
        return len(ended)
