"""Histograms of how long jobs wait and run: fixed bounds that fit jobs, from milliseconds to an hour.

The counts of all processes can be added up, which no percentile can. Index i counts what is at most `BOUNDS[i]` and
more than the bound before; the last one what is longer than an hour.
"""

from bisect import bisect_left
from collections.abc import Sequence

#: Seconds.
BOUNDS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0
)  # fmt: skip
SIZE = len(BOUNDS) + 1


def place(seconds: float) -> int:
    """Where a time is counted.

    >>> place(0.0), place(0.05), place(0.051), place(7200.0)
    (0, 3, 4, 18)
    """
    return bisect_left(BOUNDS, seconds)


def quantile(counts: Sequence[int | None], q: float) -> float | None:
    """The time that a share `q` of all is at most, in seconds, as if those between two bounds were spread evenly.

    None where nothing was counted. What is longer than the last bound is told as the last bound.

    >>> quantile([0, 0, 0, 0, 100] + [0] * 14, 0.5)
    0.075
    """
    wanted, seen = q * sum(count or 0 for count in counts), 0
    if not any(counts):
        return None
    for number, count in enumerate(counts):
        if count and seen + count >= wanted:
            if number >= len(BOUNDS):
                return BOUNDS[-1]
            low = BOUNDS[number - 1] if number else 0.0
            return round(low + (BOUNDS[number] - low) * max(wanted - seen, 0.0) / count, 6)
        seen += count or 0
    return BOUNDS[-1]
