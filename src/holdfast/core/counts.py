"""What a process counts for its metrics: totals that only grow, which can be sent to whoever shows them, and added up.

No label grows without bound: of each metric two hundred sets of labels are kept, whatever comes later is `other`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from holdfast.core.histogram import SIZE, place
from holdfast.core.metrics import Metric

#: Sets of labels that are told apart, for each metric.
MOST = 200
OTHER = "other"

Labels = tuple[str, ...]


class Counts:
    """Counters and histograms by metric and labels.

    >>> from holdfast.core.metrics import CLAIM, SENT
    >>> counts = Counts()
    >>> counts.add(SENT, ("slack", "delivered"))
    >>> counts.observe(CLAIM, 0.2)
    >>> both = Counts()
    >>> both.merge(Counts.read(counts.as_json()))
    >>> both.merge(counts)
    >>> list(both.of(SENT)), [sum(times) for _, times, _ in both.times(CLAIM)]
    ([(('slack', 'delivered'), 2)], [2])
    """

    def __init__(self) -> None:
        self._totals: dict[str, dict[Labels, int]] = {}
        self._times: dict[str, dict[Labels, tuple[list[int], float]]] = {}

    def add(self, metric: Metric, labels: Labels = (), by: int = 1) -> None:
        """Count so many more."""
        self._add(metric.name, labels, by)

    def observe(self, metric: Metric, seconds: float, labels: Labels = ()) -> None:
        """Count one more that took so long."""
        counts = [0] * SIZE
        counts[place(seconds)] = 1
        self._observe(metric.name, labels, counts, seconds)

    def of(self, metric: Metric) -> Iterator[tuple[Labels, int]]:
        """A counter's totals."""
        yield from self._totals.get(metric.name, {}).items()

    def times(self, metric: Metric) -> Iterator[tuple[Labels, Sequence[int], float]]:
        """A histogram's counts by the bounds of core/histogram.py, and the sum of all seconds."""
        for labels, (counts, total) in self._times.get(metric.name, {}).items():
            yield labels, counts, total

    def merge(self, other: "Counts") -> None:
        """Add what another process counted."""
        for name, totals in other._totals.items():
            for labels, many in totals.items():
                self._add(name, labels, many)
        for name, times in other._times.items():
            for labels, (counts, total) in times.items():
                self._observe(name, labels, counts, total)

    def as_json(self) -> str:
        """All of it, for another process."""
        totals = {name: [[*each] for each in found.items()] for name, found in self._totals.items()}
        times = {name: [[labels, *each] for labels, each in found.items()] for name, found in self._times.items()}
        return json.dumps({"totals": totals, "times": times}, separators=(",", ":"))

    @classmethod
    def read(cls, text: str) -> "Counts":
        """What another process sent. Raises `ValueError` for what is none of it."""
        made = cls()
        try:
            found: Mapping[str, Any] = json.loads(text)
            for name, totals in found["totals"].items():
                for labels, many in totals:
                    made._add(name, tuple(labels), int(many))
            for name, times in found["times"].items():
                for labels, counts, total in times:
                    made._observe(name, tuple(labels), counts, float(total))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no counts of a process: {text[:100]!r}") from error
        return made

    def _add(self, name: str, labels: Labels, by: int) -> None:
        kept = self._totals.setdefault(name, {})
        place = _place(kept, labels)
        kept[place] = kept.get(place, 0) + by

    def _observe(self, name: str, labels: Labels, counts: Sequence[int], seconds: float) -> None:
        kept = self._times.setdefault(name, {})
        place = _place(kept, labels)
        before, total = kept.get(place, ([0] * SIZE, 0.0))
        kept[place] = [one + more for one, more in zip(before, counts, strict=True)], total + seconds


def _place(kept: Mapping[Labels, object], labels: Labels) -> Labels:
    return labels if labels in kept or len(kept) < MOST else (OTHER,) * len(labels)
