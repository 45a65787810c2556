"""The schedules of a queue."""

from __future__ import annotations

from collections.abc import Sequence

from jobqueue.flow import Schedules, StoredSchedule


class ScheduleBook:
    """Schedules by id."""

    def __init__(self) -> None:
        self._schedules: dict[str, StoredSchedule] = {}

    def find(self, ids: Sequence[str] | None, due: int, now: int) -> Schedules:
        """As :meth:`~jobqueue.storage.base.Storage.schedules` says."""
        by_time = sorted(
            (one for one in self._schedules.values() if one.next_ms),
            key=lambda one: (one.next_ms, one.id),
        )
        if ids is not None:
            found = [self._schedules[id] for id in ids if id in self._schedules]
        elif due:
            found = [one for one in by_time if one.next_ms <= now][:due]
        else:
            found = sorted(self._schedules.values(), key=lambda one: one.id)
        return Schedules(now, max(by_time[0].next_ms, now) if by_time else 0, found)

    def put(self, schedule: StoredSchedule) -> bool | None:
        """Store it if it follows the one that is there; ``None`` if it is that one already."""
        there = self._schedules.get(schedule.id)
        version, token = (0, "") if there is None else (there.version, there.token)
        if (version, token) == (schedule.version, schedule.token):
            return None
        if version != schedule.version - 1:
            return False
        self._schedules[schedule.id] = schedule
        return True

    def delete(self, id: str) -> bool:
        return self._schedules.pop(id, None) is not None
