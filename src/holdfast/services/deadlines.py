"""Deadlines of runs: one timer for all of them, since nearly every run ends long before its own.

Runs with the same timeout are due in the order in which they began. So for each timeout a dict in that order is enough,
and adding or dropping a run touches nothing else.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(eq=False)
class Deadline:
    """One run's, and what is called when it has passed."""

    seconds: float
    due: float
    passed: Callable[[], None] = field(repr=False)


class Deadlines:
    """Calls `passed` of each deadline that is not dropped before. For one event loop; times in seconds."""

    def __init__(self) -> None:
        self._by_seconds: dict[float, dict[Deadline, None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, seconds: float, passed: Callable[[], None]) -> Deadline:
        """A deadline `seconds` from now."""
        loop = asyncio.get_running_loop()
        deadline = Deadline(seconds, loop.time() + seconds, passed)
        self._by_seconds.setdefault(seconds, {})[deadline] = None
        if self._timer is None or deadline.due < self._timer.when():
            self._wake_at(loop, deadline.due)
        return deadline

    def drop(self, deadline: Deadline) -> None:
        """It will not be called; dropping it again, or after its call, does no harm."""
        alike = self._by_seconds.get(deadline.seconds)
        if alike is None:
            return
        alike.pop(deadline, None)
        if not alike:
            del self._by_seconds[deadline.seconds]

    def close(self) -> None:
        """Forget them all."""
        self._by_seconds.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake_at(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(due, self._look)

    def _look(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        passed = [first for alike in self._by_seconds.values() for first in _passed(alike, now)]
        for deadline in sorted(passed, key=lambda deadline: deadline.due):
            self.drop(deadline)
            deadline.passed()
        following = [next(iter(alike)).due for alike in self._by_seconds.values()]
        if following:
            self._wake_at(loop, min(following))


def _passed(alike: dict[Deadline, None], now: float) -> list[Deadline]:
    found = []
    for deadline in alike:
        if deadline.due > now:
            break
        found.append(deadline)
    return found
