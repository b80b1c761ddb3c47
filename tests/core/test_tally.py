"""The rule in memory: what a process begins with when it is on its own, and what stays in its log."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.ratelimit import Limit, Policy
from holdfast.core.tally import SLACK, Tally

TEN = Policy.parse("10/minute")


def hit(tally: Tally, policy: Policy, now: float, cost: int = 1) -> bool:
    return tally.step(policy, cost, 1, 0, now) > 0


def test_the_eleventh_waits_until_the_first_leaves_the_window() -> None:
    tally = Tally()
    assert all(hit(tally, TEN, float(second)) for second in range(10))
    assert not hit(tally, TEN, 10.0)
    (quota,) = tally.quotas(TEN, 1, 10.0)
    assert (quota.remaining, quota.retry_after, quota.reset_after) == (0, 50.0, 59.0)
    assert hit(tally, TEN, 60.0)


def test_a_debt_is_charged_without_room_and_delays_the_next() -> None:
    tally = Tally()
    assert tally.step(TEN, 1, 0, 14, 0.0) == 0
    assert not hit(tally, TEN, 59.0)
    assert hit(tally, TEN, 60.0)


@pytest.mark.parametrize("text", ["10/minute", "10/minute fixed", "10/minute gcra"])
def test_what_was_refunded_was_never_there(text: str) -> None:
    policy, tally = Policy.parse(text), Tally()
    for second in range(10):
        assert hit(tally, policy, second / 10)
    assert not hit(tally, policy, 1.0)
    tally.refund(policy, 1, 0.5)
    assert hit(tally, policy, 1.0)
    assert not hit(tally, policy, 1.0)


def test_a_refund_after_its_window_has_passed_frees_nothing_in_the_next() -> None:
    policy, tally = Policy.parse("2/minute fixed"), Tally()
    assert hit(tally, policy, 0.0)
    assert [hit(tally, policy, 61.0) for _ in range(3)] == [True, True, False]
    tally.refund(policy, 1, 0.0)
    assert not hit(tally, policy, 62.0)


@given(
    st.lists(st.tuples(st.sampled_from([1.0, 10.0, 60.0, 3600.0]), st.integers(1, 300)), min_size=1, max_size=4),
    st.lists(st.integers(0, 300), min_size=4, max_size=4),
)
def test_a_seeded_tally_knows_at_least_what_was_used(limits: list[tuple[float, int]], used: list[int]) -> None:
    policy = Policy(tuple(Limit(most, window) for window, most in limits))
    spent = [min(units, limit.most) for units, limit in zip(used, policy.limits, strict=False)]
    tally = Tally()
    tally.seed(policy.limits, spent, 1000.0)
    for quota, units in zip(tally.quotas(policy, 1, 1000.0), spent, strict=True):
        assert quota.limit.most - quota.remaining >= units
    assert max(spent) == 0 or tally.quotas(policy, 1, 1000.0 + policy.longest)[-1].remaining >= 0


def test_a_log_of_a_large_limit_stays_short_however_many_come() -> None:
    policy, tally = Policy.parse("100000/minute"), Tally()
    for n in range(20_000):
        hit(tally, policy, n / 100)
    assert len(tally) <= 61 + SLACK


def test_limits_of_many_windows_share_one_short_log() -> None:
    policy, tally = Policy.parse("5/second, 100/minute, 1000/day"), Tally()
    admitted = [now for now in (n / 4 for n in range(8000)) if hit(tally, policy, now)]
    assert len(admitted) == 1000
    assert len(tally) <= 5 + 100 + 61 + 2 * SLACK
