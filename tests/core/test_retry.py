"""Back-off between attempts."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.retry import DEFAULT_RETRY, LONGEST, RetryPolicy, from_json

policies = st.builds(
    RetryPolicy,
    base=st.floats(0, LONGEST),
    factor=st.floats(1, 1000),
    cap=st.floats(0, LONGEST),
    jitter=st.floats(0, 1),
)
attempts = st.integers(1, 10**6)
dice = st.floats(0, 1)


@given(policies, attempts, dice)
def test_a_delay_is_a_finite_number_within_jitter_of_the_cap(policy: RetryPolicy, attempt: int, die: float) -> None:
    delay = policy.delay(attempt, die)
    assert math.isfinite(delay)
    assert 0 <= delay <= policy.cap * (1 + policy.jitter) * (1 + 1e-9)


@given(policies, attempts, dice)
def test_a_later_attempt_never_waits_less_by_the_same_dice(policy: RetryPolicy, attempt: int, die: float) -> None:
    assert policy.delay(attempt, die) <= policy.delay(attempt + 1, die)


@given(policies, attempts)
def test_jitter_spreads_evenly_around_the_exact_delay(policy: RetryPolicy, attempt: int) -> None:
    low, middle, high = (policy.delay(attempt, die) for die in (0, 0.5, 1))
    assert low == pytest.approx(middle * (1 - policy.jitter))
    assert high == pytest.approx(middle * (1 + policy.jitter))


@given(policies)
def test_a_policy_comes_back_from_the_row_as_it_was(policy: RetryPolicy) -> None:
    assert from_json(policy.as_json()) == policy


def test_the_first_failure_waits_for_the_base_and_each_later_one_for_the_factor_more() -> None:
    policy = RetryPolicy(base=3, factor=4, cap=100, jitter=0)
    assert [policy.delay(attempt, 0.9) for attempt in (1, 2, 3, 4)] == [3, 12, 48, 100]


@pytest.mark.parametrize("stored", [None, {}, {"unknown": 1.0}])
def test_a_row_without_a_policy_has_the_default(stored: dict[str, float] | None) -> None:
    assert from_json(stored) == DEFAULT_RETRY


def test_fields_that_a_row_lacks_have_their_defaults() -> None:
    assert from_json({"cap": 7.0}) == RetryPolicy(cap=7)


@pytest.mark.parametrize(
    "wrong",
    [
        {"base": -1}, {"factor": 0.9}, {"cap": -1}, {"jitter": 1.1}, {"jitter": -0.1},
        {"base": math.nan}, {"cap": math.inf}, {"factor": 1e200},
    ],
)  # fmt: skip
def test_a_policy_that_cannot_be_meant_is_refused_with_its_values(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=re.escape(f"{name}={wrong[name]}")):
        RetryPolicy(**wrong)


def test_a_policy_of_other_types_is_refused_with_its_values() -> None:
    with pytest.raises(ValueError, match=r"base='1'.*must be numbers"):
        RetryPolicy(base="1")  # type: ignore[arg-type]
