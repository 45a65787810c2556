"""Who waits in which order: levels, in each the turns of groups, in each a line of jobs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from jobqueue.flow import LEVELS, Priority
from jobqueue.storage.memory.rows import Row

_LOW = LEVELS.index(Priority.LOW)


class _Line:
    """The jobs of one group in one level. ``front`` are those that came back to the head."""

    def __init__(self) -> None:
        self.front: list[Row] = []
        self.rest: OrderedDict[str, Row] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self.front or self.rest)

    def first(self) -> Row:
        return self.front[0] if self.front else next(iter(self.rest.values()))

    def to_head(self, row: Row) -> None:
        """In front of all, but for those that the same lane had called before."""
        place = 0
        if row.called_by is not None:
            for index, other in enumerate(self.front, 1):
                if other.called_by is row.called_by and other.turn < row.turn:
                    place = index
        self.front.insert(place, row)

    def remove(self, row: Row) -> None:
        if self.rest.pop(row.job.id, None) is None:
            self.front.remove(row)


class Lines:
    """All jobs that wait for a worker, but for those that a limit holds back."""

    def __init__(self) -> None:
        # In each level the groups in the order of their turns.
        self._levels = tuple(OrderedDict[str, _Line]() for _ in LEVELS)
        self._since_low = 0

    def __bool__(self) -> bool:
        return any(self._levels)

    def _line(self, row: Row) -> _Line:
        """The line of a row's group; one that was empty has its turn after all others."""
        groups = self._levels[row.level]
        line = groups.get(row.group)
        if line is None:
            line = groups[row.group] = _Line()
        return line

    def to_tail(self, row: Row) -> None:
        self._line(row).rest[row.job.id] = row

    def to_head(self, rows: Sequence[Row]) -> None:
        """Put rows in front of all others, in the order given."""
        for row in rows:
            self._line(row)
        for row in reversed(rows):
            self._line(row).to_head(row)

    def first(self, low_every: int) -> Row | None:
        """Whose turn it is. ``low_every`` as in :class:`~jobqueue.flow.Control`."""
        lows = self._levels[_LOW]
        if low_every and lows and self._since_low >= low_every - 1:
            return _first_of(lows)
        for groups in self._levels:
            if groups:
                return _first_of(groups)
        return None

    def take(self, row: Row) -> None:
        """Take the one whose turn it is; its group has its next turn after all others."""
        self.remove(row)
        groups = self._levels[row.level]
        if row.group in groups:
            groups.move_to_end(row.group)

    def remove(self, row: Row) -> None:
        groups = self._levels[row.level]
        line = groups[row.group]
        line.remove(row)
        if not line:
            del groups[row.group]

    def count_start(self, row: Row, low_every: int) -> None:
        """Note that a job has started that was taken."""
        if row.level == _LOW:
            self._since_low = 0
        elif low_every and self._levels[_LOW]:
            self._since_low += 1


def _first_of(groups: OrderedDict[str, _Line]) -> Row:
    return next(iter(groups.values())).first()
