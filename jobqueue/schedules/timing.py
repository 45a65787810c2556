"""When a schedule is due: ``Cron`` and ``Every``, without a clock and without a storage.

An instant is a moment at which a schedule is due, in milliseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from itertools import count
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from jobqueue.schedules.zones import first_change, first_moment, offset_at, wall_clock
from jobqueue.values import Seconds, due_ms, to_ms

_EXAMPLE: Final = '"30 2 * * MON-FRI" (at 02:30 from Monday to Friday)'
_LONGEST: Final = 255
_SOME_DAY: Final = datetime(2000, 1, 1)
_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Cron:
    """Due when the clocks of a time zone show what an expression says.

    Five fields: minute (0-59), hour (0-23), day of the month (1-31, ``L`` for the last, ``LW`` for
    the last one from Monday to Friday), month (1-12 or ``JAN``-``DEC``), day of the week (0-7 or
    ``SUN``-``SAT``, both 0 and 7 are Sunday; ``MON#2`` for the second Monday of the month, ``5L``
    for its last Friday). With six, the first is the second (0-59). Each is ``*``, a value, a range
    ``1-5``, a step ``*/15``, ``10/15`` or ``1-31/2``, or several of these with commas. If both days
    are given and neither begins with ``*``, one of them has to fit, else both.

    What happens when clocks are set forward or back depends on the first character of the fields
    for minute and hour:

    - Neither is ``*``: the rule names times of the day. A time that clocks skip is due once, at the
      moment at which they are set forward; several skipped times are due once together (and once
      together with a time that is due then anyway). A time that clocks show twice is due the first
      time only.
    - One of them is ``*`` (``*/5 * * * *``, ``0 */2 * * *``, ``* 2 * * *``): the rule is due
      whenever clocks show what it says: twice in an hour that is repeated, never in one that is
      skipped. So ``*/5 * * * *`` is due every five minutes, whatever clocks do.

    Days, months and hours are those of the zone.

    Args:
        expression: What clocks show.
        tz: Name of the zone in the IANA database. Default: UTC.

    Raises:
        TypeError: Not text.
        ValueError: The expression cannot be read or is never due, or the zone is not known; the
            message says what is wrong.
    """

    expression: str
    _: KW_ONLY
    tz: str = "UTC"
    _names_times: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        expression = _check_expression(self.expression)
        _check_zone(self.tz)
        minute, hour = expression.split()[-5:-3]
        object.__setattr__(self, "expression", expression)
        object.__setattr__(self, "_names_times", "*" not in (minute[0], hour[0]))

    def __str__(self) -> str:
        return f"{self.expression} ({self.tz})"

    def instants(self, after_ms: int) -> Iterator[int]:
        """Those after a moment, in order: endless, or until there is none for 50 years."""
        after = datetime.fromtimestamp(after_ms // 1000, UTC)
        zone = ZoneInfo(self.tz)
        found = self._named(after, zone) if self._names_times else self._shown(after, zone)
        return (int(moment.timestamp()) * 1000 for moment in found)

    def _named(self, after: datetime, zone: ZoneInfo) -> Iterator[datetime]:
        for wall in CronSim(self.expression, wall_clock(after, zone)):
            moment = first_moment(wall, zone)
            if moment > after:
                yield moment
                after = moment

    def _shown(self, after: datetime, zone: ZoneInfo) -> Iterator[datetime]:
        # From one change of the clocks to the next, a wall clock is a moment and an offset.
        walls = CronSim(self.expression, wall_clock(after, zone))
        offset = offset_at(after, zone)
        while (wall := next(walls, None)) is not None:
            moment = (wall - offset).replace(tzinfo=UTC)
            change = first_change(after, moment, zone)
            if change is None:
                yield moment
                after = moment
            else:
                walls = CronSim(self.expression, wall_clock(change, zone) - _SECOND)
                offset = offset_at(change, zone)
                after = change


@dataclass(frozen=True, slots=True)
class Every:
    """Due at intervals of the same length, counted from ``start``: so all processes agree.

    Clocks that are set forward or back change nothing.

    Args:
        period: Seconds or ``timedelta``, at least 0.001 s.
        start: The first instant, an aware datetime. Default: 1970-01-01 in UTC, so that every 30 s
            means at second 0 and 30 of each minute.

    Raises:
        TypeError, ValueError: A value of the wrong type or out of range; the message says which.
    """

    period: Seconds
    _: KW_ONLY
    start: datetime | None = None

    def __post_init__(self) -> None:
        # In one form, so that equal ones are equal.
        period_ms = to_ms(self.period, "the period of a schedule")
        object.__setattr__(self, "period", period_ms / 1000)
        if self.start is not None:
            start_ms = due_ms(self.start, "start")
            object.__setattr__(self, "start", datetime.fromtimestamp(start_ms / 1000, UTC))

    def __str__(self) -> str:
        text = f"every {timedelta(milliseconds=self.period_ms)}"
        return text if self.start is None else f"{text} from {self.start.isoformat()}"

    @property
    def period_ms(self) -> int:
        return to_ms(self.period, "the period of a schedule")

    @property
    def start_ms(self) -> int:
        return 0 if self.start is None else due_ms(self.start, "start")

    def instants(self, after_ms: int) -> Iterator[int]:
        """Those after a moment, in order, without end."""
        start, period = self.start_ms, self.period_ms
        first = start if after_ms < start else start + ((after_ms - start) // period + 1) * period
        return count(first, period)


Timing: TypeAlias = Cron | Every


def next_instant(timing: Timing, after_ms: int) -> int:
    """The first instant after a moment; 0 if there is none any more."""
    return next(timing.instants(after_ms), 0)


def last_instant(timing: Timing, first_ms: int, until_ms: int) -> int:
    """The last instant up to a moment, when ``first_ms`` is one of those before.

    Costs some 30 looks at the rule, however many instants lie in between.
    """
    # The largest moment after which there is still one.
    low, high = first_ms - 1, until_ms
    while high - low > 1:
        middle = (low + high) // 2
        if 0 < next_instant(timing, middle) <= until_ms:
            low = middle
        else:
            high = middle
    return next_instant(timing, low)


def _check_expression(expression: object) -> str:
    if not isinstance(expression, str):
        raise TypeError(f"a cron expression must be text such as {_EXAMPLE}, not {expression!r}")
    given = " ".join(expression.split())
    fields = len(given.split())
    fault = ""
    if fields not in (5, 6):
        fault = f"it has {fields} field{'' if fields == 1 else 's'}"
    elif len(given) > _LONGEST:
        fault = f"it is longer than {_LONGEST} characters"
    else:
        try:
            if next(CronSim(given, _SOME_DAY), None) is None:
                fault = "it is never due"
        except CronSimError as error:
            fault = f"{str(error)[:1].lower()}{str(error)[1:]}"
    if fault:
        raise ValueError(
            f"{expression!r:.300} is no cron expression that can be used: {fault}; it needs "
            f"minute, hour, day of the month, month and day of the week, for example {_EXAMPLE}"
        )
    return given


def _check_zone(tz: object) -> None:
    if not isinstance(tz, str):
        raise TypeError(f"tz must be the name of a time zone such as 'Europe/Rome', not {tz!r}")
    try:
        ZoneInfo(tz)
    except (KeyError, ValueError, OSError):
        close = get_close_matches(tz, available_timezones(), n=1)
        hint = close[0] if close else "Europe/Rome"
        raise ValueError(
            f"{tz!r:.300} is no known time zone; use a name of the IANA database, such as {hint!r}"
        ) from None
