"""Claimed jobs that wait for a slot: where handlers take about as long as a claim, no slot need wait for the next one.

They are held like those that run: beats confirm their leases, and whoever stops the worker gives them back. Behind
handlers that take longer than the last ones did, they are given back after a second, and nothing is claimed ahead until
handlers are quick again.
"""

import time
from collections import deque

from holdfast.core.pacing import most_ahead
from holdfast.services.run import Run

#: Seconds that a job may wait here.
LONGEST_WAIT = 1.0

#: What the newest time adds to the average of all.
WEIGHT = 0.05


class Ahead:
    """Those of one worker, first in, first out."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._waiting: deque[Run] = deque()
        self._round_trip = 0.0
        self._ran = LONGEST_WAIT

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def most(self) -> int:
        """How many may wait."""
        return most_ahead(slots=self._slots, round_trip=self._round_trip, ran=self._ran)

    def answered(self, seconds: float) -> None:
        """A claim took so long."""
        self._round_trip += WEIGHT * (seconds - self._round_trip)

    def ended(self, seconds: float) -> None:
        """A handler took so long."""
        self._ran += WEIGHT * (seconds - self._ran)

    def add(self, run: Run) -> None:
        self._waiting.append(run)

    def first(self, most: int) -> list[Run]:
        """The first of them, taken out."""
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def overdue(self) -> list[Run]:
        """Those that have waited too long, taken out."""
        latest = time.monotonic() - LONGEST_WAIT
        found = []
        while self._waiting and self._waiting[0].began_at < latest:
            found.append(self._waiting.popleft())
        if found:
            self._ran = max(self._ran, LONGEST_WAIT)
        return found

    def stopped(self) -> list[Run]:
        """Those that were asked to end before they began, taken out."""
        found = [run for run in self._waiting if run.stop_reason is not None]
        for run in found:
            self._waiting.remove(run)
        return found

    def all(self) -> list[Run]:
        """All of them, taken out."""
        found = list(self._waiting)
        self._waiting.clear()
        return found
