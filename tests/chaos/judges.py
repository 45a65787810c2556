"""What single scenarios demand, beyond what every verdict does, and their figures."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from jobqueue.replies import RECHECK_EVERY
from tests.chaos import clocks
from tests.chaos.ledger import Ledger
from tests.chaos.verdict import Books, Verdict, quantile

Judge: TypeAlias = Callable[[Books, Verdict], dict[str, Any]]
"""Adds to the verdict what only some scenario demands, and returns its further figures."""

BACK_WITHIN: Final = 5.0
RECOVERED_WITHIN: Final = 1.0
HANDED_AT_LEAST: Final = 0.1
"""Part of the jobs, where they come one by one. Who has just begun, or lost its connection, is
handed nothing."""
SENT_AT_LEAST: Final = 0.5
"""Part of the jobs, where each is called alone."""
ANSWERED_WITHIN: Final = 1.5 * RECHECK_EVERY + 0.5
"""A wait that is younger than half an interval when the others are looked at is looked at in the
next round."""


def undisturbed(books: Books, verdict: Verdict) -> dict[str, Any]:
    """Where no harm is done, nothing is run again, and nobody is refused."""
    if verdict.justified:
        verdict.unexpected.append(f"{verdict.justified} jobs were run again")
    nothing_surfaces(books, verdict)
    runs = books.all_runs()
    last = max((run.end or run.start for run in runs), default=0.0)
    seconds = last - min((run.start for run in runs), default=0.0)
    return {"jobs_a_second": round(len(runs) / max(seconds, 0.001))}


def server_back(books: Books, verdict: Verdict) -> dict[str, Any]:
    """After each absence of the server, work goes on soon and by itself."""
    times = sorted(books.times_back())
    if times and times[-1] > BACK_WITHIN:
        verdict.late.append(f"working again only {times[-1]:.1f} s after the server was back")
    return {"back_p50": quantile(times, 0.5), "back_max": times[-1] if times else None}


def nothing_surfaces(books: Books, verdict: Verdict) -> dict[str, Any]:
    """Nobody is refused, and nothing is warned of."""
    for entry in books.ledger.of("refused", "warning"):
        verdict.unexpected.append(f"surfaced: {entry.about}")
    return {}


def one_ending_each(books: Books, verdict: Verdict) -> dict[str, Any]:
    """Every run was settled, was told that its outcome did not count, or was stopped."""
    runs = books.all_runs()
    fates = {fate: sum(run.fate == fate for run in runs) for fate in _FATES}
    for id, of_one in books.runs.items():
        endings = sum(run.fate == "settled" for run in of_one)
        # The reaper ends what was asked to stop, and whose worker was frozen.
        if endings != 1 and not (endings == 0 and id in verdict.replaced):
            verdict.unexpected.append(f"{id} was settled {endings} times")
    if without := [run for run in runs if not run.fate]:
        verdict.unexpected.append(f"{len(without)} runs heard nothing, such as {without[0]}")
    return fates


def handed_over(books: Books, verdict: Verdict) -> dict[str, Any]:
    """A good part of the jobs was handed over, whatever was done to whom."""
    heard, fetched = _ids(books.ledger, "handed"), _ids(books.ledger, "fetched")
    if len(heard) < HANDED_AT_LEAST * verdict.jobs:
        verdict.unexpected.append(f"only {len(heard)} of {verdict.jobs} jobs were handed over")
    began = _ids(books.ledger, "start")
    accepted = books.ledger.accepted
    waits = sorted(
        run[0].start - accepted[id] for id, run in books.runs.items() if run and id in accepted
    )
    return {
        "handed": len(heard),
        "heard_of_only_when_asked": len(fetched - heard),
        "handed_and_never_begun": len((heard | fetched) - began),
        "began_p99": quantile(waits, 0.99),
        "began_max": waits[-1] if waits else None,
    }


def handed_over_in_time(books: Books, verdict: Verdict) -> dict[str, Any]:
    """And none of them waited for its lease to end, since nobody who held one died."""
    figures = handed_over(books, verdict)
    if (longest := figures["began_max"]) is not None and longest > BACK_WITHIN:
        verdict.late.append(f"a job began only {longest:.1f} s after it was accepted")
    return figures


def each_instant_once(books: Books, verdict: Verdict) -> dict[str, Any]:
    """Each instant of the schedule has its job, and there is no other one."""
    instants, jobs = books.ledger.accepted.keys(), books.runs.keys()
    verdict.unexpected += [f"{id} is the job of no instant" for id in sorted(jobs - instants)]
    return {"instants": len(instants), "jobs_run": len(jobs), "clocks": clocks.KIND}


_FATES: Final = ("settled", "unheard", "stopped")


def answered_in_time(books: Books, verdict: Verdict) -> dict[str, Any]:
    """Every call is answered, hardly later than its job has ended."""
    ended = {entry.about: entry.at for entry in books.ledger.of("end")}
    waits = sorted(
        entry.at - ended[entry.about]
        for entry in books.ledger.of("answered")
        if entry.about in ended
    )
    p99, longest = quantile(waits, 0.99), waits[-1] if waits else None
    called = len(_ids(books.ledger, "called"))
    if len(waits) != called:
        verdict.unexpected.append(f"{len(waits)} of {called} calls were answered")
    if longest is None or longest > ANSWERED_WITHIN:
        verdict.late.append(f"a call waited {longest} s longer than its job")
    return {
        "answered": len(waits),
        "extra_wait_p50": quantile(waits, 0.5),
        "extra_wait_p99": p99,
        "extra_wait_max": longest,
    }


def sent_unanswered(books: Books, verdict: Verdict) -> dict[str, Any]:
    """And a good part of them did not wait for the answer to its enqueue."""
    sent, again = _ids(books.ledger, "sent"), _ids(books.ledger, "made_sure")
    if len(sent) < SENT_AT_LEAST * verdict.jobs:
        verdict.unexpected.append(f"only {len(sent)} of {verdict.jobs} jobs were sent unanswered")
    return {"sent": len(sent), "made_sure": len(again)} | answered_in_time(books, verdict)


def refused_without_memory(books: Books, verdict: Verdict) -> dict[str, Any]:
    """Without memory, enqueues are refused and what was accepted is run; then all goes on."""
    ledger = books.ledger
    (start,), (over,) = ledger.of("oom"), ledger.of("oom_over")
    refused = [entry for entry in ledger.of("refused") if start.at < entry.at]
    if not refused:
        verdict.unexpected.append("no enqueue was refused")
    for entry in refused:
        if not entry.about.startswith("storage_unavailable: ") or "memory" not in entry.about:
            verdict.unexpected.append(f"refused otherwise: {entry.about}")
    # What was sent a moment before is answered a moment after.
    slipped = [id for id, at in ledger.accepted.items() if start.at + 0.5 < at < over.at]
    verdict.unexpected += [f"{id} was accepted without memory" for id in slipped]
    ends = {entry.about: entry.at for entry in ledger.of("end")}
    late = [
        id
        for id, at in ledger.accepted.items()
        if at <= start.at and ends.get(id, over.at) >= over.at and id not in verdict.expired
    ]
    verdict.unexpected += [f"{id} was not run without memory" for id in late]
    after = min((at for at in ledger.accepted.values() if at > over.at), default=float("inf"))
    if after - over.at > BACK_WITHIN:
        verdict.late.append(f"accepted again only after {after - over.at:.1f} s")
    return {
        "refused": len(refused),
        "ended_without_memory": sum(start.at < at < over.at for at in ends.values()),
        "back": after - over.at,
    }


def refused_without_room(books: Books, verdict: Verdict) -> dict[str, Any]:
    """What did not fit was refused, in words that help; with room again, all went on by itself."""
    ledger = books.ledger
    full, room = ledger.of("full")[0], ledger.of("room")[0]
    refused = ledger.of("refused")
    if not refused:
        verdict.unexpected.append("no enqueue was refused")
    for entry in refused:
        if not entry.about.startswith("storage_unavailable: ") or "full" not in entry.about:
            verdict.unexpected.append(f"refused otherwise: {entry.about}")
    back = min((at for at in ledger.accepted.values() if at > room.at), default=float("inf"))
    settled = min((e.at for e in ledger.of("settled") if e.at > room.at), default=float("inf"))
    for what, moment in (("accepted", back), ("settled", settled)):
        if moment - room.at > BACK_WITHIN:
            verdict.late.append(f"{what} again only after {moment - room.at:.1f} s")
    return {
        "refused": len(refused),
        "accepted_while_full": sum(full.at < at < room.at for at in ledger.accepted.values()),
        "settled_while_full": sum(full.at < e.at < room.at for e in ledger.of("settled")),
        "back": back - room.at,
        "settling_back": settled - room.at,
    }


def recovered_in_time(books: Books, verdict: Verdict) -> dict[str, Any]:
    """The jobs of killed workers run again a lease and a second later."""
    limit = books.lease + RECOVERED_WITHIN
    p99 = verdict.share(0.99)
    if p99 is None:
        verdict.unexpected.append("no killed worker had a job")
    elif p99 > limit:
        verdict.late.append(f"recovered in {p99:.2f} s at p99, not in {limit:g} s")
    return {"samples": len(verdict.recovery), "limit": limit}


def refused(*words: str) -> Judge:
    """Refusals with some of these words were met, and work went on soon after each."""

    def judge(books: Books, verdict: Verdict) -> dict[str, Any]:
        texts = [entry.about for entry in books.ledger.of("refused", "warning")]
        met = {word: sum(word in text for text in texts) for word in words}
        if not any(met.values()):
            verdict.unexpected.append("nobody was refused")
        return {"refusals": met, **server_back(books, verdict)}

    return judge


def every_call_answered(books: Books, verdict: Verdict) -> dict[str, Any]:
    """Each call has its own answer, however late."""
    called, answered = _ids(books.ledger, "called"), _ids(books.ledger, "answered")
    verdict.unexpected += [f"{id} was called and not answered" for id in called - answered]
    return {"calls": len(called), "answered": len(answered)}


def forgotten(books: Books, verdict: Verdict) -> dict[str, Any]:
    """Callers of what is gone are told soon, runs of it do not count, and new jobs work."""
    ledger = books.ledger
    called, answered = _ids(ledger, "called"), _ids(ledger, "answered")
    verdict.unexpected += [
        f"{id} was called and heard nothing" for id in called - answered - _ids(ledger, "gone")
    ]
    moments = list(zip(ledger.of("forget"), ledger.of("forgot"), strict=True))
    starts = [before.at for before, _ in moments]
    waits = [entry.at - starts[bisect_right(starts, entry.at) - 1] for entry in ledger.of("gone")]
    if max(waits, default=0.0) > ANSWERED_WITHIN:
        verdict.late.append(f"a caller was told only after {max(waits):.1f} s")
    across = [
        run
        for run in books.all_runs()
        for before, after in moments
        if run.start < before.at and run.end is not None and run.end > after.at
    ]
    verdict.unexpected += [f"{run} counts" for run in across if run.fate == "settled"]
    if not any(at > moments[-1][1].at for at in ledger.accepted.values()):
        verdict.unexpected.append("no job was accepted after the last time")
    return {
        "calls": len(called),
        "answered": len(answered),
        "told_gone": len(waits),
        "told_max": max(waits, default=None),
        "runs_refused": len(across),
        **server_back(books, verdict),
    }


def _ids(ledger: Ledger, kind: str) -> set[str]:
    return {entry.about for entry in ledger.of(kind)}
