"""What a rate limit is, and the rule in memory: never more than its limit in any window of its length.

The rule is a sliding log: the time of each admitted request is kept until it leaves the window. So there is no edge at
which two windows' worth of requests slip through, and the time of the next free place is exact.
"""

import re
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Literal

from holdfast.errors import ConfigurationError

MOST = 1_000
LONGEST = 86_400.0
_UNITS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
_TEXT = re.compile(r"\s*(\d+)\s*(?:/|per)\s*(?:(\d+)\s*)?(second|minute|hour|day)s?\s*")

Source = Literal["postgres", "memory"]


@dataclass(frozen=True)
class Limit:
    """At most `most` requests in any `window` seconds.

    >>> Limit.parse("100/minute")
    Limit(most=100, window=60.0)
    >>> Limit.parse("5 per 10 seconds").policy
    '5;w=10'
    """

    most: int
    window: float

    def __post_init__(self) -> None:
        if not 1 <= self.most <= MOST:
            raise ConfigurationError(f"a rate limit of {self.most} requests; it must be from 1 to {MOST}")
        if not 0 < self.window <= LONGEST:
            raise ConfigurationError(f"a rate limit's window of {self.window:g} s; it must be at most a day")

    @classmethod
    def parse(cls, text: str) -> "Limit":
        """Read `100/minute`, `5 per 10 seconds`; raises `ConfigurationError`."""
        found = _TEXT.fullmatch(text)
        if found is None:
            raise ConfigurationError(f"a rate limit is {text!r}; it looks like 100/minute, or 5 per 10 seconds")
        return cls(int(found[1]), int(found[2] or 1) * _UNITS[found[3]])

    @property
    def policy(self) -> str:
        """Its name in headers and in the ledger."""
        return f"{self.most};w={self.window:g}"


@dataclass(frozen=True)
class Decision:
    """Whether a request is admitted. Times in seconds from now.

    `retry_after`: when the same request would be admitted, 0 where it was. `reset_after`: when the whole limit is free
    again. `source`: who decided; `memory` while Postgres does not answer.
    """

    allowed: bool
    limit: Limit
    remaining: int
    retry_after: float
    reset_after: float
    source: Source


class MemoryLog:
    """The rule for one process. `now` is any clock that never goes back; times are seconds.

    At most `most_keys` identities are kept. Where all are in use, newcomers share one place, so that inventing
    identities neither fills the memory nor frees those that are limited.
    """

    def __init__(self, most_keys: int = 10_000) -> None:
        self._most_keys = most_keys
        self._logs: OrderedDict[tuple[str, str], tuple[deque[float], float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._logs)

    def hit(self, key: str, limit: Limit, cost: int, now: float) -> Decision:
        """Decide, and keep what was admitted."""
        stamps = self._log(key, limit, now)
        allowed = len(stamps) + cost <= limit.most
        if allowed:
            stamps.extend([now] * cost)
        missing = len(stamps) + cost - limit.most
        retry_after = 0.0 if allowed or cost > limit.most else stamps[missing - 1] + limit.window - now
        reset_after = stamps[-1] + limit.window - now if stamps else 0.0
        return Decision(allowed, limit, limit.most - len(stamps), retry_after, reset_after, "memory")

    def note(self, key: str, limit: Limit, cost: int, now: float) -> None:
        """Keep what somebody else admitted, so that the rule goes on from there."""
        self._log(key, limit, now).extend([now] * cost)

    def _log(self, key: str, limit: Limit, now: float) -> deque[float]:
        place = (limit.policy, key)
        if place not in self._logs and len(self._logs) >= self._most_keys and not self._make_room(now):
            place = (limit.policy, "")
        stamps, _ = self._logs.get(place, (deque(maxlen=limit.most), 0.0))
        while stamps and stamps[0] <= now - limit.window:
            stamps.popleft()
        self._logs[place] = (stamps, now + limit.window)
        self._logs.move_to_end(place)
        return stamps

    def _make_room(self, now: float) -> bool:
        """The one that was used longest ago goes, if its window has passed."""
        oldest = next(iter(self._logs))
        if self._logs[oldest][1] > now:
            return False
        del self._logs[oldest]
        return True
