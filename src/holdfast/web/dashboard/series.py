"""What became of jobs over time, for charts: asked of the ledger at most every few seconds, however many look."""

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from holdfast.postgres.ledger import Executor
from holdfast.postgres.overview import Bucket, job_series


@dataclass(frozen=True)
class Range:
    """How far back, in buckets of how long (seconds), and how long an answer is kept."""

    name: str
    span: float
    bucket: float
    kept_for: float

    @property
    def label(self) -> str:
        return {"1h": "1 hour", "24h": "24 hours", "7d": "7 days"}[self.name]


RANGES = {
    each.name: each
    for each in (Range("1h", 3600, 60, 2), Range("24h", 86_400, 1800, 20), Range("7d", 604_800, 10_800, 60))
}
#: Series that are kept at a time.
MOST = 100


@dataclass(frozen=True)
class Series:
    """Buckets without gaps, the oldest first."""

    window: Range
    buckets: Sequence[Bucket]

    @property
    def succeeded(self) -> int:
        return sum(bucket.succeeded for bucket in self.buckets)

    @property
    def failed(self) -> int:
        return sum(bucket.failed for bucket in self.buckets)

    @property
    def dead(self) -> int:
        return sum(bucket.dead for bucket in self.buckets)


class SeriesCache:
    """The series that were asked for lately."""

    def __init__(self, ledger: Executor) -> None:
        self._ledger = ledger
        self._kept: OrderedDict[tuple[str, str | None], tuple[float, Series]] = OrderedDict()

    async def read(self, window: Range, queue: str | None = None) -> Series:
        """A series, seconds old at most."""
        kept = self._kept.get((window.name, queue))
        if kept is not None and time.monotonic() - kept[0] < window.kept_for:
            return kept[1]
        found = await self._ledger.call(job_series(window.span, window.bucket, queue))
        series = Series(window, filled(found, window, datetime.now(UTC)))
        self._kept[window.name, queue] = time.monotonic(), series
        while len(self._kept) > MOST:
            self._kept.popitem(last=False)
        return series


def filled(found: Sequence[Bucket], window: Range, now: datetime) -> list[Bucket]:
    """All buckets of a range up to the present one, those that nothing happened in too."""
    by_time = {bucket.at: bucket for bucket in found}
    last = max([*by_time, datetime.fromtimestamp(now.timestamp() // window.bucket * window.bucket, UTC)])
    count = int(window.span / window.bucket)
    times = [last - timedelta(seconds=window.bucket * back) for back in range(count - 1, -1, -1)]
    return [by_time.get(at) or Bucket(at, 0, 0, 0, 0) for at in times]
