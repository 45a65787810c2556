"""What became of each job, by the ledger and by what the server holds in the end.

Five classes. *Lost*: accepted, and not completed in the end. *Duplicated*: run again although
nothing took it away from the first run; where a lease was lost, or a server lost what it had
stored, the repetition is justified. *Recovered*: completed after a run that was cut short.
*Unexpected*: everything else that must not be. *Late*: what came true, but not in time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest
from math import inf
from typing import Final

from tests.chaos.ledger import Entry, Ledger
from tests.chaos.loads import REPLACED

_UNHEARD: Final = 0.5
"""Seconds that may pass between what a server did and what a busy process wrote down."""


@dataclass
class Run:
    """One call of a handler."""

    id: str
    process: int
    attempt: int
    start: float
    end: float | None = None
    cut: float | None = None
    """When its handler was cancelled, in place of its end."""
    fate: str = ""
    """``settled``, ``unheard`` (its outcome did not count) or ``stopped`` (cancelled); empty when
    its process did not live to say so."""
    fate_at: float = 0.0


@dataclass
class Verdict:
    """What the books say."""

    jobs: int = 0
    accepted: int = 0
    completed: int = 0
    lost: list[str] = field(default_factory=list)
    excused: int = 0
    """Accepted and gone, but so shortly before a server's end that it was not promised."""
    expired: set[str] = field(default_factory=set)
    """Not started in time, as they said, and not run."""
    replaced: set[str] = field(default_factory=set)
    """Cancelled for the next job of their schedule."""
    justified: int = 0
    unjustified: list[str] = field(default_factory=list)
    recovered: int = 0
    unexpected: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    """What came true, but not within the time that is promised on a machine that has some to spare:
    judged by ``make chaos``, not by tests."""
    recovery: list[float] = field(default_factory=list)
    """Seconds from the kill of a worker to the next run of each job that it was running, sorted."""

    @property
    def good(self) -> bool:
        return not (self.lost or self.unjustified or self.unexpected)

    def share(self, part: float) -> float | None:
        """A quantile of the recovery times."""
        return quantile(self.recovery, part)


def quantile(ordered: list[float], part: float) -> float | None:
    """A quantile of sorted numbers, ``None`` if there are none."""
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else None


class Books:
    """The ledger in order, and what follows from it.

    Args:
        ledger: Read to its end.
        lease: The queue's, in seconds.
        window: Seconds before a kill of the server of which it may have kept nothing.
        cut_off: Connections were cut, so that a reaper may not have heard what it took over.
    """

    def __init__(self, ledger: Ledger, *, lease: float, window: float, cut_off: bool) -> None:
        ledger.refresh()
        self.ledger = ledger
        self.lease = lease
        self.cut_off = cut_off
        self.kills = {int(entry.about): entry.at for entry in ledger.of("kill")}
        self.downs = [entry.at for entry in ledger.of("server_down", "away")]
        self.ups = [entry.at for entry in ledger.of("server_up", "back")]
        self.forgets = [
            *((entry.at, window) for entry in ledger.of("server_down") if window),
            *((entry.at, inf) for entry in ledger.of("forgot")),
        ]
        """When a server may have forgotten something, and from how long before."""
        self.strays: list[str] = []
        self.runs = self._runs()
        self.stalled = self._moments("stalled")
        self.frozen = self._frozen()

    def _moments(self, kind: str) -> dict[str, list[float]]:
        moments: defaultdict[str, list[float]] = defaultdict(list)
        for entry in self.ledger.of(kind):
            moments[entry.about].append(entry.at)
        return moments

    def _frozen(self) -> dict[int, list[float]]:
        frozen: defaultdict[int, list[float]] = defaultdict(list)
        for entry in self.ledger.of("freeze"):
            frozen[int(entry.about)].append(entry.at)
        return frozen

    def _runs(self) -> dict[str, list[Run]]:
        runs: defaultdict[str, list[Run]] = defaultdict(list)
        for entry in self.ledger.of(
            "start", "end", "cut", "settled", "dropped", "unheard", "stopped"
        ):
            if entry.kind == "start":
                run = Run(entry.about, entry.process, entry.attempt, entry.at)
                runs[entry.about].append(run)
                continue
            found = self._run_of(entry, runs[entry.about])
            if found is None:
                # What was asked to stop before its handler began has no run.
                if not entry.about.startswith(REPLACED):
                    self.strays.append(f"{entry.kind} without a run: {entry.about}")
            elif entry.kind == "end":
                found.end = entry.at
            elif entry.kind == "cut":
                found.cut = entry.at
            else:
                found.fate = "settled" if entry.kind == "dropped" else entry.kind
                found.fate_at = entry.at
        for of_one in runs.values():
            # Not by their start: a frozen worker may start late what it had claimed before others.
            of_one.sort(key=lambda run: run.attempt)
        return runs

    @staticmethod
    def _run_of(entry: Entry, runs: list[Run]) -> Run | None:
        """The oldest run of that process which an entry can be about."""
        for run in runs:
            same = run.process == entry.process and entry.attempt in (0, run.attempt)
            if same and not run.fate and (entry.kind != "end" or run.end is None):
                return run
        return None

    def all_runs(self) -> list[Run]:
        return [run for runs in self.runs.values() for run in runs]

    # -- excuses ---------------------------------------------------------------------------------

    def forgotten(self, first: float, last: float, until: float = inf) -> bool:
        """Whether a server may have forgotten, before some moment, what it stored in between."""
        return any(first <= at <= min(last + window, until) for at, window in self.forgets)

    def is_justified(self, run: Run, again: Run) -> bool:
        """Whether a job could be run again."""
        done_at = run.fate_at if run.fate == "settled" else again.start
        if self.forgotten(run.start, done_at, again.start):
            return True
        if run.fate == "settled":
            return False
        if run.fate:  # the queue itself said to this run that its lease was lost
            return True
        if self.kills.get(run.process, again.start) < again.start:
            return True
        if any(run.start <= at <= again.start for at in self.stalled.get(run.id, ())):
            return True
        # The reaper that took it over may have ended, or not have heard its answer.
        disturbed = bool(self.frozen.get(run.process) or self.kills or self.downs or self.cut_off)
        return disturbed and again.start - run.start >= 0.9 * self.lease

    # -- the verdict -----------------------------------------------------------------------------

    def judge(self, states: dict[str, str | None]) -> Verdict:
        """The verdict, given the state in which the server holds each accepted id (or not)."""
        ledger = self.ledger
        verdict = Verdict(jobs=len(states), accepted=len(ledger.accepted))
        verdict.unexpected += self.strays
        verdict.unexpected += self._gone_without_reason()
        for id, state in states.items():
            self._judge_end(verdict, id, state)
        for id, runs in self.runs.items():
            self._judge_runs(verdict, runs)
            if len(runs) > 1 and states.get(id) == "completed":
                verdict.recovered += 1
        verdict.recovery = sorted(self._recovery())
        verdict.unexpected += [f"error: {entry.about}" for entry in ledger.of("error")]
        return verdict

    def _judge_end(self, verdict: Verdict, id: str, state: str | None) -> None:
        accepted_at = self.ledger.accepted.get(id)
        if state == "completed":
            verdict.completed += 1
            if id not in self.ledger.ended:
                verdict.unexpected.append(f"{id} is completed and was not run")
        elif state == "expired":
            verdict.expired.add(id)
            if any(not self.forgotten(run.start, run.start) for run in self.runs.get(id, ())):
                verdict.unexpected.append(f"{id} has expired and was run")
        elif state == "replaced":
            verdict.replaced.add(id)
        elif state in ("failed", "cancelled"):
            verdict.unexpected.append(f"{id} ended {state}")
        elif accepted_at is not None:
            # The server had stored it a moment before the producer could write it down.
            if self.forgotten(accepted_at - _UNHEARD, accepted_at):
                verdict.excused += 1
            else:
                verdict.lost.append(f"{id} is {state or 'gone'}")

    def _spans(self, begin: str, end: str) -> list[tuple[float, float]]:
        ledger = self.ledger
        pairs = zip_longest(ledger.of(begin), ledger.of(end))
        return [(first.at, last.at if last else inf) for first, last in pairs]

    def _gone_without_reason(self) -> list[str]:
        called = {entry.about: entry.at for entry in self.ledger.of("called")}
        # It is not known at which moment in between the server has forgotten.
        reasons = [*self._spans("forget", "forgot"), *self._spans("server_down", "server_up")]
        return [
            f"{entry.about} was not found by its caller"
            for entry in self.ledger.of("gone")
            if not any(begin <= entry.at and called[entry.about] <= end for begin, end in reasons)
        ]

    def _judge_runs(self, verdict: Verdict, runs: list[Run]) -> None:
        for run, again in pairwise(runs):
            if self.is_justified(run, again):
                verdict.justified += 1
            else:
                verdict.unjustified.append(f"{run} and then {again}")

    def _recovery(self) -> list[float]:
        """How long the jobs of killed workers took to run again."""
        waits: list[float] = []
        for runs in self.runs.values():
            for run, again in pairwise(runs):
                killed_at = self.kills.get(run.process)
                if killed_at is not None and run.end is None and not run.fate:
                    waits.append(again.start - killed_at)
        return waits

    def times_back(self) -> list[float]:
        """For each return of the server, the seconds until as much was done as is otherwise done
        in a quarter of a second."""
        ends = [entry.at for entry in self.ledger.of("end")]
        if len(ends) < 2:
            return [inf for _ in self.ups]
        down = sum(up - down for down, up in zip(self.downs, self.ups, strict=False))
        rate = len(ends) / max(0.1, ends[-1] - ends[0] - down)
        wanted = max(1, round(rate / 4))
        times: list[float] = []
        for up in self.ups:
            first = bisect_left(ends, up)
            at = first + wanted - 1
            if at < len(ends):
                times.append(ends[at] - up)
            elif first < len(ends):
                times.append(ends[-1] - up)  # there was not that much left to do
            elif max(self.ledger.accepted.values()) > up:
                times.append(inf)
        return times
