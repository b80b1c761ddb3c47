"""When a periodic job is due: cron expressions in a named time zone.

The rules are those of Debian's cron (crontab(5)), as the library cronsim has them; see docs/decisions/0008. Where
clocks are set forward, a job at a skipped time runs right after; where they are set back, a job at a repeated time runs
once. Expressions whose minutes or hours begin with `*`, and those with seconds, are matched against the clock as it
stands: they pass over skipped times and tick at both of two repeated ones, as `0 */2 * * *` does at 02:00.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timezone
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from holdfast.errors import ConfigurationError

EXAMPLE = "five fields, minute hour day-of-month month day-of-week, for example '*/5 * * * *'"


@dataclass(frozen=True)
class Schedule:
    """When jobs of a kind are enqueued, and with what arguments (as the ledger stores them).

    overlap: whether a tick enqueues a job while that of the tick before is still queued or running.
    """

    name: str
    cron: str
    time_zone: str
    queue: str
    kind: str
    args: dict[str, Any] = field(default_factory=dict)
    overlap: bool = False

    def next_after(self, moment: datetime) -> datetime:
        """The first tick after a moment, in UTC."""
        return next_tick(self.cron, self.time_zone, moment)


def next_tick(cron: str, time_zone: str, moment: datetime) -> datetime:
    """The first tick of an expression after a moment, in UTC; `ConfigurationError` when there is none in 50 years.

    >>> next_tick("30 7 * * MON-FRI", "Europe/Berlin", datetime(2026, 3, 27, 12, tzinfo=UTC)).isoformat()
    '2026-03-30T05:30:00+00:00'
    """
    if not isinstance(cron, str):
        raise ConfigurationError(f"cron is {cron!r:.50}; it takes {EXAMPLE}")
    try:
        ticks = CronSim(cron, moment.astimezone(zone(time_zone)))
    except CronSimError as error:
        reason = str(error)[:1].lower() + str(error)[1:]
        raise ConfigurationError(f"cron is {cron!r}: {reason}; it takes {EXAMPLE}") from error
    # In the hour that clocks repeat, the library may give the first of the two times, which is over.
    for tick in ticks:
        if tick > moment:
            return _none_passed_over(ticks, tick, cron, moment)
    raise ConfigurationError(f"cron is {cron!r}: it never comes about within 50 years")


def _none_passed_over(ticks: CronSim, tick: datetime, cron: str, moment: datetime) -> datetime:
    """The tick, or one that the library passed over: it steps by hours, and Lord Howe's clocks go back by half of one.

    In the offset of the tick all hours are whole; what is found so counts where the zone has that offset then.
    """
    found, offset = tick.astimezone(UTC), tick.utcoffset()
    if ticks.fixup_tz is not None or offset is None:
        return found
    for earlier in CronSim(cron, moment.astimezone(timezone(offset))):
        if earlier >= found:
            break
        if earlier > moment and earlier.astimezone(tick.tzinfo).utcoffset() == offset:
            return earlier.astimezone(UTC)
    return found


def zone(name: str) -> ZoneInfo:
    """A time zone by its name; `ConfigurationError` with similar names where there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError) as error:
        raise ConfigurationError(f"tz is {name!r}; {_advice(name)}") from error


def _advice(name: object) -> str:
    known = available_timezones()
    if not known:
        return "this system knows no time zones; install the package tzdata"
    close = [each for each in sorted(known) if isinstance(name, str) and name and name.lower() in each.lower()]
    if close:
        return f"did you mean {close[0]}?"
    return "it must name a time zone, for example 'Europe/Berlin' or 'UTC'"
