"""Ticks of cron expressions: strictly after a moment, in a named zone, through changes of its clocks."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.schedule import next_tick
from holdfast.errors import ConfigurationError

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def ticks(cron: str, zone: str, after: str, count: int) -> list[str]:
    """As a scheduler has them that is always on time."""
    moment, found = datetime.fromisoformat(after), []
    for _ in range(count):
        moment = next_tick(cron, zone, moment)
        found.append(f"{moment:%m-%d %H:%M}")
    return found


def test_a_tick_is_strictly_after_the_moment() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert next_tick("0 12 * * *", "UTC", noon - timedelta(microseconds=1)) == noon
    assert next_tick("0 12 * * *", "UTC", noon) == noon + timedelta(days=1)


def test_times_are_those_of_the_zone_summer_and_winter() -> None:
    assert ticks("0 9 1 * *", "America/New_York", "2026-02-20T00:00+00:00", 2) == ["03-01 14:00", "04-01 13:00"]


def test_a_time_that_is_skipped_in_spring_comes_right_after() -> None:
    """In Berlin on 29 March 2026 clocks go from 02:00 to 03:00, which is 01:00 UTC."""
    assert ticks("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00+00:00", 3) == [
        "03-28 01:30",
        "03-29 01:00",
        "03-30 00:30",
    ]


def test_a_time_that_comes_twice_in_autumn_is_taken_once() -> None:
    """In Berlin on 25 October 2026 clocks go from 03:00 back to 02:00, which is 01:00 UTC."""
    assert ticks("30 2 * * *", "Europe/Berlin", "2026-10-24T00:00+00:00", 3) == [
        "10-24 00:30",
        "10-25 00:30",
        "10-26 01:30",
    ]


def test_what_runs_each_half_hour_goes_by_elapsed_time() -> None:
    assert ticks("*/30 * * * *", "Europe/Berlin", "2026-10-24T23:45+00:00", 6) == [
        "10-25 00:00", "10-25 00:30", "10-25 01:00", "10-25 01:30", "10-25 02:00", "10-25 02:30",
    ]  # fmt: skip
    assert ticks("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:15+00:00", 3) == [
        "03-29 00:30", "03-29 01:00", "03-29 01:30",
    ]  # fmt: skip


def test_what_begins_with_a_star_ticks_at_both_of_two_repeated_times() -> None:
    assert ticks("0 */2 * * *", "Europe/Berlin", "2026-10-24T21:00+00:00", 4) == [
        "10-24 22:00", "10-25 00:00", "10-25 01:00", "10-25 03:00",
    ]  # fmt: skip
    assert ticks("30 * * * *", "Europe/Berlin", "2026-10-25T00:00+00:00", 2) == ["10-25 00:30", "10-25 01:30"]
    assert ticks("0 */2 * * *", "Europe/Berlin", "2026-03-28T22:30+00:00", 2) == ["03-28 23:00", "03-29 02:00"]


#: Lord Howe's clocks go back by half an hour, from 02:00 to 01:30 on 5 April 2026, which is 15:00 UTC on the 4th; and
#: forward by as much, from 02:00 to 02:30 on 4 October, which is 15:30 UTC on the 3rd.
HALF_HOURS = (datetime(2026, 4, 4, 15, tzinfo=UTC), datetime(2026, 10, 3, 15, 30, tzinfo=UTC))


@pytest.mark.parametrize("change", HALF_HOURS)
@given(
    st.sampled_from(
        [
            ("* 2 * * *", lambda at: at.hour == 2),
            ("*/20 1-2 * * *", lambda at: at.hour in (1, 2) and at.minute % 20 == 0),
            ("0 */2 * * *", lambda at: at.hour % 2 == 0 and at.minute == 0),
            ("45 * * * *", lambda at: at.minute == 45),
            ("0 15 * * * *", lambda at: at.minute == 15),
        ]
    ),
    st.integers(-180, 180),
)
def test_where_clocks_change_by_half_an_hour_no_time_on_the_clock_is_passed_over(
    change: datetime, expression: tuple[str, Callable[[datetime], bool]], away: int
) -> None:
    cron, fits = expression
    minutes = (change + timedelta(minutes=away + passed) for passed in range(1, 3000))
    wanted = next(each for each in minutes if fits(each.astimezone(ZoneInfo("Australia/Lord_Howe"))))
    assert next_tick(cron, "Australia/Lord_Howe", change + timedelta(minutes=away)) == wanted


def test_a_late_tick_in_the_repeated_hour_is_not_had_again() -> None:
    """The tick of 02:30 summer time came 40 minutes late, at 02:10 winter time: 02:30 lies behind, not ahead."""
    assert next_tick("30 2 * * *", "Europe/Berlin", datetime(2026, 10, 25, 1, 10, tzinfo=UTC)) == datetime(
        2026, 10, 26, 1, 30, tzinfo=UTC
    )


@given(
    st.sampled_from(["30 2 * * *", "*/7 * * * *", "0 */5 * * *", "15 1,2,3 * * *", "0 0 L * *", "*/20 * * * * *"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    st.integers(0, 366 * 86_400_000).map(lambda passed: NEW_YEAR + timedelta(milliseconds=passed)),
)
def test_whatever_the_moment_the_next_tick_is_after_it(cron: str, zone: str, moment: datetime) -> None:
    tick = next_tick(cron, zone, moment)
    assert tick > moment
    assert tick - moment < timedelta(days=32)
    assert next_tick(cron, zone, tick) > tick


@pytest.mark.parametrize(
    ("cron", "complaint"),
    [
        ("@daily", r"cron is '@daily': wrong number of fields; it takes five fields"),
        ("61 * * * *", r"cron is '61 \* \* \* \*': bad minute; it takes five fields"),
        (300, r"cron is 300; it takes five fields"),
        ("0 0 30 2 *", "bad day-of-month"),
        ("* * */20 * 1L", r"never comes about within 50 years"),
    ],
)
def test_an_expression_that_cannot_be_is_refused_with_its_value(cron: Any, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        next_tick(cron, "UTC", datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("zone", "complaint"),
    [
        ("Berlin", "tz is 'Berlin'; did you mean Europe/Berlin?"),
        ("", "tz is ''; it must name a time zone, for example"),
        ("../etc/passwd", "it must name a time zone"),
        (None, "tz is None; it must name a time zone"),
    ],
)
def test_a_time_zone_that_does_not_exist_is_refused_with_one_that_does(zone: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        next_tick("* * * * *", zone, datetime(2026, 1, 1, tzinfo=UTC))
    assert complaint in str(caught.value)
