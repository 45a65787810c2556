"""What time and flow promise, held against the ledger and what the storage holds in the end.

A ledger says when handlers ran, by the clock of this machine; the storage says when it gave each
job away last and when it heard of its end, by its own. What of the two is exact is used.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from math import inf
from typing import Any, Final, TypeAlias

from jobqueue.flow import LimitInfo
from jobqueue.outcome import EXPIRED_REASON, decode_error
from jobqueue.schedules.firing import job_id as scheduled_id
from jobqueue.states import JobState
from jobqueue.storage.types import StoredJob
from jobqueue.values import to_ms
from tests.chaos.director import DOOMED
from tests.chaos.loads import CUSTOMER, LOADS, RATED, REPLACED, SCHEDULES, Said
from tests.chaos.pace import pace_of
from tests.chaos.verdict import Books, Run, Verdict

Stored: TypeAlias = Mapping[str, StoredJob | None]
"""By id, all jobs that anybody has spoken of; ``None`` for one that the storage does not know."""

WINDOW_MS: Final = 5_000
"""A time in which the starts under a rate are counted, wherever it begins."""
TOLERANCE: Final = 0.02


def state_of(job: StoredJob | None) -> str | None:
    """The state of a job, with ``expired`` and ``replaced`` as two more."""
    if job is None:
        return None
    if job.state is JobState.CANCELLED:
        if decode_error(job.value).reason == EXPIRED_REASON:
            return "expired"
        if job.id.startswith(REPLACED):
            return "replaced"
    return str(job.state)


class Promises:
    """What was promised to the jobs of one run.

    Args:
        books: Of the run.
        stored: What the storage holds.
        load: Name of the load.
    """

    def __init__(self, books: Books, stored: Stored, load: str) -> None:
        self._books = books
        self._jobs = {id: job for id, job in stored.items() if job is not None}
        self._stored = stored
        self._load = LOADS[load]
        self._declared = [entry.at for entry in books.ledger.of("declared")]
        self._hurried = {entry.about for entry in books.ledger.of("hurried")}

    def judge(self, verdict: Verdict) -> dict[str, Any]:
        """Add what was broken to the verdict; further figures."""
        verdict.unexpected += self._expired_wrongly()
        verdict.unexpected += self._started_wrongly()
        verdict.lost += self._merged_and_lost()
        verdict.unexpected += self._two_at_once()
        if not self._books.forgets:  # else what limits had counted may be forgotten too
            verdict.unexpected += self._two_at_once_by_storage()
            verdict.unexpected += self._too_many_in_a_time()
        instants = sum(self._instants(verdict, name) for name in self._load.schedules)
        figures: dict[str, Any] = {
            "expired": len(verdict.expired),
            "merged": len(self._books.ledger.merged),
            "replaced": len(verdict.replaced),
            "instants": instants,
        }
        return figures | (self._paces(verdict) if self._load.is_at_its_rate else {})

    # -- expiry, and when jobs start -------------------------------------------------------------

    def _expired_wrongly(self) -> Iterator[str]:
        for id, job in self._jobs.items():
            expires_ms = 0 if job.flow is None else job.flow.expires_ms
            by_ms = job.enqueued_ms + expires_ms
            state = state_of(job)
            if state == "expired" and not expires_ms:
                yield f"{id} has expired, though it never should"
            elif state == "expired" and job.finished_ms < by_ms:
                yield f"{id} has expired {by_ms - job.finished_ms} ms too early"
            elif expires_ms and job.attempt == 1 and job.started_ms >= by_ms:
                yield f"{id} was started {job.started_ms - by_ms} ms after it had expired"
            # Nobody could start it, unless the pause had been forgotten.
            is_doomed = id.startswith(DOOMED) and not self._books.forgets
            if is_doomed and id in self._books.ledger.accepted and state != "expired":
                yield f"{id} is {state}, and was to expire during a pause"

    def _started_wrongly(self) -> Iterator[str]:
        for id, job in self._jobs.items():
            if not id.startswith("job-") or id in self._hurried or job.attempt != 1:
                continue
            delay_ms = round(1000 * self._said(id).options.get("delay", 0))
            if job.started_ms and job.started_ms < job.enqueued_ms + delay_ms:
                early = job.enqueued_ms + delay_ms - job.started_ms
                yield f"{id} was started {early} ms before its time"

    def _said(self, id: str) -> Said:
        return self._load.say(int(id.removeprefix("job-")))

    # -- uniqueness ------------------------------------------------------------------------------

    def _merged_and_lost(self) -> Iterator[str]:
        for id, (other, at) in self._books.ledger.merged.items():
            state = state_of(self._stored.get(other))
            if state != "completed" and not self._books.forgotten(at - 0.5, at):
                yield f"{other} is {state or 'gone'}, and stands for {id}"

    # -- limits ----------------------------------------------------------------------------------

    def _lanes(self) -> dict[str, list[str]]:
        """Ids of jobs of which one at a time may run."""
        lanes: defaultdict[str, list[str]] = defaultdict(list)
        for id, job in self._jobs.items():
            if job.flow is not None and job.flow.limit == CUSTOMER:
                lanes[f"customer {job.flow.key}"].append(id)
            if job.flow is not None and job.flow.alone:
                lanes[f"alone {job.flow.alone}"].append(id)
        return lanes

    def _two_at_once(self) -> Iterator[str]:
        """By the ledger: two handlers at the same time, though the first one's lease was not
        lost, nor the second one's."""
        books = self._books
        for lane, ids in self._lanes().items():
            runs = sorted((r for id in ids for r in books.runs.get(id, ())), key=lambda r: r.start)
            going_on: list[Run] = []
            for run in runs:
                going_on = [each for each in going_on if self._over(each) > run.start]
                for other in going_on:
                    if other.id != run.id and not self._may_overlap(other, run):
                        yield f"two of {lane} at once: {other} and {run}"
                going_on.append(run)

    def _over(self, run: Run) -> float:
        over = run.end if run.end is not None else run.cut
        return self._books.kills.get(run.process, inf) if over is None else over

    def _may_overlap(self, first: Run, second: Run) -> bool:
        books = self._books
        if books.is_justified(first, second) or self._has_lost_lease(second):
            return True
        # A server that has forgotten its limits holds nobody back until they are in force again.
        forgotten_at = max((at for at, _ in books.forgets if at <= second.start), default=None)
        return forgotten_at is not None and not any(
            forgotten_at < at <= first.start for at in self._declared
        )

    def _has_lost_lease(self, run: Run) -> bool:
        """Whether what a run did was nobody's business any more: a frozen worker may begin with
        what others have been given meanwhile."""
        if run.fate in ("unheard", "stopped"):
            return True
        return not run.fate and (run.process in self._books.kills or self._is_stalled(run))

    def _is_stalled(self, run: Run) -> bool:
        return any(
            entry.about == run.id and entry.attempt == run.attempt
            for entry in self._books.ledger.of("stalled")
        )

    def _two_at_once_by_storage(self) -> Iterator[str]:
        """By the storage's clock, from the last start of each job to its end: without an excuse."""
        for lane, ids in self._lanes().items():
            jobs = [job for id in ids if (job := self._jobs[id]).started_ms and job.finished_ms]
            jobs.sort(key=lambda job: (job.started_ms, job.finished_ms))
            for job, following in pairwise(jobs):
                if following.started_ms < job.finished_ms:
                    yield (
                        f"two of {lane} at once by the storage: {following.id} was started at "
                        f"{following.started_ms}, {job.id} ended at {job.finished_ms}"
                    )

    def _too_many_in_a_time(self) -> Iterator[str]:
        limit = self._load.by_type.get(RATED)
        if limit is None or limit.rate is None or limit.rate.kind != "sliding":
            return
        # Of a job that was run again only the last start is known: that hides, and adds nothing.
        starts = self._starts_by_storage()
        count, per_ms = limit.rate.count, to_ms(limit.rate.per, "per")
        for first, last in zip(starts, starts[count:], strict=False):
            if last - first < per_ms:
                yield f"{count + 1} jobs were started within {last - first} ms, from {first} on"

    def _starts_by_storage(self) -> list[int]:
        """When jobs under the rate were started."""
        jobs = self._jobs.values()
        return sorted(job.started_ms for job in jobs if job.name == RATED and job.started_ms)

    def _paces(self, verdict: Verdict) -> dict[str, Any]:
        """Starts in any five seconds, by the storage's clock and by the ledger."""
        by_ledger = [1000 * entry.at for entry in self._books.ledger.of("start")]
        figures = {"seconds": (by_ledger[-1] - by_ledger[0]) / 1000}
        for what, starts in (("storage", self._starts_by_storage()), ("ledger", by_ledger)):
            figures |= self._pace(verdict, what, starts)
        return figures

    def _pace(self, verdict: Verdict, what: str, starts: Sequence[float]) -> dict[str, Any]:
        rate = self._load.by_type[RATED].rate
        assert rate is not None
        found = pace_of(starts, WINDOW_MS)
        if found is None:
            return {}
        wanted = rate.count * WINDOW_MS / to_ms(rate.per, "per")
        in_words = f"{found.least} to {found.most} starts in 5 s by the {what}, not {wanted:g}"
        # A handler that begins late is noted late, and then there are more for some time.
        if found.most > (1 + TOLERANCE) * wanted:
            (verdict.unexpected if what == "storage" else verdict.late).append(in_words)
        elif found.least < (1 - TOLERANCE) * wanted:
            verdict.late.append(in_words)
        return {f"least_by_{what}": found.least, f"most_by_{what}": found.most}

    # -- schedules -------------------------------------------------------------------------------

    def _instants(self, verdict: Verdict, name: str) -> int:
        """Of one schedule: how many were fired. That each ran once is seen as with all jobs."""
        schedule = SCHEDULES[name]
        seen = [id for id in {*self._books.runs, *self._jobs} if id.startswith(f"{name}@")]
        if not seen:
            verdict.unexpected.append(f"schedule {name!r} was never fired")
            return 0
        period_ms = round(1000 * schedule.period)
        moments = sorted(map(_instant_of, seen))
        for id in seen:
            state = state_of(self._jobs.get(id))
            if state not in ("completed", "replaced") and not self._books.forgets:
                verdict.lost.append(f"{id} is {state or 'gone'}")
        if schedule.is_whole and not self._books.forgets:
            missing = set(range(moments[0], moments[-1] + 1, period_ms)) - set(moments)
            verdict.lost += [f"{scheduled_id(name, at)} was never fired" for at in sorted(missing)]
        return len(seen)


def _instant_of(id: str) -> int:
    """The moment for which a schedule made this job."""
    moment = datetime.fromisoformat(id.partition("@")[2]).astimezone(UTC)
    return round(moment.timestamp() * 1000)


def left_under_limits(limits: Iterable[LimitInfo]) -> Iterator[str]:
    """What is held back, or counted as running, when nothing waits and nothing runs."""
    for info in limits:
        if info.running or info.held_back:
            kind, name = info.scope
            yield f"limit of {kind} {name!r}: {info.running} run, {info.held_back} are held back"
