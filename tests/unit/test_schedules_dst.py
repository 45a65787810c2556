"""Every change of clocks in 30 zones from 2020 to 2035, against the policy of ``Cron`` in words.

What is expected is found without the code under test and without its library: by looking at what
clocks show at each minute around the change.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import takewhile
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import pytest

from jobqueue.schedules.timing import Cron, next_instant

ZONES: Final = (
    *("Europe/Rome", "Europe/London", "Europe/Dublin", "Europe/Lisbon", "Europe/Athens"),
    *("Europe/Kyiv", "Europe/Chisinau", "Atlantic/Azores", "Africa/Casablanca", "Africa/Cairo"),
    *("Asia/Beirut", "Asia/Jerusalem", "Asia/Gaza", "Asia/Damascus", "Asia/Tehran"),
    *("Australia/Sydney", "Australia/Adelaide", "Australia/Lord_Howe", "Pacific/Auckland"),
    *("Pacific/Chatham", "Pacific/Norfolk", "Pacific/Fiji", "Antarctica/Troll"),
    *("America/New_York", "America/St_Johns", "America/Havana", "America/Santiago"),
    *("America/Asuncion", "America/Nuuk", "America/Mexico_City"),
)
FROM: Final = datetime(2020, 1, 1, tzinfo=UTC)
TO: Final = datetime(2036, 1, 1, tzinfo=UTC)
AROUND: Final = timedelta(hours=3)
MINUTE: Final = timedelta(minutes=1)
MIDDLES: Final = (-61, -1, 0, 1, 31)
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)


class Change(NamedTuple):
    """Clocks are set.

    Attributes:
        at: The first moment at which they show the other time.
        shown: What they show at each minute from 3 hours before to 3 hours after.
        first: The first moment at which they show that.
    """

    at: datetime
    shown: dict[datetime, datetime]
    first: dict[datetime, datetime]


@cache
def changes_of(name: str) -> list[Change]:
    zone = ZoneInfo(name)

    def offset(moment: datetime) -> timedelta | None:
        return moment.astimezone(zone).utcoffset()

    def first_other(start: datetime, step: timedelta, steps: int) -> datetime | None:
        others = (start + n * step for n in range(1, steps + 1))
        return next((moment for moment in others if offset(moment) != offset(start)), None)

    found: list[Change] = []
    days = (TO - FROM).days
    day = first_other(FROM, DAY, days)
    while day is not None:
        hour = first_other(day - DAY, HOUR, 24)
        assert hour is not None
        at = first_other(hour - HOUR, MINUTE, 60)
        assert at is not None
        moments = [at - AROUND + n * MINUTE for n in range(2 * AROUND // MINUTE + 1)]
        shown = {each: each.astimezone(zone).replace(tzinfo=None, fold=0) for each in moments}
        first = {wall: moment for moment, wall in reversed(shown.items())}
        found.append(Change(at, shown, first))
        day = first_other(day, DAY, (TO - day).days)
    return found


def test_there_are_thirty_zones_and_their_changes_are_found() -> None:
    assert len(set(ZONES)) == 30
    assert [change.at.isoformat() for change in changes_of("Europe/Rome")[:2]] == [
        "2020-03-29T01:00:00+00:00",
        "2020-10-25T01:00:00+00:00",
    ]
    assert all(changes_of(zone) for zone in ZONES)
    assert sum(len(changes_of(zone)) for zone in ZONES) > 600


class Rule(NamedTuple):
    """An expression, and what it says: minutes, hours, whether it names times of the day, and days
    of the month and months."""

    expression: str
    minutes: frozenset[int]
    hours: frozenset[int]
    names_times: bool
    days: frozenset[int] = frozenset(range(1, 32))
    months: frozenset[int] = frozenset(range(1, 13))

    def fits(self, wall: datetime) -> bool:
        return (
            wall.minute in self.minutes
            and wall.hour in self.hours
            and wall.day in self.days
            and wall.month in self.months
        )


ALL_MINUTES: Final = frozenset(range(60))
ALL_HOURS: Final = frozenset(range(24))


def rules_around(number: int, change: Change) -> Iterator[Rule]:
    """Fixed times, lists, steps and wildcards that the change matters to: the first for every
    change, the others for every third one (a zone has two a year, so each meets both kinds)."""
    yield from times_around(change)
    yield from list(wider_rules_around(change))[number % 3 :: 3]


def times_around(change: Change) -> Iterator[Rule]:
    before, after = change.shown[change.at - MINUTE] + MINUTE, change.shown[change.at]
    first, last = sorted((before, after))
    times = {
        wall + timedelta(minutes=minutes)
        for wall in (first, last)
        for minutes in (-60, -1, 0, 1, 30, 59)
    }
    for wall in sorted(times):
        minutes, hours = frozenset({wall.minute}), frozenset({wall.hour})
        yield Rule(f"{wall.minute} {wall.hour} * * *", minutes, hours, True)


def wider_rules_around(change: Change) -> Iterator[Rule]:
    before, after = change.shown[change.at - MINUTE] + MINUTE, change.shown[change.at]
    first, last = sorted((before, after))
    hour, next_hour = first.hour, (first.hour + 1) % 24
    one, two = frozenset({hour}), frozenset({hour, next_hour})
    fives, tens = frozenset(range(0, 60, 5)), frozenset(range(7, 60, 10))
    day = f"{first.day},{last.day} {first.month},{last.month}"
    days = (frozenset({first.day, last.day}), frozenset({first.month, last.month}))
    yield Rule(f"0,30 {hour},{next_hour} * * *", frozenset({0, 30}), two, True)
    yield Rule(f"7-59/10 {hour} * * *", tens, one, True)
    yield Rule(f"7/10 {hour} {day} *", tens, one, True, *days)
    yield Rule("15 0-23/2 * * *", frozenset({15}), frozenset(range(0, 24, 2)), True)
    yield Rule("*/5 * * * *", fives, ALL_HOURS, False)
    yield Rule(f"*/5 {hour} * * *", fives, one, False)
    yield Rule(f"* {next_hour} * * *", ALL_MINUTES, frozenset({next_hour}), False)
    yield Rule(f"*/5 {hour} {day} *", fives, one, False, *days)
    yield Rule("0 */2 * * *", frozenset({0}), frozenset(range(0, 24, 2)), False)
    yield Rule("15,45 */3 * * *", frozenset({15, 45}), frozenset(range(0, 24, 3)), False)
    yield Rule("30 * * * *", frozenset({30}), ALL_HOURS, False)
    yield Rule(f"30 * {day} *", frozenset({30}), ALL_HOURS, False, *days)


def expected(rule: Rule, change: Change) -> list[datetime]:
    """The moments of the rule, by what clocks show, except the first of those looked at."""
    start = next(iter(change.shown))
    if not rule.names_times:
        return [at for at, wall in change.shown.items() if rule.fits(wall) and at > start]
    wall, end = change.shown[start], change.shown[change.at + AROUND]
    moments: set[datetime] = set()
    while (wall := wall + MINUTE) <= end:
        if rule.fits(wall):
            moments.add(change.first.get(wall, change.at))  # clocks skip it
    return sorted(moments)


def ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000


@pytest.mark.parametrize("zone", ZONES)
def test_rules_around_every_change_of_the_clocks(zone: str) -> None:
    for number, change in enumerate(changes_of(zone)):
        start, end = ms(change.at - AROUND), ms(change.at + AROUND)
        for rule in rules_around(number, change):
            cron = Cron(rule.expression, tz=zone)
            wanted = [ms(moment) for moment in expected(rule, change)]
            where = f"{rule.expression} in {zone} around {change.at}"
            found = list(takewhile(end.__ge__, cron.instants(start)))
            assert found == wanted, where
            # Whoever begins in the middle finds the same.
            after = ms(change.at + MIDDLES[number % len(MIDDLES)] * MINUTE)
            following = next((at for at in wanted if at > after), None)
            if following is not None:
                assert next_instant(cron, after) == following, f"{where}, after {after}"
