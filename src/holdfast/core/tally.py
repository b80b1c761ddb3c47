"""The rule of the rate limits: what one identity was admitted, and whether it may be admitted more.

One log serves all limits of a policy, since each of them is charged with the same requests. Beside the time of each
admission stands the sum of all admitted until then, so what a window holds is a difference of two sums, found by
bisection. To drop a pair from the middle of the log moves its requests to the time of the next pair, which is later:
they leave every window later than they would, so no thinning of the log can ever admit too much. It is thinned such
that exact limits (up to EXACT places) keep every pair, and others come back at most window / GRAINS late.

The same rule is in SQL, in the function rate_limit_step; one suite of tests holds both to one model.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence

from holdfast.core.ratelimit import EXACT, GRAINS, Limit, Policy, Quota

#: Pairs that a log may hold above what its limits need before it is thinned.
SLACK = 64
NEVER = -math.inf


class Tally:
    """What one identity was admitted under a policy. Times in seconds of a clock that never goes back.

    >>> tally = Tally()
    >>> policy = Policy.parse("2/minute")
    >>> [tally.step(policy, 1, 1, 0, now) for now in (0.0, 1.0, 2.0, 60.0)]
    [1, 1, 0, 1]
    """

    __slots__ = ("_base", "_marks", "_stamps", "_sums")

    def __init__(self) -> None:
        self._base = 0
        self._stamps: list[float] = []
        self._sums: list[int] = []
        self._marks: dict[int, tuple[float, int]] = {}

    def __len__(self) -> int:
        return len(self._stamps)

    def step(self, policy: Policy, cost: int, count: int, debt: int, now: float) -> int:
        """Ask for `count` requests of `cost` each; how many units are granted: as many whole requests as have room.

        `debt` are units that were admitted already, elsewhere: they are charged whether or not there is room.
        """
        if len(self._stamps) > SLACK:
            self._tidy(policy, now)
        limits, total = policy.limits, self._total + debt
        if len(limits) == 1:
            room = self._room(0, limits[0], total, now)
        else:
            room = min(self._room(place, limit, total, now) for place, limit in enumerate(limits))
        granted = min(count, max(room, 0) // cost) * cost
        if granted + debt:
            self._charge(limits, granted + debt, now)
        return granted

    def quotas(self, policy: Policy, cost: int, now: float) -> tuple[Quota, ...]:
        """How each limit stands for a next request of this cost."""
        total = self._total
        return tuple([self._quota(place, limit, total, cost, now) for place, limit in enumerate(policy.limits)])

    def refund(self, policy: Policy, cost: int, stamp: float) -> None:
        """Take back what was admitted at `stamp`, as if it had never been."""
        place = bisect_right(self._stamps, stamp)
        first = place - 1 if place and self._stamps[place - 1] == stamp else place
        floor = self._sums[first - 1] if first else self._base
        for each in range(first, len(self._sums)):
            self._sums[each] = max(self._sums[each] - cost, floor)
        if not self._stamps:
            self._base -= cost
        for place, limit in enumerate(policy.limits):
            at, mark = self._marks.get(place, (NEVER, 0))
            if limit.algorithm == "gcra":
                self._marks[place] = (at - cost * limit.window / limit.most, 0)
            elif limit.algorithm == "fixed" and at > stamp:
                self._marks[place] = (at, mark - cost)

    def seed(self, limits: Sequence[Limit], used: Sequence[int], at: float) -> None:
        """Begin with so many units in each limit's window, as was known at `at`: each as late as it can have been."""
        pairs = list(zip(limits, used, strict=True))
        logs: dict[float, int] = {}
        for limit, units in pairs:
            if limit.algorithm == "log":
                logs[limit.window] = max(units, logs.get(limit.window, 0))
        shorter, inner, steps = 0.0, 0, []
        for window, units in sorted(logs.items()):
            if units > inner:
                steps.append((at - shorter, units - inner))
                inner = units
            shorter = window
        for stamp, units in reversed(steps):
            self._stamps.append(stamp)
            self._sums.append(self._total + units)
        for place, (limit, units) in enumerate(pairs):
            if limit.algorithm == "fixed" and units:
                self._marks[place] = (at, self._total - units)
            elif limit.algorithm == "gcra":
                self._marks[place] = (at + units * limit.window / limit.most, 0)

    @property
    def _total(self) -> int:
        return self._sums[-1] if self._sums else self._base

    def _used(self, place: int, limit: Limit, total: int, now: float) -> int:
        if limit.algorithm == "log":
            cut = bisect_right(self._stamps, now - limit.window)
            return total - (self._sums[cut - 1] if cut else self._base)
        at, mark = self._marks.get(place, (NEVER, 0))
        if limit.algorithm == "fixed":
            return total - (mark if now < at + limit.window else self._total)
        return total - self._total + math.ceil(max(at - now, 0.0) * limit.most / limit.window - 1e-9)

    def _room(self, place: int, limit: Limit, total: int, now: float) -> int:
        return limit.capacity - self._used(place, limit, total, now)

    def _quota(self, place: int, limit: Limit, total: int, cost: int, now: float) -> Quota:
        room = self._room(place, limit, total, now)
        if limit.algorithm == "log":
            wait = 0.0
            if cost > room:
                first = bisect_right(self._sums, total + cost - limit.most - 1)
                wait = self._stamps[first] + limit.window - now if first < len(self._stamps) else limit.window
            reset = self._stamps[-1] + limit.window - now if self._stamps and room < limit.most else 0.0
            return Quota(limit, max(room, 0), wait, reset)
        at = self._marks.get(place, (NEVER, 0))[0]
        if limit.algorithm == "fixed":
            reset = max(at + limit.window - now, 0.0)
            return Quota(limit, max(room, 0), reset if cost > room else 0.0, reset)
        spare = max(limit.capacity - cost, 0) * limit.window / limit.most
        return Quota(limit, max(room, 0), max(at - now - spare, 0.0) if cost > room else 0.0, max(at - now, 0.0))

    def _charge(self, limits: Sequence[Limit], units: int, now: float) -> None:
        before = self._total
        grain = math.inf
        for place, limit in enumerate(limits):
            if limit.algorithm == "log":
                grain = min(grain, 0.0 if limit.most <= EXACT else limit.window / GRAINS)
                continue
            at, _ = self._marks.get(place, (NEVER, 0))
            if limit.algorithm == "gcra":
                paid = max(at, now) + units * limit.window / limit.most
                self._marks[place] = (min(paid, now + (limit.capacity + limit.most) * limit.window / limit.most), 0)
            elif now >= at + limit.window:
                self._marks[place] = (now, before)
        if grain == math.inf:
            self._base = before + units
            self._stamps.clear()
            self._sums.clear()
        elif grain and self._stamps and self._stamps[-1] // grain == now // grain:
            self._stamps[-1] = max(now, self._stamps[-1])
            self._sums[-1] = before + units
        else:
            self._stamps.append(max(now, self._stamps[-1]) if self._stamps else now)
            self._sums.append(before + units)

    def _tidy(self, policy: Policy, now: float) -> None:
        """Forget what has left the longest window, and thin what is longer than its limits need."""
        cut = bisect_right(self._stamps, now - policy.longest)
        if cut:
            self._base = self._sums[cut - 1]
            del self._stamps[:cut], self._sums[:cut]
        need = sum(limit.most if limit.most <= EXACT else GRAINS + 1 for limit in policy.limits)
        if len(self._stamps) > need + SLACK:
            grains = [_grain(policy.limits, now - stamp) for stamp in self._stamps]
            kept = [
                place
                for place in range(len(self._stamps))
                if place + 1 == len(self._stamps)
                or not grains[place]
                or self._stamps[place] // grains[place] != self._stamps[place + 1] // grains[place]
            ]
            self._stamps = [self._stamps[place] for place in kept]
            self._sums = [self._sums[place] for place in kept]


def _grain(limits: Sequence[Limit], age: float) -> float:
    """How far a pair of this age may be moved: the finest of what the windows allow that still hold it."""
    grains = [
        0.0 if limit.most <= EXACT else limit.window / GRAINS
        for limit in limits
        if limit.algorithm == "log" and limit.window > age
    ]
    return min(grains, default=0.0)
