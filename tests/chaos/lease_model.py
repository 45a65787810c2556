"""The lease protocol as a small model, searched exhaustively: every order of every step.

One job, some workers, some reapers. A call may be answered; it may run and its answer be lost, and
then it is repeated as it was; and a copy of it may be stuck on the way and arrive any time later.
Leases run out at any moment, workers and reapers die at any moment. What the storage does is what
its verbs do to one job: ``enqueue``, ``claim``, ``finish``, ``heartbeat``, ``recover``, ``leave``,
``withdraw`` and ``cancel``.

``python -m tests.chaos.lease_model`` prints the number of states.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

Fence: TypeAlias = int
"""0 for none. Only which are equal, and which is the newest, has a meaning: see :func:`_rename`."""

TERMINAL: Final = ("completed", "failed", "cancelled")
READY: Final = "ready"
OF_THE_DEAD: Final = "inbox of a dead worker"
NEW: Final = "new"
SENT: Final = "sent"
MISSED: Final = "missed"


class Stored(NamedTuple):
    """The job, as it is stored.

    Attributes:
        state: Its state; ``new`` before it is stored.
        pointer: The list in which its id stands; empty when it is in none, or in the inbox of a
            worker that lives.
        fence: Of the last claim.
        settled_fence: Of the claim before.
        attempt: Attempts charged.
        is_leased: The lease has not run out.
        ended: Terminal transitions so far.
        ended_by: The fence that made the last one.
    """

    state: str = NEW
    pointer: str = ""
    fence: Fence = 0
    settled_fence: Fence = 0
    attempt: int = 0
    is_leased: bool = False
    ended: int = 0
    ended_by: Fence = 0


class Held(NamedTuple):
    """A lease, as its holder knows it."""

    fence: Fence
    attempt: int


class Settling(NamedTuple):
    """An outcome that has not been answered. ``applied``: it did count, known to nobody."""

    fence: Fence
    outcome: str
    applied: bool = False


class Late(NamedTuple):
    """A copy of a call that is still on its way: a finish, or (without an outcome) a claim."""

    fence: Fence = 0
    outcome: str = ""
    token: int = 0


class Worker(NamedTuple):
    """One worker. Tokens: 0 is the one it uses now, 1 an older one of which a copy is on its way.

    Attributes:
        inbox: The job's id was handed over and not yet leased.
        claimed_token, claimed_fence: Its last claim, as the storage remembers it.
        run: What its handler runs.
        settling: What its settler repeats until it is answered.
        late: A copy that is on its way.
        handed: What it was handed when the job was stored, until it has taken that.
        told: The message of that: on its way (``sent``), or lost, as it knows (``missed``).
    """

    inbox: bool = False
    claimed_token: int = 0
    claimed_fence: Fence = 0
    run: Held | None = None
    settling: Settling | None = None
    late: Late | None = None
    handed: Fence = 0
    told: str = ""


class Reaper(NamedTuple):
    """One reaper.

    Attributes:
        held: What it is about to settle.
        took_fence: Its recovery, as the storage remembers it, under the token that it will use
            until all of that is settled.
    """

    held: Held | None = None
    took_fence: Fence = 0


class State(NamedTuple):
    """Everything: the storage, the workers and the reapers."""

    job: Stored
    workers: tuple[Worker, ...]
    reapers: tuple[Reaper, ...]


LEASE_ENDS: Final = "the lease runs out"


class Step(NamedTuple):
    """What may happen next. ``is_fault``: nothing may depend on it."""

    name: str
    state: State
    is_fault: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The protocol, each rule of which can be broken to see that its absence is noticed.

    Attributes:
        late_copies: Calls of workers that may be on their way for long at the same time; at most
            one of each worker.
        hands_over: A worker may be idle when the job is stored, and be handed it.
    """

    workers: int = 2
    reapers: int = 2
    max_attempts: int = 3
    late_copies: int = 0
    hands_over: bool = False
    finish_checks_fence: bool = True
    finish_checks_state: bool = True
    claim_checks_state: bool = True
    claim_charges: bool = True
    recover_draws_fence: bool = True
    reaper_counts_attempts: bool = True
    reaper_looks_at_leases: bool = True
    reaper_looks_at_inboxes: bool = True
    repeat_compares_fence: bool = True
    empty_answer_ends_a_claim: bool = True
    recover_repeats: bool = True
    withdraw_compares_fence: bool = True
    handed_job_is_taken_once: bool = True
    unheard_job_is_asked_for: bool = True


class Broken(AssertionError):
    """An invariant does not hold."""


class Model:
    """The steps of the protocol."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def first(self) -> State:
        """Before the job is stored."""
        rules = self._rules
        return State(Stored(), (Worker(),) * rules.workers, (Reaper(),) * rules.reapers)

    def steps(self, state: State) -> Iterator[Step]:
        """Everything that can happen next."""
        job = state.job
        if job.state == NEW:
            yield Step("enqueue", state._replace(job=job._replace(state="queued", pointer=READY)))
        if job.state == "retrying":
            yield Step("promote", state._replace(job=job._replace(state="queued", pointer=READY)))
        if job.state in ("queued", "retrying"):
            # Its id stays in the list, or the inbox, in which it stands.
            ended = job._replace(state="cancelled", ended=job.ended + 1)
            yield Step("cancel", state._replace(job=ended), is_fault=True)
        if job.state == "running" and job.is_leased:
            yield Step(LEASE_ENDS, state._replace(job=job._replace(is_leased=False)))
        for at in range(len(state.workers)):
            yield from self._worker_steps(state, at)
        for at in range(len(state.reapers)):
            yield from self._reaper_steps(state, at)

    # -- what a worker does ----------------------------------------------------------------------

    def _worker_steps(self, state: State, at: int) -> Iterator[Step]:
        worker = state.workers[at]
        if state.job.pointer == READY:
            handed = state._replace(job=state.job._replace(pointer=""))
            yield Step("hand over", _with(handed, at, worker._replace(inbox=True)))
        if state.job.state == NEW and self._rules.hands_over:
            yield Step("enqueue, and hand over", _handed(state, at), is_fault=True)
        if worker.handed:
            yield from self._takes(state, at)
        yield from self._claims(state, at)
        yield from self._runs(state, at)
        yield from self._finishes(state, at)
        if worker.late is not None:
            yield from self._late_arrives(state, at, worker.late)
        if worker != Worker():
            yield Step("a worker dies", _died(state, at), is_fault=True)
        if worker.claimed_fence and not (
            state.job.is_leased and state.job.fence == worker.claimed_fence
        ):
            # It is kept for longer than the lease that it names.
            forgot = worker._replace(claimed_token=0, claimed_fence=0)
            yield Step("the storage forgets a claim", _with(state, at, forgot), is_fault=True)

    def _claims(self, state: State, at: int) -> Iterator[Step]:
        claimed, got = self._claim(state, at, 0)
        heard = claimed.workers[at]
        if got is not None:
            # An older run of the job has lost its lease, and is stopped.
            heard = heard._replace(run=got)
        if got is not None or self._rules.empty_answer_ends_a_claim:
            heard = _with_new_token(heard)
        yield Step("claim", _with(claimed, at, heard))
        if claimed != state:
            yield Step("claim, answer lost", claimed, is_fault=True)
        if self._may_be_late(state):
            late = state.workers[at]._replace(late=Late())
            yield Step("claim, on its way for long", _with(state, at, late), is_fault=True)

    def _takes(self, state: State, at: int) -> Iterator[Step]:
        """What a worker makes of the job that it was handed when that was stored."""
        rules, job, worker = self._rules, state.job, state.workers[at]
        if worker.told == SENT:
            yield from self._takes_one(state, at, Held(worker.handed, 1))
            lost = worker._replace(told=MISSED)
            yield Step("the message is lost", _with(state, at, lost), is_fault=True)
        if not rules.unheard_job_is_asked_for:
            return
        if _holds(job, worker.handed if rules.withdraw_compares_fence else job.fence):
            yield from self._takes_one(state, at, Held(job.fence, job.attempt))
        elif worker.told == MISSED:
            yield Step("withdraw", _with(state, at, worker._replace(handed=0, told="")))

    def _takes_one(self, state: State, at: int, held: Held) -> Iterator[Step]:
        worker = state.workers[at]
        if self._rules.handed_job_is_taken_once:
            worker = worker._replace(handed=0, told="")
        yield Step("a handed job starts", _with(state, at, worker._replace(run=held)))
        if worker.settling is None:
            refused = worker._replace(settling=Settling(held.fence, "released"))
            yield Step("a handed job is refused", _with(state, at, refused), is_fault=True)

    def _runs(self, state: State, at: int) -> Iterator[Step]:
        worker, job = state.workers[at], state.job
        if worker.run is None:
            return
        if job.state == "running" and job.fence == worker.run.fence:
            if not job.is_leased:
                yield Step("heartbeat", state._replace(job=job._replace(is_leased=True)))
        else:
            stopped = worker._replace(run=None)
            yield Step("heartbeat: the lease is lost", _with(state, at, stopped))
        if worker.settling is None:
            for outcome in ("completed", self._after_failure(worker.run.attempt), "released"):
                settling = Settling(worker.run.fence, outcome)
                ended = worker._replace(run=None, settling=settling)
                yield Step(
                    f"the handler ends: {outcome}",
                    _with(state, at, ended),
                    # A worker that stops each time would release the job for ever.
                    is_fault=outcome == "released",
                )

    def _after_failure(self, attempt: int) -> str:
        return "retrying" if attempt < self._rules.max_attempts else "failed"

    def _finishes(self, state: State, at: int) -> Iterator[Step]:
        worker = state.workers[at]
        settling = worker.settling
        if settling is None:
            return
        finished, counts, applied = self._finish(state, settling.fence, settling.outcome)
        applied = applied or settling.applied
        if counts and not applied:
            raise Broken("an outcome was answered as if it counted, and it does not")
        yield Step(
            f"finish: {settling.outcome}", _with(finished, at, worker._replace(settling=None))
        )
        repeats = worker._replace(settling=settling._replace(applied=applied))
        yield Step("finish, answer lost", _with(finished, at, repeats), is_fault=True)
        if self._may_be_late(state):
            late = worker._replace(late=Late(settling.fence, settling.outcome))
            yield Step("finish, on its way for long", _with(state, at, late), is_fault=True)

    def _may_be_late(self, state: State) -> bool:
        return sum(worker.late is not None for worker in state.workers) < self._rules.late_copies

    def _late_arrives(self, state: State, at: int, late: Late) -> Iterator[Step]:
        without = _with(state, at, state.workers[at]._replace(late=None))
        forgot = without.workers[at]
        if forgot.claimed_token == 1:
            forgot = forgot._replace(claimed_token=0, claimed_fence=0)
        yield Step("a late copy is lost", _with(without, at, forgot))
        if not late.outcome:
            claimed, _ = self._claim(state, at, late.token)
            arrived = claimed.workers[at]._replace(late=None)
            if arrived.claimed_token == 1:  # nobody bears that token any more
                arrived = arrived._replace(claimed_token=0, claimed_fence=0)
            yield Step("a late claim arrives", _with(claimed, at, arrived), is_fault=True)
            return
        finished, _, applied = self._finish(without, late.fence, late.outcome)
        settling = finished.workers[at].settling
        if applied and settling is not None and settling.fence == late.fence:
            same = finished.workers[at]._replace(settling=settling._replace(applied=True))
            finished = _with(finished, at, same)
        yield Step("a late finish arrives", finished, is_fault=True)

    # -- what a reaper does ----------------------------------------------------------------------

    def _reaper_steps(self, state: State, at: int) -> Iterator[Step]:
        rules, job, reaper = self._rules, state.job, state.reapers[at]
        held = reaper.held
        if job.pointer == OF_THE_DEAD and rules.reaper_looks_at_inboxes:
            yield Step("forget the dead", state._replace(job=job._replace(pointer=READY)))
        if held is not None:
            retries = held.attempt < rules.max_attempts or not rules.reaper_counts_attempts
            finished, _, _ = self._finish(state, held.fence, "queued" if retries else "failed")
            yield Step("a reaper settles", _reaping(finished, at, Reaper()))
            yield Step("a reaper settles, answer lost", finished, is_fault=True)
            recovers_again = reaper._replace(held=None)
            yield Step("a reaper gives up", _reaping(state, at, recovers_again), is_fault=True)
        else:
            recovered, got = self._recover(state, at)
            heard = Reaper() if got is None else recovered.reapers[at]._replace(held=got)
            yield Step("recover", _reaping(recovered, at, heard))
            yield Step("recover, answer lost", recovered, is_fault=True)
        if reaper != Reaper():
            yield Step("a reaper dies", _reaping(state, at, Reaper()), is_fault=True)
        if reaper.took_fence and not job.is_leased:
            # It is kept for longer than the lease that it names.
            forgot = _reaping(state, at, reaper._replace(took_fence=0))
            yield Step("the storage forgets a recovery", forgot, is_fault=True)

    # -- what the storage does -------------------------------------------------------------------

    def _claim(self, state: State, at: int, token: int) -> tuple[State, Held | None]:
        job, worker = state.job, state.workers[at]
        if worker.claimed_fence and worker.claimed_token == token:
            holds = job.state == "running" and job.fence == worker.claimed_fence
            return state, Held(job.fence, job.attempt) if holds else None
        if job.pointer != READY and not worker.inbox:
            return state, None
        pointer = "" if job.pointer == READY else job.pointer
        if job.state != "queued" and self._rules.claim_checks_state:
            passed = state._replace(job=job._replace(pointer=pointer))
            return _with(passed, at, worker._replace(inbox=False)), None
        fence = _newest(state) + 1
        attempt = job.attempt + self._rules.claim_charges
        if attempt > self._rules.max_attempts:
            raise Broken(f"attempt {attempt} of {self._rules.max_attempts}")
        leased = job._replace(
            state="running",
            pointer=pointer,
            fence=fence,
            settled_fence=job.fence,
            attempt=attempt,
            is_leased=True,
        )
        named = worker._replace(inbox=False, claimed_token=token, claimed_fence=fence)
        return _with(state._replace(job=leased), at, named), Held(fence, attempt)

    def _recover(self, state: State, at: int) -> tuple[State, Held | None]:
        rules, job, reaper = self._rules, state.job, state.reapers[at]
        if reaper.took_fence:
            repeats = _holds(job, reaper.took_fence) and rules.recover_repeats
            return state, Held(job.fence, job.attempt) if repeats else None
        if job.state != "running" or job.is_leased or not rules.reaper_looks_at_leases:
            return state, None
        fence = _newest(state) + 1 if rules.recover_draws_fence else job.fence
        taken = state._replace(job=job._replace(fence=fence, is_leased=True))
        return _reaping(taken, at, Reaper(took_fence=fence)), Held(fence, job.attempt)

    def _finish(self, state: State, fence: Fence, outcome: str) -> tuple[State, bool, bool]:
        """The state after it, what it answers, and whether this call applied the outcome."""
        rules, job = self._rules, state.job
        is_held = job.fence == fence or not rules.finish_checks_fence
        if is_held and (job.state == "running" or not rules.finish_checks_state):
            return state._replace(job=_settled(job, fence, outcome)), True, True
        last = job.settled_fence if job.state == "running" else job.fence
        return state, last == fence or not rules.repeat_compares_fence, False


def _holds(job: Stored, fence: Fence) -> bool:
    return job.state == "running" and job.fence == fence


def _settled(job: Stored, fence: Fence, outcome: str) -> Stored:
    job = job._replace(is_leased=False)
    if outcome in TERMINAL:
        return job._replace(state=outcome, ended=job.ended + 1, ended_by=fence)
    if outcome == "retrying":
        return job._replace(state="retrying")
    refund = outcome == "released"
    return job._replace(state="queued", pointer=READY, attempt=job.attempt - refund)


def _with(state: State, at: int, worker: Worker) -> State:
    workers = state.workers
    return state._replace(workers=(*workers[:at], worker, *workers[at + 1 :]))


def _reaping(state: State, at: int, reaper: Reaper) -> State:
    reapers = state.reapers
    return state._replace(reapers=(*reapers[:at], reaper, *reapers[at + 1 :]))


def _with_new_token(worker: Worker) -> Worker:
    """After an answer: what bears the token so far bears an older one."""
    late = worker.late
    if late is None or late.outcome or late.token != worker.claimed_token:
        worker = worker._replace(claimed_token=0, claimed_fence=0)  # no claim will repeat that one
    else:
        worker = worker._replace(claimed_token=1)
    return worker if late is None or late.outcome else worker._replace(late=late._replace(token=1))


def _handed(state: State, at: int) -> State:
    """The job is stored as leased to this worker, and the message is on its way."""
    fence = _newest(state) + 1
    leased = state.job._replace(state="running", fence=fence, attempt=1, is_leased=True)
    worker = state.workers[at]._replace(handed=fence, told=SENT)
    return _with(state._replace(job=leased), at, worker)


def _died(state: State, at: int) -> State:
    """Another worker comes in its place, under another name; what is on its way may arrive."""
    worker, job = state.workers[at], state.job
    if worker.inbox:
        state = state._replace(job=job._replace(pointer=OF_THE_DEAD))
    late = worker.late
    return _with(state, at, Worker(late=late if late is not None and late.outcome else None))


def _fences(state: State) -> Iterator[Fence]:
    job = state.job
    yield from (job.fence, job.settled_fence, job.ended_by)
    for worker in state.workers:
        yield worker.claimed_fence
        yield worker.handed
        for holder in (worker.run, worker.settling, worker.late):
            if holder is not None:
                yield holder.fence
    for reaper in state.reapers:
        yield reaper.took_fence
        if reaper.held is not None:
            yield reaper.held.fence


def _newest(state: State) -> Fence:
    return max(_fences(state))


def _rename(state: State) -> State:
    """The same state with the smallest fences, and workers and reapers in one order.

    Fences are only compared, and a new one is larger than all; workers and reapers are alike. And
    a recovery of which nothing is held any more is as good as none: its repeat is answered empty.
    """
    state = state._replace(
        reapers=tuple(
            reaper if _holds(state.job, reaper.took_fence) else reaper._replace(took_fence=0)
            for reaper in state.reapers
        )
    )
    fences = sorted({0, *_fences(state)})
    names = {fence: name for name, fence in enumerate(fences)}
    job = state.job
    workers = [_renamed_worker(worker, names) for worker in state.workers]
    reapers = [
        Reaper(held and held._replace(fence=names[held.fence]), names[took_fence])
        for held, took_fence in state.reapers
    ]
    return State(
        job._replace(
            fence=names[job.fence],
            settled_fence=names[job.settled_fence],
            ended_by=names[job.ended_by],
        ),
        tuple(sorted(workers, key=_order)),
        tuple(sorted(reapers, key=_order)),
    )


def _renamed_worker(worker: Worker, names: dict[Fence, Fence]) -> Worker:
    if worker == _FRESH:
        return worker
    inbox, token, claimed, run, settling, late, handed, told = worker
    return Worker(
        inbox,
        token,
        names[claimed],
        run and run._replace(fence=names[run.fence]),
        settling and settling._replace(fence=names[settling.fence]),
        late and late._replace(fence=names[late.fence]),
        names[handed],
        told,
    )


_FRESH: Final = Worker()


def _order(actor: Worker | Reaper) -> tuple[object, ...]:
    return tuple(part or () if part is None or isinstance(part, tuple) else part for part in actor)


# -- the search ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search found out.

    Attributes:
        states: Different states.
        steps: Steps between them.
        depth: Steps to the farthest.
    """

    states: int
    steps: int
    depth: int


def search(rules: Rules) -> Searched:
    """Visit every state there is.

    Raises:
        Broken: An invariant does not hold; the message has the shortest way there.
    """
    model = Model(rules)
    first = _rename(model.first())
    numbers: dict[State, int] = {first: 0}
    known: dict[State, int] = {}  # by their names before they are renamed, which takes long
    came_from: list[tuple[int, str]] = [(-1, "")]
    depths = [0]
    waiting = deque([first])
    helpful: list[tuple[int, int]] = []  # steps that are no faults, backwards
    prompt: list[tuple[int, int]] = []  # those of them for which no lease must run out
    goals: list[int] = []
    in_hands: list[int] = []
    steps = 0
    while waiting:
        state = waiting.popleft()
        number = numbers[state]
        try:
            _check(state)
            if state.job.state in TERMINAL:
                goals.append(number)
            elif _is_in_hands(state):
                in_hands.append(number)
            for name, after, is_fault in model.steps(state):
                steps += 1
                if state.job.state in TERMINAL and after.job.state != state.job.state:
                    raise Broken(f"{name}: a job that has ended is {after.job.state}")
                to = known.get(after)
                if to is None:
                    renamed = _rename(after)
                    to = numbers.get(renamed)
                    if to is None:
                        to = numbers[renamed] = len(numbers)
                        came_from.append((number, name))
                        depths.append(depths[number] + 1)
                        waiting.append(renamed)
                    known[after] = to
                if not is_fault:
                    helpful.append((to, number))
                    if name != LEASE_ENDS:
                        prompt.append((to, number))
        except Broken as error:
            raise Broken(f"{error}\n{_way(came_from, number)}") from None
    _check_progress(range(len(numbers)), goals, helpful, came_from, "the job can never end")
    _check_progress(in_hands, goals, prompt, came_from, "until a lease runs out")
    return Searched(len(numbers), steps, depths[-1])


def _check(state: State) -> None:
    job = state.job
    holders: list[Fence] = [each.held.fence for each in state.reapers if each.held is not None]
    for worker in state.workers:
        if worker.run is not None:
            holders.append(worker.run.fence)
        if worker.settling is not None and not worker.settling.applied:
            holders.append(worker.settling.fence)
    if job.state == "running" and holders.count(job.fence) > 1:
        raise Broken(f"{holders.count(job.fence)} hold the valid fence")
    if job.ended != (job.state in TERMINAL):
        raise Broken(f"{job.ended} terminal transitions, and it is {job.state}")
    if job.attempt < 0:
        raise Broken("an attempt was given back twice")


def _is_in_hands(state: State) -> bool:
    """Whether somebody who lives holds the lease, even if it did not hear so yet."""
    job = state.job
    hands: set[Fence] = set()
    for worker in state.workers:
        if not worker.claimed_token:
            hands.add(worker.claimed_fence)
        hands.add(worker.handed)
        hands.update(each.fence for each in (worker.run, worker.settling) if each is not None)
    for reaper in state.reapers:
        hands.add(reaper.took_fence)
        hands.update({reaper.held.fence} if reaper.held is not None else ())
    return job.state == "running" and job.fence in hands


def _check_progress(
    starts: Iterable[int],
    goals: list[int],
    steps: list[tuple[int, int]],
    came_from: list[tuple[int, str]],
    otherwise: str,
) -> None:
    """From all these states the job can still end, without the help of any fault."""
    before: list[list[int]] = [[] for _ in came_from]
    for to, number in steps:
        before[to].append(number)
    can_end = bytearray(len(came_from))
    waiting = deque(goals)
    for goal in goals:
        can_end[goal] = 1
    while waiting:
        for number in before[waiting.popleft()]:
            if not can_end[number]:
                can_end[number] = 1
                waiting.append(number)
    for start in starts:
        if not can_end[start]:
            raise Broken(f"stuck: {otherwise}\n{_way(came_from, start)}")


def _way(came_from: list[tuple[int, str]], number: int) -> str:
    names: list[str] = []
    while number > 0:
        number, name = came_from[number]
        names.append(name)
    return "\n".join(f"  {at}. {name}" for at, name in enumerate(reversed(names), 1))


def main() -> None:
    """Search the whole protocol and say how large it is."""
    started = time.perf_counter()
    found = search(Rules())
    print(
        f"{found.states} states, {found.steps} steps, {found.depth} deep; every invariant holds "
        f"({time.perf_counter() - started:.1f} s)"
    )


if __name__ == "__main__":
    main()
