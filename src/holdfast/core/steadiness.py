"""Hysteresis: a verdict changes only when it was seen a few times in a row, so that nobody is woken by a flap."""

from dataclasses import dataclass, replace
from datetime import datetime

from holdfast.core.health import Check, Status

_ORDER = {Status.PASS: 0, Status.WARN: 1, Status.FAIL: 2}


@dataclass(frozen=True)
class Steady:
    """A check's verdict as it is told: the last one that lasted, since when, and how often in a row another was
    seen."""

    told: Check
    changed_at: datetime
    streak: int = 0


def steady(before: Steady | None, seen: Check, now: datetime, *, worsen: int, clear: int) -> Steady:
    """What to tell after `seen`.

    `worsen`: looks in a row that must be worse than what is told; `clear`: that must be better. The first look is told
    at once, and so are new words and numbers of a verdict that stays.

    >>> then = datetime(2026, 1, 1)
    >>> one = steady(None, Check("a", Status.PASS), then, worsen=2, clear=2)
    >>> two = steady(one, Check("a", Status.FAIL), then, worsen=2, clear=2)
    >>> three = steady(two, Check("a", Status.FAIL), then, worsen=2, clear=2)
    >>> [each.told.status.value for each in (one, two, three)]
    ['pass', 'pass', 'fail']
    """
    if before is None:
        return Steady(seen, now)
    if seen.status is before.told.status:
        return Steady(seen, before.changed_at)
    needed = worsen if _ORDER[seen.status] > _ORDER[before.told.status] else clear
    if before.streak + 1 >= needed:
        return Steady(seen, now)
    kept = replace(before.told, observed=seen.observed)
    return Steady(kept, before.changed_at, before.streak + 1)
