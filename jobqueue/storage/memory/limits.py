"""The limits of a queue: what runs under each, what each holds back, and what may go on."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Final, NamedTuple

from jobqueue.flow import Limit, LimitInfo, LimitKind, LimitScope
from jobqueue.storage.memory.rows import Row
from jobqueue.storage.rates import RateState, free, next_start, nothing_started, started

_ALONE: Final = Limit(concurrency=1)
_KINDS: Final = tuple(LimitKind)
_QUEUE: Final = LimitScope(LimitKind.QUEUE)


class _LaneKey(NamedTuple):
    """The jobs that one count is about. ``scope`` is ``None`` for those that run alone."""

    scope: LimitScope | None
    key: str = ""


class Lane:
    """What one limit knows of the jobs that it counts together.

    Attributes:
        running: How many run.
        held: Those that wait here, in the order in which they will go on.
        called: How many it has put back in their lines that have not started since.
    """

    def __init__(self, limit: Limit) -> None:
        self.running = 0
        self.held: list[tuple[int, int, Row]] = []
        self.called = 0
        self.change(limit)

    def change(self, limit: Limit) -> None:
        """From now on this holds; past starts do not count."""
        self.limit = limit
        self._starts: RateState = nothing_started(limit.rate) if limit.rate else 0.0

    def free(self, now: int) -> int | None:
        """How many may start now; ``None`` for any number."""
        concurrency, rate, _ = self.limit
        slots = max(0, concurrency - self.running) if concurrency else None
        if rate is None:
            return slots
        starts = free(rate, self._starts, now)
        return starts if slots is None else min(slots, starts)

    def next_start(self, now: int) -> int | None:
        """When one more may start, if only the rate is against it now; else ``None``."""
        concurrency, rate, _ = self.limit
        if rate is None or (concurrency and self.running >= concurrency):
            return None
        moment = next_start(rate, self._starts, now)
        return moment if moment > now else None

    def start(self, now: int) -> None:
        self.running += 1
        if self.limit.rate is not None:
            self._starts = started(self.limit.rate, self._starts, now)

    def is_idle(self, now: int) -> bool:
        """Nothing would be lost with it."""
        if self.running or self.held or self.called:
            return False
        rate = self.limit.rate
        return rate is None or free(rate, self._starts, now) == free(
            rate, nothing_started(rate), now
        )


class Limits:
    """The limits that are in force, and the lanes of each.

    A job is under at most three lanes: of its ``alone``, of its key and of its type. The limit of
    the whole queue has a lane too, in which nobody waits.
    """

    def __init__(self) -> None:
        self._limits: dict[LimitScope, Limit] = {}
        self._lanes: dict[_LaneKey, Lane] = {}
        self._turns = count(1)
        # Lanes to look at when somebody may go on: something has changed, or a time may have come.
        self._asked: dict[Lane, None] = {}

    # -- lanes -----------------------------------------------------------------------------------

    def _keys(self, row: Row) -> Iterator[tuple[_LaneKey, Limit]]:
        """The lanes of a job, in the order in which they are asked, and the limit of each."""
        flow = row.job.flow
        if flow is not None:
            if flow.alone:
                yield _LaneKey(None, flow.alone), _ALONE
            if flow.limit:
                scope = LimitScope(LimitKind.KEY, flow.limit)
                if scope in self._limits:
                    yield _LaneKey(scope, flow.key), self._limits[scope]
        if self._limits:
            scope = LimitScope(LimitKind.TYPE, row.job.name)
            if scope in self._limits:
                yield _LaneKey(scope), self._limits[scope]

    def _lanes_of(self, row: Row) -> list[Lane]:
        if row.job.flow is None and not self._limits:
            return []
        return [self._lane(key, limit) for key, limit in self._keys(row)]

    def _lane(self, key: _LaneKey, limit: Limit) -> Lane:
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(limit)
        return lane

    def _whole(self) -> Lane | None:
        """The lane of the whole queue, if that has a limit."""
        limit = self._limits.get(_QUEUE) if self._limits else None
        return None if limit is None else self._lane(_LaneKey(_QUEUE), limit)

    @property
    def in_force(self) -> bool:
        """Whether there are any (``alone`` apart)."""
        return bool(self._limits)

    # -- starting and ending ---------------------------------------------------------------------

    def room(self, now: int, wanted: int) -> int:
        """How many of so many the limit of the whole queue lets start."""
        whole = self._whole()
        room = None if whole is None else whole.free(now)
        return wanted if room is None else min(wanted, room)

    def who_refuses(self, row: Row, now: int) -> Lane | None:
        """The first of the job's own limits that does not let it start, if one does."""
        return next((lane for lane in self._lanes_of(row) if lane.free(now) == 0), None)

    def start(self, row: Row, now: int) -> None:
        """A job has been taken and starts."""
        self.leave(row)
        row.turn = 0
        for lane in self._lanes_of(row):
            lane.start(now)
        whole = self._whole()
        if whole is not None:
            whole.start(now)

    def end(self, row: Row) -> None:
        """A job no longer runs."""
        for lane in self._lanes_of(row):
            lane.running -= 1
            self._asked[lane] = None
        whole = self._whole()
        if whole is not None:
            whole.running -= 1

    # -- holding back ----------------------------------------------------------------------------

    def hold(self, row: Row, lane: Lane) -> None:
        """A job that has left its line waits with this lane."""
        self.leave(row)
        row.turn = row.turn or next(self._turns)
        row.held_by = lane
        insort(lane.held, (row.level, row.turn, row))
        if lane.limit.rate is not None:
            self._asked[lane] = None

    def leave(self, row: Row) -> None:
        """A job waits no longer, or elsewhere."""
        if row.called_by is not None:
            row.called_by.called -= 1
            self._asked[row.called_by] = None
            row.called_by = None
        if row.held_by is not None:
            row.held_by.held.remove((row.level, row.turn, row))
            row.held_by = None

    def call(self, now: int) -> list[Row]:
        """Those that may go back to the heads of their lines, in order."""
        called: list[tuple[int, int, Row]] = []
        for lane in self._asked:
            room = lane.free(now)
            count = len(lane.held) if room is None else max(0, room - lane.called)
            called += lane.held[:count]
            for _, _, row in lane.held[:count]:
                row.held_by, row.called_by = None, lane
                lane.called += 1
            del lane.held[:count]
        # The others are asked when something has happened to them. These wait for a time.
        self._asked = {lane: None for lane in self._asked if lane.held and lane.limit.rate}
        return _in_order(called)

    def next_start(self, now: int, *, waiting: bool) -> int | None:
        """When a rate will let a job start; ``waiting``: somebody waits in a line."""
        lanes = [lane for lane in self._asked if lane.held and not lane.called]
        whole = self._whole()
        if whole is not None and waiting:
            lanes.append(whole)
        moments = [lane.next_start(now) for lane in lanes]
        return min((moment for moment in moments if moment is not None), default=None)

    def tidy(self, now: int) -> None:
        """Forget the lanes that say nothing."""
        for key in [key for key, lane in self._lanes.items() if lane.is_idle(now)]:
            del self._lanes[key]

    # -- changing and reading --------------------------------------------------------------------

    def set(self, scope: LimitScope, limit: Limit | None, running: Sequence[Row]) -> list[Row]:
        """Change a limit; those that one held back that has ended may go back to their lines."""
        old = self._limits.pop(scope, None)
        if limit is None:
            return self._end_limit(scope)
        self._limits[scope] = limit
        if old is None:
            self._count(scope, limit, running)
        elif old[:2] != limit[:2]:
            for lane in self._lanes_under(scope):
                lane.change(limit)
                self._asked[lane] = None
        return []

    def _end_limit(self, scope: LimitScope) -> list[Row]:
        freed: list[tuple[int, int, Row]] = []
        for key in [key for key in self._lanes if key.scope == scope]:
            lane = self._lanes.pop(key)
            self._asked.pop(lane, None)
            freed += lane.held
            for _, _, row in lane.held:
                # Behind those that it had called before.
                row.held_by, row.called_by = None, lane
                lane.called += 1
            lane.held = []
        return _in_order(freed)

    def _count(self, scope: LimitScope, limit: Limit, running: Sequence[Row]) -> None:
        if scope == _QUEUE:
            self._lane(_LaneKey(_QUEUE), limit).running = len(running)
            return
        for row in running:
            for key, _ in self._keys(row):
                if key.scope == scope:
                    self._lane(key, limit).running += 1

    def _lanes_under(self, scope: LimitScope) -> list[Lane]:
        return [lane for key, lane in self._lanes.items() if key.scope == scope]

    def infos(self) -> list[LimitInfo]:
        """What is said of each limit, by kind and name."""
        infos: list[LimitInfo] = []
        for scope in sorted(self._limits, key=lambda scope: (_KINDS.index(scope.kind), scope.name)):
            lanes = self._lanes_under(scope)
            running = sum(lane.running for lane in lanes)
            held_back = sum(len(lane.held) for lane in lanes)
            infos.append(LimitInfo(scope, self._limits[scope], running, held_back))
        return infos


def _in_order(held: list[tuple[int, int, Row]]) -> list[Row]:
    return [row for _, _, row in sorted(held, key=lambda entry: entry[:2])]
