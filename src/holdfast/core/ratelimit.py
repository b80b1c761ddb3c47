"""What a rate limit is, how it is written, and what a decision about a request says.

A policy is one or several limits that an identity has to keep at once. Three algorithms, each with its true bound:

    log     never more than `most` in any window of its length; the default
    fixed   never more than `most` in one window, which begins with its first request: up to twice that across an edge
    gcra    an even flow with bursts: in any span of w seconds at most `burst` + w * `most` / `window`
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from holdfast.errors import ConfigurationError

MOST = 1_000_000_000
LONGEST = 31 * 86_400.0
MOST_LIMITS = 5
#: Up to this many places each request keeps a stamp of its own.
EXACT = 250
#: Above that, stamps may be merged that lie closer than this part of the window: places come back that much later.
GRAINS = 60

_UNITS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
_ALIASES = {"s": "second", "sec": "second", "m": "minute", "min": "minute", "h": "hour", "d": "day"}
_TEXT = re.compile(
    r"(\d+)\s*(?:/|per)\s*(?:(\d+)\s*)?(second|sec|s|minute|min|m|hour|h|day|d)s?"
    r"(?:\s+(log|fixed|gcra)(?:\s+burst\s*=?\s*(\d+))?)?"
)
_NAME = re.compile(r"[\x21\x23-\x5b\x5d-\x7e][\x20\x21\x23-\x5b\x5d-\x7e]{0,98}")

Algorithm = Literal["log", "fixed", "gcra"]
_ALGORITHMS: dict[str | None, Algorithm] = {None: "log", "log": "log", "fixed": "fixed", "gcra": "gcra"}
Outage = Literal["share", "closed", "open"]
#: Who decided: Postgres; this process, from an answer of Postgres that still holds; this process alone.
Source = Literal["postgres", "cache", "memory"]


@dataclass(frozen=True)
class Limit:
    """At most `most` requests in any `window` seconds; `burst` (gcra only) is what may come at once.

    >>> Limit.parse("100/minute")
    Limit(most=100, window=60.0, algorithm='log', burst=0)
    >>> Limit.parse("5 per 10 seconds").text
    '5;w=10'
    >>> Limit.parse("600/minute gcra burst 20").capacity
    20
    """

    most: int
    window: float
    algorithm: Algorithm = "log"
    burst: int = 0

    def __post_init__(self) -> None:
        if not _is_whole(self.most) or not 1 <= self.most <= MOST:
            raise ConfigurationError(f"a rate limit of {self.most!r:.100} requests; it must be from 1 to {MOST:,}")
        if not _is_number(self.window) or not 0.001 <= self.window <= LONGEST:
            raise ConfigurationError(
                f"a rate limit's window of {self.window!r:.100} s; it must be from a millisecond to 31 days"
            )
        if self.algorithm not in ("log", "fixed", "gcra"):
            raise ConfigurationError(f"a rate limit's algorithm is {self.algorithm!r}; it must be log, fixed or gcra")
        if self.burst and self.algorithm != "gcra":
            raise ConfigurationError(f"a burst of {self.burst} with the algorithm {self.algorithm}; only gcra has one")
        if not 0 <= self.burst <= MOST:
            raise ConfigurationError(f"a burst of {self.burst}; it must be from 1 to {MOST:,}")

    @classmethod
    def parse(cls, text: str) -> "Limit":
        """Read `100/minute`, `5 per 10 seconds`, `1000/day fixed`, `600/minute gcra burst 20`.

        Raises `ConfigurationError`.
        """
        found = _TEXT.fullmatch(text.strip())
        if found is None:
            raise ConfigurationError(
                f"a rate limit is {text[:100]!r}; it looks like 100/minute, 5 per 10 seconds, or 1000/day fixed"
            )
        most, times, unit, algorithm, burst = found.groups()
        window = _number(times or "1") * _UNITS[_ALIASES.get(unit, unit)]
        return cls(_number(most), window, _ALGORITHMS[algorithm], _number(burst or "0"))

    @property
    def capacity(self) -> int:
        """The most that can be admitted at once: what a cost may not exceed."""
        return self.burst or self.most

    @property
    def text(self) -> str:
        """As it stands in headers and in the names of policies."""
        seconds = f"{self.window:.6f}".rstrip("0").rstrip(".")
        kind = "" if self.algorithm == "log" else f";{self.algorithm}"
        return f"{self.most};w={seconds}{kind}{f';burst={self.burst}' if self.burst else ''}"

    def share(self, instances: int) -> "Limit":
        """What one of so many instances admits while nobody can count for all: its part, and at least one."""
        if instances == 1:
            return self
        burst = max(self.burst // instances, 1) if self.burst else 0
        return Limit(max(self.most // instances, 1), self.window, self.algorithm, burst)


@dataclass(frozen=True)
class Policy:
    """Limits that one identity has to keep all at once; what one of them refuses, costs nothing in the others.

    name: what the ledger, headers and metrics call it. The counts belong to the name: with it given, limits may change
        and the counts stay. By default the limits themselves.
    without_postgres: what a process does while Postgres does not answer. `share`: keep its part of the limit, over the
        instances that lived when it was last seen; `closed`: refuse (log-in, payment); `open`: admit.
    shadow: decide and count, but admit everything; `Decision.shadowed` tells what would have been refused.

    >>> Policy.parse("5/second, 100/minute, 1000/day", name="search").limits[0]
    Limit(most=5, window=1.0, algorithm='log', burst=0)
    """

    limits: tuple[Limit, ...]
    name: str = ""
    without_postgres: Outage = "share"
    shadow: bool = False
    #: The most units that can be admitted at once, and the seconds of the longest window.
    capacity: int = field(default=0, init=False, repr=False, compare=False)
    longest: float = field(default=0.0, init=False, repr=False, compare=False)
    _hash: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.limits) <= MOST_LIMITS:
            raise ConfigurationError(f"a policy of {len(self.limits)} limits; it must have from 1 to {MOST_LIMITS}")
        if self.without_postgres not in ("share", "closed", "open"):
            raise ConfigurationError(f"without_postgres is {self.without_postgres!r}; it must be share, closed or open")
        if not self.name:
            object.__setattr__(self, "name", ",".join(limit.text for limit in self.limits))
        elif not _NAME.fullmatch(self.name):
            raise ConfigurationError(
                f"a policy is called {self.name[:100]!r}; a name has 1 to 99 printable ASCII characters, no quotation"
                " marks or backslashes"
            )
        object.__setattr__(self, "capacity", min(limit.capacity for limit in self.limits))
        object.__setattr__(self, "longest", max(limit.window for limit in self.limits))
        object.__setattr__(self, "_hash", hash(self.name))

    def __hash__(self) -> int:
        return self._hash

    @classmethod
    def parse(cls, text: str, *, name: str = "", without_postgres: Outage = "share", shadow: bool = False) -> "Policy":
        """Read limits with commas between them. Raises `ConfigurationError`."""
        return cls(tuple(Limit.parse(part) for part in text.split(",")), name, without_postgres, shadow)

    @classmethod
    def of(cls, given: "Limits") -> "Policy":
        """A policy from all the ways to write one."""
        if isinstance(given, Policy):
            return given
        if isinstance(given, str):
            return cls.parse(given)
        if isinstance(given, Limit):
            return cls((given,))
        if isinstance(given, Sequence):
            return cls(tuple(each if isinstance(each, Limit) else Limit.parse(each) for each in given))
        raise ConfigurationError(f"a rate limit is {given!r:.100}; it looks like '100/minute'")


#: A policy, or what one is made of: "100/minute", Limit(100, 60), ["5/second", "100/minute"].
Limits = Policy | Limit | str | Sequence[Limit | str]


class Quota(NamedTuple):
    """How one limit of a policy stands after a decision; times in seconds from then."""

    limit: Limit
    remaining: int
    retry_after: float
    reset_after: float

    def later(self, seconds: float) -> "Quota":
        """The same, so much later, if nothing was asked meanwhile."""
        retry, reset = max(self.retry_after - seconds, 0.0), max(self.reset_after - seconds, 0.0)
        return Quota(self.limit, self.remaining, retry, reset)


class Decision(NamedTuple):
    """Whether a request is admitted; true where it is. Times in seconds from the decision.

    limit: the limit that leaves least, or that refused.
    remaining: how many requests it still admits now.
    retry_after: when the same request would be admitted; 0 where it was.
    reset_after: when the whole limit is free again.
    policy: its name. source: who decided (`postgres`; `cache`: an answer of Postgres that still holds; `memory`: this
        process alone, while Postgres does not answer).
    shadowed: admitted only because the policy is in shadow mode.
    quotas: how each limit of the policy stands, in its order.
    """

    allowed: bool
    limit: Limit
    remaining: int
    retry_after: float
    reset_after: float
    policy: str
    source: Source
    shadowed: bool
    quotas: tuple[Quota, ...]
    key: str
    cost: int
    stamp: int

    def __bool__(self) -> bool:
        return self.allowed

    @property
    def violated(self) -> tuple[Limit, ...]:
        """The limits that refused."""
        if self.allowed and not self.shadowed:
            return ()
        return tuple(quota.limit for quota in self.quotas if quota.retry_after > 0) or (self.limit,)


def decision(
    policy: Policy, quotas: tuple[Quota, ...], *, allowed: bool, source: Source, key: str, cost: int, stamp: int = 0
) -> Decision:
    """A decision from how the limits stand: the one that matters most speaks for all."""
    if len(quotas) == 1:
        tightest = quotas[0]
    elif allowed:
        tightest = min(quotas, key=lambda quota: quota.remaining)
    else:
        tightest = max(quotas, key=lambda quota: quota.retry_after)
    shadowed = policy.shadow and not allowed
    return Decision(
        allowed or shadowed,
        tightest.limit,
        tightest.remaining,
        0.0 if allowed else tightest.retry_after,
        tightest.reset_after,
        policy.name,
        source,
        shadowed,
        quotas,
        key,
        cost,
        stamp,
    )


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, float) or _is_whole(value)


def _number(digits: str) -> int:
    """Python refuses to read numbers of thousands of digits with an error of its own."""
    return int(digits) if len(digits) <= 12 else MOST + 1
