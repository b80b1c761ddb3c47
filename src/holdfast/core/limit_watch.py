"""Whether rate limits were decided without Postgres, seen from the totals that limiting processes tell the ledger.

What a process decides while Postgres does not answer it, it tells later. So a look compares the totals with those of
the look before, and what was found is kept for a few looks: processes do not tell all at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.core.health import LimitTotal

#: A few decisions are made in memory wherever a process starts or one answer is late; so many, and of all such a share,
#: are more than that.
FEWEST, SHARE = 20, 0.05
#: Looks in a row that must find nothing more until it is over.
KEPT_FOR = 4


@dataclass(frozen=True)
class Seen:
    """Totals at a look, how many of them were decided without Postgres, and for how many more looks that is told."""

    decided: int
    alone: int
    kept: int = 0

    @classmethod
    def read(cls, stored: Mapping[str, Any] | None) -> "Seen | None":
        """What `as_json` gave; None where there is nothing yet."""
        return cls(**stored) if stored else None

    def as_json(self) -> dict[str, int]:
        return {"decided": self.decided, "alone": self.alone, "kept": self.kept}


def look(before: Seen | None, totals: Sequence[LimitTotal]) -> tuple[Seen, int]:
    """The next `Seen`, and how many decisions without Postgres are news (0: none worth telling).

    >>> exact = LimitTotal("default", "postgres", "admitted", 1000)
    >>> before, _ = look(None, [exact])
    >>> look(before, [exact, LimitTotal("default", "memory", "refused", 40)])
    (Seen(decided=1040, alone=40, kept=4), 40)
    """
    decided = sum(total.decisions for total in totals)
    alone = sum(total.decisions for total in totals if total.source == "memory")
    if before is None:
        return Seen(decided, alone), 0
    news, all_news = alone - before.alone, decided - before.decided
    if news >= FEWEST and news >= SHARE * all_news:
        return Seen(decided, alone, KEPT_FOR), news
    return Seen(decided, alone, max(before.kept - 1, 0)), 0
