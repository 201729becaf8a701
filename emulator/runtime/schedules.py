"""Schedule expressions of EventBridge: when a ``cron(…)`` or ``rate(…)`` is due.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html
"""

import calendar
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

MONTHS = {name.upper(): number for number, name in enumerate(calendar.month_abbr) if name}
WEEKDAYS = {name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"), 1)}
CRON = re.compile(r"cron\((\S+) (\S+) (\S+) (\S+) (\S+) (\S+)\)")
RATE = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")


def is_due(expression: str, since: datetime, moment: datetime) -> bool:
    """Whether a schedule is due in the minute of ``moment`` (UTC); a rate counts from ``since``.

    Raises ValueError for an expression that EventBridge would refuse, or whose ``W`` is not known here.
    """
    rate = RATE.fullmatch(expression)
    if rate:
        minutes = int(timedelta(**{f"{rate[2]}s": int(rate[1])}).total_seconds() // 60)
        elapsed = int((moment - since).total_seconds() // 60)
        return elapsed > 0 and elapsed % minutes == 0
    cron = CRON.fullmatch(expression)
    if not cron:
        raise ValueError(f"'{expression}' is no schedule expression")
    minute, hour, day, month, weekday, year = cron.groups()
    return (
        _matches(minute, moment.minute, 0)
        and _matches(hour, moment.hour, 0)
        and _matches(month, moment.month, 1, MONTHS)
        and _matches(year, moment.year, 1970)
        and (day == "?" or _day_matches(day, moment))
        and (weekday == "?" or _weekday_matches(weekday, moment))
    )


def _day_matches(field: str, moment: datetime) -> bool:
    last = calendar.monthrange(moment.year, moment.month)[1]
    return _matches(field, moment.day, 1, special=lambda part: last if part == "L" else None)


def _weekday_matches(field: str, moment: datetime) -> bool:
    """``6``, ``MON-FRI``, ``5L`` (the last Thursday), ``2#1`` (the first Monday)."""
    weekday = moment.isoweekday() % 7 + 1
    last_week = moment.day + 7 > calendar.monthrange(moment.year, moment.month)[1]
    week = (moment.day - 1) // 7 + 1

    def special(part: str) -> int | None:
        if part.endswith("L"):
            return _number(part[:-1] or "7", WEEKDAYS) if last_week or part == "L" else -1
        if "#" in part:
            day, number = part.split("#")
            return _number(day, WEEKDAYS) if int(number) == week else -1
        return None

    return _matches(field, weekday, 1, WEEKDAYS, special)


def _matches(
    field: str,
    value: int,
    first: int,
    names: Mapping[str, int] | None = None,
    special: Callable[[str], int | None] = lambda part: None,
) -> bool:
    """Whether a value is in a field such as ``0/15``, ``1-5,9`` or ``*``."""
    return any(_part_matches(part, value, first, names or {}, special) for part in field.split(","))


def _part_matches(
    part: str, value: int, first: int, names: Mapping[str, int], special: Callable[[str], int | None]
) -> bool:
    alone = special(part)
    if alone is not None:
        return value == alone
    span, _, step = part.partition("/")
    low, _, high = span.partition("-")
    begin = first if low == "*" else _number(low, names)
    end = _number(high, names) if high else None if low == "*" or step else begin
    return value >= begin and (end is None or value <= end) and (value - begin) % int(step or 1) == 0


def _number(text: str, names: Mapping[str, int]) -> int:
    return names[text.upper()] if text.upper() in names else int(text)
