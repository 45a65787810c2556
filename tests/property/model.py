"""What the storage port promises, as lists and dicts: written from its docstrings alone.

The model is told each call and its answer. Where the port leaves a choice (the order of jobs that
are due at the same moment, which of several leases that ran out are taken over first, the numbers
of the fences) it checks that the answer is one of those allowed, and follows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from jobqueue.outcome import Outcome
from jobqueue.states import CancelResult, EnqueueStatus, JobState, TtlResult
from jobqueue.storage.base import (
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

ENDED: Final = ("completed", "failed", "cancelled")
DELAYED: Final = ("scheduled", "retrying")


@dataclass
class ModelJob:
    """One job. ``stop`` is the value of the first request to stop it while it ran, ``cancel`` the
    token of the cancel that counts."""

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
        )


@dataclass
class Model:
    """One queue.

    Attributes:
        now: The moment; the caller moves it.
        jobs: By id. Those whose time to live is over leave with the next call.
        ready: The queue, head first. Ids in one inner list may come in any order.
        last_fence: The largest fence given out.
        last_claims: By worker or reaper: token and claims of the last one that found something.
    """

    now: int
    jobs: dict[str, ModelJob] = field(default_factory=dict)
    ready: list[list[str]] = field(default_factory=list)
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

    def check_places(self) -> None:
        """The model itself is sound: who is queued is in the queue, once."""
        places = [id for group in self.ready for id in group]
        queued = [id for id, job in self.jobs.items() if job.state == "queued"]
        assert sorted(places) == sorted(queued)

    # -- producers -------------------------------------------------------------------------------

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        self.expire()
        return [self._enqueue_one(job) for job in jobs]

    def _enqueue_one(self, new: NewJob) -> Enqueued:
        job = self.jobs.get(new.id)
        if job is not None and job.new.request == new.request:
            return Enqueued(EnqueueStatus.QUEUED, JobState(job.state), None)
        if job is None or job.state == "cancelled":
            return self._store(new, "" if job is None else job.cancel)
        if job.state == "completed":
            return Enqueued(EnqueueStatus.COMPLETED, JobState.COMPLETED, job.value)
        value = job.value if job.state == "failed" else None
        return Enqueued(EnqueueStatus.DUPLICATE, JobState(job.state), value)

    def _store(self, new: NewJob, cancel: str) -> Enqueued:
        job = ModelJob(new=new, enqueued=self.now, ttl=new.ttl_ms, cancel=cancel)
        self.jobs[new.id] = job
        due = self.now + new.delay_ms if new.delay_ms else new.due_ms
        if due > self.now:
            job.state, job.due = "scheduled", due
        else:
            self.ready.append([new.id])
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
        if job.state == "queued":
            self._take_from_queue(id)
        self._end(job, "cancelled", value, job.ttl)
        return CancelResult.CANCELLED

    def _take_from_queue(self, id: str) -> None:
        for group in self.ready:
            if id in group:
                group.remove(id)
        self.ready = [group for group in self.ready if group]

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

    def claim(self, request: ClaimRequest, answer: Sequence[Claim]) -> None:
        """Check what a claim gave, and follow it."""
        self.expire()
        if not self._is_replay(request.worker, request.token, answer):
            self._promote_due()
            waiting = sum(map(len, self.ready))
            assert len(answer) == min(request.count, waiting), "a claim takes what there is"
            for claim in answer:
                assert claim.id in self.ready[0], f"{claim.id!r} is not next in {self.ready}"
                self._take_from_queue(claim.id)
            self._check_new_fences(answer)
            for claim in answer:
                job = self.jobs[claim.id]
                job.state, job.attempt, job.worker = "running", job.attempt + 1, request.worker
                job.fence, job.started = claim.fence, self.now
                job.leased_until = self.now + request.lease_ms
            if answer:
                self.last_claims[request.worker] = (request.token, list(answer))
        for claim in answer:
            self._check_claim(claim, request.worker, False)

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
        self.ready[:0] = [[id] for id in released]
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
        while (delayed := self._delayed()) and delayed[0].due <= self.now:
            self._promote_group([job for job in delayed if job.due == delayed[0].due])

    def _promote_group(self, jobs: list[ModelJob]) -> None:
        self.ready.append([job.new.id for job in jobs])
        for job in jobs:
            job.state, job.due = "queued", 0

    def promote(self, limit: int, promoted: Callable[[list[str]], list[str]]) -> int | None:
        """Follow a promotion, and say what it must have answered.

        Args:
            limit: As it was called with.
            promoted: Asked for those of some ids, all due at one moment, that were promoted: called
                when the limit let only a part of them go.
        """
        self.expire()
        while limit and (delayed := self._delayed()) and delayed[0].due <= self.now:
            group = [job for job in delayed if job.due == delayed[0].due]
            if len(group) > limit:
                ids = promoted([job.new.id for job in group])
                assert len(ids) == limit
                group = [self.jobs[id] for id in ids]
            limit -= len(group)
            self._promote_group(group)
        delayed = self._delayed()
        return max(0, delayed[0].due - self.now) if delayed else None
