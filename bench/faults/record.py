"""docs/peers.json, and the worst of several rounds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[2] / "docs" / "peers.json"


@dataclass(frozen=True)
class Worst:
    """Of all rounds of one system in one fault; seconds are None where nothing of the kind was seen in any round."""

    title: str
    rounds: int
    hit: int
    lost: int
    stuck: int
    overlaps: int
    twice: int
    late_writes: int
    not_again: int
    restarts: int
    again: float | None
    resumed: float | None
    all_ended: float | None


def worst(title: str, rounds: Sequence[Mapping[str, Any]]) -> Worst:
    """The largest of each figure.

    >>> one = dict.fromkeys(["hit", "lost", "stuck", "overlaps", "twice", "late_writes", "not_again", "restarts"], 0)
    >>> worst("x", [{**one, "again": 1.0, "resumed": None, "all_ended": 3.0}]).again
    1.0
    """

    def most(name: str) -> int:
        return max(int(each[name]) for each in rounds)

    def longest(name: str) -> float | None:
        return max((float(each[name]) for each in rounds if each[name] is not None), default=None)

    return Worst(
        title, len(rounds), most("hit"), most("lost"), most("stuck"), most("overlaps"), most("twice"),
        most("late_writes"), most("not_again"), most("restarts"), longest("again"), longest("resumed"),
        longest("all_ended"),
    )  # fmt: skip
