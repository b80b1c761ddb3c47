"""Numbers, times and durations as people read them."""

from datetime import UTC, datetime, timedelta

#: Where there is no number.
NOTHING = "\N{EN DASH}"
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def span(seconds: float | timedelta | None) -> str:
    """A duration: one unit below a minute and for full ones, else two.

    >>> span(0.0123), span(4.2), span(75), span(7200), span(200_000)
    ('12 ms', '4.2 s', '1 min 15 s', '2 h', '2 d 7 h')
    """
    if seconds is None:
        return NOTHING
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    for place, (size, unit) in enumerate(_UNITS):
        if seconds >= size:
            smaller, name = _UNITS[place + 1] if place + 1 < len(_UNITS) else (1, "s")
            rest = int(seconds % size // smaller)
            return f"{int(seconds // size)} {unit}" + (f" {rest} {name}" if rest else "")
    return f"{seconds:.0f} s"


def relative(then: datetime, now: datetime) -> str:
    """A time as people say it, in one unit.

    >>> now = datetime(2026, 1, 1, tzinfo=UTC)
    >>> relative(now - timedelta(seconds=200), now), relative(now + timedelta(hours=30), now), relative(now, now)
    ('3 min ago', 'in 1 d', 'just now')
    """
    seconds = (now - then).total_seconds()
    size = abs(seconds)
    if size < 1:
        return "just now"
    text = next((f"{int(size // each)} {unit}" for each, unit in _UNITS if size >= each), f"{int(size)} s")
    return f"{text} ago" if seconds >= 0 else f"in {text}"


def clock(then: datetime) -> str:
    """The exact time.

    >>> clock(datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC))
    '2026-01-02 03:04:05.678 UTC'
    """
    return f"{then.astimezone(UTC):%Y-%m-%d %H:%M:%S}.{then.microsecond // 1000:03d} UTC"


def moment(then: datetime) -> str:
    """The exact time among others of its days.

    >>> moment(datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC))
    'Jan 02, 03:04:05.678'
    """
    return f"{then.astimezone(UTC):%b %d, %H:%M:%S}.{then.microsecond // 1000:03d}"


def iso(then: datetime) -> str:
    """The exact time, for programs."""
    return then.astimezone(UTC).isoformat(timespec="milliseconds")


def number(value: float | None) -> str:
    """A count, with its thousands apart.

    >>> number(12345), number(12.34)
    ('12,345', '12.3')
    """
    if value is None:
        return NOTHING
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}".removesuffix(".0")


def percent(part: float, whole: float) -> str:
    """A share.

    >>> percent(1, 3), percent(1, 1000)
    ('33%', '0.1%')
    """
    if not whole:
        return NOTHING
    share = 100 * part / whole
    return f"{share:.0f}%" if share >= 10 or share == 0 else f"{share:.1f}%"


def plural(count: int, one: str, many: str = "") -> str:
    """A count with its noun.

    >>> plural(1, "job"), plural(1200, "job"), plural(2, "entry", "entries")
    ('1 job', '1,200 jobs', '2 entries')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"
