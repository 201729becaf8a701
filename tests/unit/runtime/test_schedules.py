"""When EventBridge's schedule expressions are due, as cases."""

from datetime import UTC, datetime

import pytest

from emulator.runtime.schedules import is_due

SINCE = datetime(2026, 1, 1, tzinfo=UTC)


def due(expression, moment):
    return is_due(expression, SINCE, datetime.fromisoformat(moment).replace(tzinfo=UTC))


@pytest.mark.parametrize(
    ("expression", "moment", "expected"),
    [
        ("cron(0 0 * * ? *)", "2026-03-04T00:00", True),
        ("cron(0 0 * * ? *)", "2026-03-04T00:01", False),
        ("cron(0 * * * ? *)", "2026-03-04T17:00", True),
        ("cron(0/15 * * * ? *)", "2026-03-04T17:45", True),
        ("cron(0/15 * * * ? *)", "2026-03-04T17:46", False),
        ("cron(5/10 * * * ? *)", "2026-03-04T17:15", True),
        ("cron(0 0 ? * SUN *)", "2026-03-01T00:00", True),
        ("cron(0 0 ? * 1 *)", "2026-03-01T00:00", True),
        ("cron(0 0 ? * MON-FRI *)", "2026-03-01T00:00", False),
        ("cron(0 0 ? * MON-FRI *)", "2026-03-02T00:00", True),
        ("cron(0 0 1,15 * ? *)", "2026-03-15T00:00", True),
        ("cron(0 0 L * ? *)", "2026-02-28T00:00", True),
        ("cron(0 0 L * ? *)", "2026-02-27T00:00", False),
        ("cron(0 0 ? * 2#1 *)", "2026-03-02T00:00", True),
        ("cron(0 0 ? * 2#1 *)", "2026-03-09T00:00", False),
        ("cron(0 0 ? * 5L *)", "2026-03-26T00:00", True),
        ("cron(0 0 ? * 5L *)", "2026-03-19T00:00", False),
        ("cron(0 0 1 JAN ? 2027)", "2027-01-01T00:00", True),
        ("cron(0 0 1 JAN ? 2027)", "2026-01-01T00:00", False),
        ("rate(1 minute)", "2026-01-01T00:01", True),
        ("rate(5 minutes)", "2026-01-01T00:10", True),
        ("rate(5 minutes)", "2026-01-01T00:11", False),
        ("rate(5 minutes)", "2026-01-01T00:00", False),
        ("rate(1 day)", "2026-01-03T00:00", True),
    ],
)
def test_when_it_is_due(expression, moment, expected):
    assert due(expression, moment) is expected


@pytest.mark.parametrize("expression", ["cron(0 0 * * *)", "rate(5 weeks)", "cron(0 0 15W * ? *)", "every day"])
def test_what_is_no_schedule_is_an_error(expression):
    with pytest.raises(ValueError):
        due(expression, "2026-03-04T00:00")
