"""Where a worker's claims begin, by a clock of the test's own."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from holdfast.postgres.calls import Claimed, Floor
from holdfast.services import front
from holdfast.services.front import Front

START = datetime(2026, 1, 1, tzinfo=UTC)


def claimed(n: int) -> Claimed:
    """The n-th job of a queue."""
    empty = dict.fromkeys(Claimed._fields)
    return Claimed(**{**empty, "id": UUID(int=n + 1), "priority": 0, "run_at": START + timedelta(seconds=n)})  # type: ignore[arg-type]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(front, "time", made)
    return made


@pytest.fixture
def look(clock: Clock) -> Callable[[Front, float], None]:
    """A claim at the front that takes so long."""

    def look(of: Front, took: float) -> None:
        asked_at = clock.now
        clock.now += took
        of.answered(None, asked_at)

    return look


def behind(of: Front) -> Floor | None:
    of.go_on_behind([claimed(n) for n in range(3)], is_full=True)
    return of.begin()


def test_a_full_claim_goes_on_behind_the_last_for_a_second(clock: Clock, look: Callable[[Front, float], None]) -> None:
    mine = Front()
    assert mine.begin() is None
    look(mine, 0.002)
    floor = behind(mine)
    assert floor is not None
    assert floor.id == claimed(2).id
    clock.now += 1.0
    assert mine.begin() is None
    mine.go_on_behind([claimed(3)], is_full=False)
    assert mine.begin() is None, "there was no more, so what comes may stand anywhere"


def test_slow_once_is_a_hiccup_and_slow_twice_a_reason(clock: Clock, look: Callable[[Front, float], None]) -> None:
    mine = Front()
    look(mine, 0.002)
    look(mine, 0.5)
    assert mine.wait() == 0
    look(mine, 0.2)
    assert mine.wait() == pytest.approx(20 * (0.2 - 0.002 - 0.01) - 0.2)
    assert behind(mine) is not None
    mine.go_on_behind([], is_full=False)
    assert mine.begin() is not None, "where the front is slow, it goes on behind what was claimed last"
    clock.now += 10
    assert mine.begin() is None
    look(mine, 0.002)
    assert mine.wait() == 0, "the snapshot is gone"


def test_where_all_claims_have_become_slow_the_front_is_looked_at_each_second_again(clock: Clock) -> None:
    mine = Front()
    looked_at = []
    for n, took in enumerate([0.002, *[0.6] * 60]):
        floor, asked_at = mine.begin(), clock.now
        looked_at += [asked_at] if floor is None else []
        clock.now += took
        mine.answered(floor, asked_at)
        mine.go_on_behind([claimed(n)], is_full=True)
    assert looked_at[-1] - looked_at[-2] == pytest.approx(1.2)
