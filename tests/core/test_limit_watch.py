"""When decisions without Postgres are worth telling."""

import pytest

from holdfast.core.health import LimitTotal
from holdfast.core.limit_watch import KEPT_FOR, Seen, look


def totals(postgres: int, memory: int) -> list[LimitTotal]:
    return [LimitTotal("a", "postgres", "admitted", postgres), LimitTotal("b", "memory", "refused", memory)]


@pytest.mark.parametrize(
    ("postgres", "memory", "told"),
    [(0, 20, 20), (0, 19, 0), (380, 20, 20), (400, 20, 0), (10_000, 0, 0)],
)
def test_a_few_and_a_small_share_are_nothing(postgres: int, memory: int, told: int) -> None:
    seen, found = look(Seen(50, 10), totals(40 + postgres, 10 + memory))
    assert found == told
    assert (seen.decided, seen.alone) == (50 + postgres + memory, 10 + memory)


def test_what_was_there_before_the_first_look_is_not_told() -> None:
    assert look(None, totals(0, 1000)) == (Seen(1000, 1000), 0)


def test_it_is_over_after_some_quiet_looks() -> None:
    seen, _ = look(Seen(0, 0), totals(0, 100))
    kept = [seen.kept]
    while seen.kept:
        seen, news = look(seen, totals(0, 100))
        assert news == 0
        kept.append(seen.kept)
    assert kept == list(range(KEPT_FOR, -1, -1))
    assert Seen.read(seen.as_json()) == seen
    assert Seen.read(None) is None
