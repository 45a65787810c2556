"""Wall clocks and moments: what a time of day means in a zone whose offset changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


def wall_clock(moment: datetime, zone: ZoneInfo) -> datetime:
    """What clocks in the zone show at a moment: a datetime without a zone."""
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def offset_at(moment: datetime, zone: ZoneInfo) -> timedelta:
    """How far clocks in the zone are ahead of UTC at a moment."""
    return wall_clock(moment, zone) - moment.replace(tzinfo=None)


def first_change(start: datetime, end: datetime, zone: ZoneInfo) -> datetime | None:
    """The first moment after ``start``, up to ``end``, at which clocks are set forward or back.

    To the second. Costs a step for each day in between.
    """
    offset = offset_at(start, zone)
    while start < end:
        later = min(start + _DAY, end)
        if offset_at(later, zone) != offset:
            while later - start > _SECOND:
                middle = start + timedelta(seconds=(later - start) // _SECOND // 2)
                if offset_at(middle, zone) == offset:
                    start = middle
                else:
                    later = middle
            return later
        start = later
    return None


def first_moment(wall: datetime, zone: ZoneInfo) -> datetime:
    """The first moment at which clocks show ``wall``; where they skip it, the one at which they
    are set forward."""
    local = wall.replace(tzinfo=zone)
    moment = local.astimezone(UTC)
    if wall_clock(moment, zone) == wall:
        return moment
    # By the offset after the change, the moment lies before it; by the one before it, after it.
    change = first_change(local.replace(fold=1).astimezone(UTC), moment, zone)
    assert change is not None
    return change
