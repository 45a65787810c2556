"""What became of each job, by the ledger and by what the queue says that it still holds.

The same classes for every queue. *Lost*: acknowledged, never run to its end, and the queue does not
have it any more. *Stranded*: the queue still has it as not done when nothing has happened for long.
*Repeated*: run again; justified where the run before was taken from its worker (killed, ended,
frozen), where that worker was not told within a lease that the job is done, or where the producer
sent it again because it got no answer.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from tests.chaos.ledger import Entry, Ledger
from tests.chaos.verdict import quantile

_UNSETTLED: Final = 1.0
"""Seconds after a run's end within which its worker may not yet have told the queue."""


@dataclass(slots=True)
class Run:
    """One call of a handler."""

    id: str
    process: int
    start: float
    end: float | None = None


@dataclass(kw_only=True)
class Tally:
    """One run of a scenario by one queue."""

    jobs: int
    accepted: int = 0
    refused: int = 0
    """Enqueues that raised, or gave no answer."""
    known: int = 0
    """Acknowledged with the word that the queue has the id already."""
    completed: int = 0
    lost: list[str] = field(default_factory=list)
    lost_known: int = 0
    """Lost, and acknowledged with that word."""
    stranded: list[str] = field(default_factory=list)
    stranded_unrun: int = 0
    """Stranded, and never run to the end."""
    justified: int = 0
    unjustified: list[str] = field(default_factory=list)
    resent: int = 0
    """Justified only because the producer sent the job again."""
    ended_twice: int = 0
    """Jobs that ran to their end more than once."""
    settled_twice: int = 0
    """Jobs whose end the queue accepted more than once."""
    died: int = 0
    """Worker processes that ended by themselves."""
    producers_died: int = 0
    errors: int = 0
    """Errors that the library logged."""
    recovery: list[float] = field(default_factory=list)
    """Seconds from the kill of a worker to the next run of each job that it was running, sorted."""
    examples: list[str] = field(default_factory=list)
    """How processes ended, and more, in words."""

    @property
    def good(self) -> bool:
        return not (
            self.lost or self.stranded or self.unjustified or self.died or self.producers_died
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "good": self.good,
            "jobs": self.jobs,
            "accepted": self.accepted,
            "refused": self.refused,
            "known": self.known,
            "completed": self.completed,
            "lost": len(self.lost),
            "lost_known": self.lost_known,
            "stranded": len(self.stranded),
            "stranded_unrun": self.stranded_unrun,
            "repeated_justified": self.justified,
            "repeated_unjustified": len(self.unjustified),
            "resent": self.resent,
            "ended_twice": self.ended_twice,
            "settled_twice": self.settled_twice,
            "died": self.died,
            "producers_died": self.producers_died,
            "errors_logged": self.errors,
            "recovery_p50": quantile(self.recovery, 0.5),
            "recovery_max": self.recovery[-1] if self.recovery else None,
            "examples": [
                *(f"lost: {each}" for each in self.lost[:5]),
                *(f"stranded: {each}" for each in self.stranded[:5]),
                *(f"repeated: {each}" for each in self.unjustified[:5]),
                *self.examples[:5],
            ],
        }


class Account:
    """The ledger of one run.

    Args:
        ledger: Read to its end.
        jobs: Their number; ids beyond it are not looked at.
        recovery: Seconds that are a lease for this queue.
        lease: What it was given as a lease, in seconds.
    """

    def __init__(self, ledger: Ledger, *, jobs: int, recovery: float, lease: float) -> None:
        ledger.refresh()
        self.ledger = ledger
        self.ids = {f"job-{number}" for number in range(jobs)}
        self.recovery = recovery
        self.lease = lease
        self.ends = {int(e.about): e.at for e in ledger.of("kill", "died")}
        self.kills = {int(e.about): e.at for e in ledger.of("kill")}
        self.frozen = self._frozen()
        self.sends: Counter[str] = Counter(e.about.split()[0] for e in ledger.of("refused"))
        self.told = self._told()
        self.runs = self._runs()

    @property
    def unfinished(self) -> set[str]:
        """Acknowledged, and not yet run to the end."""
        return (self.ids & self.ledger.accepted.keys()) - self.ledger.ended

    def judge(self, held: set[str]) -> Tally:
        """The verdict, given what the queue still holds."""
        ledger = self.ledger
        acknowledged = self.ids & ledger.accepted.keys()
        tally = Tally(jobs=len(self.ids), accepted=len(acknowledged))
        tally.completed = len(self.ids & ledger.ended)
        tally.refused = sum(number for id, number in self.sends.items() if id in self.ids)
        known = {entry.about for entry in ledger.of("known")}
        tally.known = len(known & self.ids)
        for id in sorted(self.unfinished - held):
            how = "; it was acknowledged as known already" if id in known else ""
            tally.lost.append(f"{id} was started {len(self.runs.get(id, ()))} times{how}")
            tally.lost_known += id in known
        tally.stranded = sorted(held & acknowledged)
        tally.stranded_unrun = len(held & self.unfinished)
        for id, runs in self.runs.items():
            self._judge_repeats(tally, id, runs)
        settled = Counter(entry.about for entry in ledger.of("settled"))
        tally.settled_twice = sum(settled[id] > 1 for id in self.ids)
        tally.recovery = sorted(self._recovery())
        tally.errors = ledger.counts["error"]
        return tally

    def _judge_repeats(self, tally: Tally, id: str, runs: list[Run]) -> None:
        sends = self.sends[id]
        for run, again in pairwise(runs):
            if self._is_justified(run, again):
                tally.justified += 1
            elif sends:
                sends -= 1
                tally.justified += 1
                tally.resent += 1
            else:
                tally.unjustified.append(f"{_worded(run)} and then {_worded(again)}")
        tally.ended_twice += sum(run.end is not None for run in runs) > 1

    def _is_justified(self, run: Run, again: Run) -> bool:
        ended_at = self.ends.get(run.process)
        last = run.end + _UNSETTLED if run.end is not None else again.start
        if ended_at is not None and run.start <= ended_at <= min(last, again.start):
            return True
        if self._was_frozen(run, last) or self._was_frozen(again, again.start):
            return True
        return again.start - run.start >= 0.9 * self.lease and self._has_lost_its_lease(run)

    def _has_lost_its_lease(self, run: Run) -> bool:
        """Whether its worker, cut off or without a processor, could not tell the end in time."""
        told = [at for at in self.told.get((run.process, run.id), ()) if at >= run.start]
        return not told or told[0] - run.start >= 0.9 * self.lease

    def _was_frozen(self, run: Run, last: float) -> bool:
        """Whether its process was frozen while it ran, or while it held the job before."""
        reach = last + self.recovery
        return any(
            first <= reach and over >= run.start - self.recovery
            for first, over in self.frozen.get(run.process, ())
        )

    def _told(self) -> dict[tuple[int, str], list[float]]:
        told: defaultdict[tuple[int, str], list[float]] = defaultdict(list)
        for entry in self.ledger.of("settled"):
            told[entry.process, entry.about].append(entry.at)
        return told

    def _frozen(self) -> dict[int, list[tuple[float, float]]]:
        thaws = {int(e.about): e.at for e in self.ledger.of("thaw")}
        frozen: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
        for entry in self.ledger.of("freeze"):
            process = int(entry.about)
            frozen[process].append((entry.at, thaws.get(process, float("inf"))))
        return frozen

    def _runs(self) -> dict[str, list[Run]]:
        runs: defaultdict[str, list[Run]] = defaultdict(list)
        open_runs: dict[tuple[int, str, int], Run] = {}
        for entry in self.ledger.of("start", "end"):
            if entry.about not in self.ids:
                continue
            key = (entry.process, entry.about, entry.attempt)
            if entry.kind == "start":
                open_runs[key] = Run(entry.about, entry.process, entry.at)
                runs[entry.about].append(open_runs[key])
            else:
                open_runs[key].end = entry.at
        return runs

    def _recovery(self) -> list[float]:
        return [
            again.start - self.kills[run.process]
            for runs in self.runs.values()
            for run, again in pairwise(runs)
            if run.end is None and run.process in self.kills
        ]

    def about(self, id: str) -> list[Entry]:
        """Everything that was noted about a job, to look into it by hand."""
        return [each for each in self.ledger.entries if each.about.split(" ")[0] == id]


def _worded(run: Run) -> str:
    end = "no end" if run.end is None else f"{run.end:.3f}"
    return f"{run.id} in {run.process} from {run.start:.3f} to {end}"
