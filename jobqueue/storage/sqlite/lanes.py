"""Lanes: how much of a limit is used, and the jobs that it holds back.

A lane is what one limit is about: a queue, a job type, one key, or those of one ``alone``. It has
a row while it has something to say: jobs that run, starts that count, jobs that it holds back.
A job that it holds back is in no line, but has an entry in ``held``; when its lane can take it, it
goes back to the head of its line and keeps the entry (``back``) until it starts or ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple, cast

from jobqueue.flow import Limit, LimitKind, Rate, RateKind
from jobqueue.packing import pack, unpack
from jobqueue.storage import rates
from jobqueue.storage.sqlite.connection import Transaction
from jobqueue.storage.sqlite.lines import Candidate, Lines
from jobqueue.storage.sqlite.rows import (
    JobRow,
    QueueRow,
    level_and_group,
    limit_names,
    select_in,
    write_each,
)
from jobqueue.storage.types import MAX_BATCH

_ALONE: Final = "alone"
_ONE_AT_A_TIME: Final = Limit(concurrency=1)
_ANY_NUMBER: Final = 1 << 30
_BETWEEN: Final = 1 << 24
"""Places left behind each job that goes back to its line, for those of its lane that follow it."""


class LaneName(NamedTuple):
    """What a lane is about. ``kind`` is that of a limit, or :data:`_ALONE`."""

    kind: str
    name: str
    text: str


_KEY: Final = LimitKind.KEY.value
_TYPE: Final = LimitKind.TYPE.value
_QUEUE: Final = LaneName(LimitKind.QUEUE.value, "", "")


@dataclass(slots=True)
class Lane:
    """A lane's row.

    ``key`` is 0 while it has held nobody back. ``limit`` is ``None`` when none is in force any
    more. ``holds``: it may have jobs that it holds back or has let go.
    """

    name: LaneName
    limit: Limit | None
    key: int = 0
    running: int = 0
    starts: rates.RateState | None = None
    wake_ms: int | None = None
    holds: bool = False

    @property
    def rate(self) -> Rate | None:
        return None if self.limit is None else self.limit.rate

    def concurrency_left(self) -> int:
        if self.limit is None or not self.limit.concurrency:
            return _ANY_NUMBER
        return max(0, self.limit.concurrency - self.running)

    def room(self, now_ms: int) -> int:
        """How many of its jobs may start now."""
        left = self.concurrency_left()
        if self.rate is None or not left:
            return left
        return min(left, rates.free(self.rate, self._starts(self.rate), now_ms))

    def start(self, now_ms: int) -> None:
        self.running += 1
        if self.rate is not None:
            self.starts = rates.started(self.rate, self._starts(self.rate), now_ms)

    def next_start_ms(self, now_ms: int) -> int | None:
        """When time alone lets the next one start; ``None`` when it must wait for another."""
        if self.rate is None or not self.concurrency_left():
            return None
        return rates.next_start(self.rate, self._starts(self.rate), now_ms)

    def forget_ms(self) -> int:
        """From when on its starts do not count any more."""
        if not self.starts:
            return 0
        last = self.starts[-1][0] if isinstance(self.starts, list) else self.starts
        return int(last) + 1

    def _starts(self, rate: Rate) -> rates.RateState:
        return rates.nothing_started(rate) if self.starts is None else self.starts


_LANE: Final = (
    "SELECT kind, name, text, key, running, starts, wake_ms, "
    "key > 0 AND EXISTS (SELECT 1 FROM held WHERE lane = key) FROM lanes "
)


class _Fitting(NamedTuple):
    """A job that its lane lets go, in the order of these."""

    level: int
    turn: int
    key: int
    flow: bytes | None
    lane: int


class Lanes:
    """The lanes of a queue, in one transaction. Its caller saves the queue's row afterwards."""

    def __init__(self, tx: Transaction, queue: QueueRow) -> None:
        self._tx = tx
        self._queue = queue
        self._limits = {
            (kind, name): unpack_limit(body)
            for kind, name, body in tx.sql.execute(
                "SELECT kind, name, body FROM limits WHERE queue = ?", (queue.key,)
            )
        }
        self._names: dict[tuple[str, bytes | None], list[LaneName]] = {}
        self._lanes: dict[LaneName, Lane] = {}
        self._changed: dict[LaneName, Lane] = {}
        self._last_key = 0

    # -- which lanes -----------------------------------------------------------------------------

    def of_queue(self) -> Lane | None:
        """The lane of all jobs, if there is a limit on them."""
        return self._lane(_QUEUE) if (_QUEUE.kind, "") in self._limits else None

    def names(self, job_name: str, flow: bytes | None) -> list[LaneName]:
        """The lanes of a job, in the order in which they are asked."""
        found = self._names.get((job_name, flow))
        if found is None:
            found = self._names[job_name, flow] = self._find_names(job_name, flow)
        return found

    def _find_names(self, job_name: str, flow: bytes | None) -> list[LaneName]:
        found: list[LaneName] = []
        if flow is not None:
            limit, key, alone = limit_names(flow)
            if alone:
                found.append(LaneName(_ALONE, "", alone))
            if limit and (_KEY, limit) in self._limits:
                found.append(LaneName(_KEY, limit, key))
        if (_TYPE, job_name) in self._limits:
            found.append(LaneName(_TYPE, job_name, ""))
        return found

    def announce(self, jobs: Iterable[Candidate]) -> None:
        """The lanes of these jobs will be asked for."""
        self.load(name for job in jobs for name in self.names(job.name, job.flow))

    def load(self, names: Iterable[LaneName]) -> None:
        """Read lanes together, so that each is not read alone."""
        texts: dict[tuple[str, str], set[str]] = {}
        for lane in names:
            if lane not in self._lanes:
                texts.setdefault(lane[:2], set()).add(lane.text)
        for (kind, name), wanted in texts.items():
            statement = _LANE + "WHERE queue = ? AND kind = ? AND name = ? AND text IN ({})"
            for row in select_in(self._tx, statement, (self._queue.key, kind, name), wanted):
                self._keep(row)
            for text in wanted:
                lane = LaneName(kind, name, text)
                if lane not in self._lanes:
                    self._lanes[lane] = Lane(lane, self._limit(lane))

    def _lane(self, name: LaneName) -> Lane:
        if name not in self._lanes:
            self.load((name,))
        return self._lanes[name]

    def _keep(self, row: Sequence[Any]) -> Lane:
        *name, key, running, starts, wake_ms, holds = row
        lane_name = LaneName(*name)
        if lane_name not in self._lanes:
            state = None if starts is None else cast("rates.RateState", unpack(starts))
            self._lanes[lane_name] = Lane(
                lane_name, self._limit(lane_name), key, running, state, wake_ms, bool(holds)
            )
        return self._lanes[lane_name]

    def _limit(self, lane: LaneName) -> Limit | None:
        if lane.kind == _ALONE:
            return _ONE_AT_A_TIME
        return self._limits.get((lane.kind, lane.name))

    # -- jobs that start, end, and are held back -------------------------------------------------

    def refusing(self, names: Sequence[LaneName]) -> Lane | None:
        """The first of these lanes that lets no job start now."""
        for name in names:
            lane = self._lane(name)
            if not lane.room(self._tx.now_ms):
                return lane
        return None

    def start(self, names: Iterable[LaneName]) -> None:
        """A job starts that is in these lanes."""
        for name in names:
            lane = self._changed[name] = self._lane(name)
            lane.start(self._tx.now_ms)
        everything = self.of_queue()
        if everything is not None:
            everything.start(self._tx.now_ms)
            self._changed[_QUEUE] = everything

    def stop(self, rows: Iterable[JobRow]) -> None:
        """Jobs that ran do so no more."""
        everything = self.of_queue()
        stopped = [self.names(row.name, row.flow) for row in rows]
        self.load(name for names in stopped for name in names)
        for names in stopped:
            for name in names:
                lane = self._changed[name] = self._lanes[name]
                lane.running = max(0, lane.running - 1)
            if everything is not None:
                everything.running = max(0, everything.running - 1)
                self._changed[_QUEUE] = everything

    def hold_back(self, jobs: Sequence[tuple[Candidate, Lane]]) -> None:
        """Put jobs aside, each with the lane that does not let it start. One that was held back
        before, and has not started since, keeps the turn that it had."""
        for _, lane in jobs:
            self._changed[lane.name] = lane
            lane.holds = True
            lane.key = lane.key or self._new_key()
        self._touch(
            job.held_by for job, lane in jobs if job.held_by is not None and job.held_by != lane.key
        )
        write_each(
            self._tx,
            "INSERT INTO held (job, lane, back, level, turn) VALUES (?, ?, 0, ?, ?) "
            "ON CONFLICT (job) DO UPDATE SET lane = excluded.lane, back = 0",
            [
                (
                    job.key,
                    lane.key,
                    level_and_group(job.flow)[0],
                    self._queue.next_place(),
                )
                for job, lane in jobs
            ],
        )
        write_each(
            self._tx,
            "UPDATE jobs SET line = ? WHERE key = ?",
            [(-lane.key, job.key) for job, lane in jobs],
        )

    def release(self, keys: Sequence[int]) -> None:
        """Jobs start or end that lanes may have held back: those have room for others."""
        statement = "SELECT lane FROM held WHERE job IN ({})"
        self._touch({row[0] for row in select_in(self._tx, statement, (), keys)})
        write_each(self._tx, "DELETE FROM held WHERE job = ?", [(key,) for key in keys])

    def wake(self) -> None:
        """See to lanes whose time has come."""
        found = self._tx.sql.execute(
            _LANE + "WHERE queue = ? AND wake_ms <= ? ORDER BY wake_ms LIMIT ?",
            (self._queue.key, self._tx.now_ms, MAX_BATCH),
        ).fetchall()
        for row in found:
            lane = self._keep(row)
            self._changed[lane.name] = lane

    def _touch(self, keys: Iterable[int]) -> None:
        for row in select_in(self._tx, _LANE + "WHERE key > 0 AND key IN ({})", (), keys):
            lane = self._keep(row)
            self._changed[lane.name] = lane

    # -- letting go ------------------------------------------------------------------------------

    def let_go(self, lines: Lines, limit: int) -> int:
        """Of each lane that changed, send as many jobs back to their lines as may start; so many in
        all. The rest is left for the next claim.

        Returns:
            How many went back.
        """
        fitting: list[_Fitting] = []
        for lane in self._changed.values():
            if lane.holds:
                fitting += self._fitting(lane, limit - len(fitting))
        if fitting:
            self._to_lines(lines, sorted(fitting))
        self._save()
        return len(fitting)

    def _fitting(self, lane: Lane, limit: int) -> list[_Fitting]:
        """Jobs of a lane that may start, beside those that have been let go already. Notes when the
        lane is to be looked at again."""
        room = lane.room(self._tx.now_ms)
        wanted = room if lane.limit is None else max(0, room - self._let_go_before(lane, room))
        # One more, to see whether any is left.
        held = self._tx.sql.execute(
            "SELECT level, turn, job, flow FROM held JOIN jobs ON key = job "
            "WHERE lane = ? AND back = 0 ORDER BY level, turn LIMIT ?",
            (lane.key, min(wanted, limit) + 1),
        ).fetchall()
        fitting = held[: min(wanted, limit)]
        lane.wake_ms = None
        if len(held) > len(fitting):
            if wanted > limit:
                lane.wake_ms = self._tx.now_ms
            elif not room:
                lane.wake_ms = lane.next_start_ms(self._tx.now_ms)
        return [_Fitting(level, turn, key, flow, lane.key) for level, turn, key, flow in fitting]

    def _let_go_before(self, lane: Lane, at_most: int) -> int:
        return self._tx.sql.execute(
            "SELECT count(*) FROM (SELECT 1 FROM held WHERE lane = ? AND back = 1 LIMIT ?)",
            (lane.key, at_most),
        ).fetchone()[0]

    def _to_lines(self, lines: Lines, fitting: Sequence[_Fitting]) -> None:
        """To the heads of their lines, but behind those that the same lane let go before them."""
        behind: dict[tuple[int, int], int | None] = {}
        changes: list[tuple[int, int, int]] = []
        heads = self._queue.next_heads(len(fitting), _BETWEEN)
        for head, job in zip(heads, fitting, strict=True):
            line = lines.join(job.flow)
            pair = (job.lane, line)
            if pair not in behind:
                behind[pair] = self._last_let_go(job, line)
            last = behind[pair]
            if last is not None:
                last = behind[pair] = last + 1
            changes.append((line, head if last is None else last, job.key))
        lines.put(changes)
        write_each(
            self._tx, "UPDATE held SET back = 1 WHERE job = ?", [(job.key,) for job in fitting]
        )

    def _last_let_go(self, job: _Fitting, line: int) -> int | None:
        return self._tx.sql.execute(
            "SELECT max(place) FROM held JOIN jobs ON key = job WHERE lane = ? AND back = 1 "
            "AND level = ? AND turn < ? AND line = ?",
            (job.lane, job.level, job.turn, line),
        ).fetchone()[0]

    def _new_key(self) -> int:
        if not self._last_key:
            found = self._tx.sql.execute("SELECT max(key) FROM lanes WHERE key > 0").fetchone()[0]
            self._last_key = found or 0
        self._last_key += 1
        return self._last_key

    def _save(self) -> None:
        """Write the lanes that changed; those that say nothing any more need no row."""
        gone: list[tuple[object, ...]] = []
        kept: list[tuple[object, ...]] = []
        for lane in self._changed.values():
            forget_ms = lane.forget_ms()
            if lane.running or lane.holds or forget_ms > self._tx.now_ms:
                starts = None if lane.starts is None else pack(lane.starts)
                row = (lane.key, lane.running, starts, lane.wake_ms, forget_ms)
                kept.append((self._queue.key, *lane.name, *row))
            else:
                gone.append((self._queue.key, *lane.name))
                lane.key = 0
        self._changed = {}
        write_each(
            self._tx,
            "DELETE FROM lanes WHERE queue = ? AND kind = ? AND name = ? AND text = ?",
            gone,
        )
        write_each(
            self._tx,
            "INSERT OR REPLACE INTO lanes "
            "(queue, kind, name, text, key, running, starts, wake_ms, forget_ms) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            kept,
        )


def drop_idle_lanes(tx: Transaction, queue: QueueRow, limit: int) -> None:
    """Forget lanes of which nothing counts any more."""
    tx.sql.execute(
        "DELETE FROM lanes WHERE (queue, kind, name, text) IN (SELECT queue, kind, name, text "
        "FROM lanes WHERE queue = ? AND running = 0 AND forget_ms <= ? "
        "AND NOT EXISTS (SELECT 1 FROM held WHERE lane = key) LIMIT ?)",
        (queue.key, tx.now_ms, limit),
    )


def pack_limit(limit: Limit) -> bytes:
    rate = limit.rate
    fields = None if rate is None else [rate.count, rate.per_ms, rate.kind.value, rate.burst]
    return pack([limit.concurrency, fields, limit.pinned])


@lru_cache(maxsize=256)
def unpack_limit(body: bytes) -> Limit:
    concurrency, rate, pinned = unpack(body)
    if rate is not None:
        count, per_ms, kind, burst = rate
        rate = Rate(count, per_ms, RateKind(kind), burst)
    return Limit(concurrency, rate, pinned)
