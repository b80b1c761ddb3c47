"""The circuit breaker: how long what fails is left alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.breaker import PAUSES, Breaker, State


def broken(times: int, *, dice: float = 0.5, now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(times):
        breaker = breaker.failed(now, dice)
    return breaker


def test_it_is_closed_until_something_fails_and_again_after_a_success() -> None:
    assert Breaker().state(now=5.0) is State.CLOSED
    assert broken(3).succeeded().state(now=0.0) is State.CLOSED


@pytest.mark.parametrize(("failures", "pause"), [(1, 1.0), (2, 2.0), (3, 4.0), (6, 30.0), (1000, 30.0)])
def test_each_failure_in_a_row_doubles_the_pause_up_to_half_a_minute(failures: int, pause: float) -> None:
    assert broken(failures, now=100.0).until == pytest.approx(100.0 + pause)


def test_after_the_pause_one_trial_decides() -> None:
    breaker = broken(2)
    assert [breaker.state(now) for now in (1.9, 2.0)] == [State.OPEN, State.TRIAL]
    assert breaker.failed(2.0, 0.5).state(5.9) is State.OPEN


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_chance_spreads_the_pause_and_never_beyond_a_third(failures: int, dice: float) -> None:
    pause = broken(failures, dice=dice).until
    exact = min(PAUSES.cap, 2.0 ** min(failures - 1, 10))
    assert exact * 2 / 3 - 1e-9 <= pause <= exact * 4 / 3 + 1e-9
