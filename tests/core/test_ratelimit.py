"""The rule of the rate limit in memory, and how limits are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.ratelimit import Limit, MemoryLog
from holdfast.errors import ConfigurationError

TEN = Limit(10, 60.0)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("100/minute", Limit(100, 60.0)),
        ("5 per 10 seconds", Limit(5, 10.0)),
        ("1/day", Limit(1, 86400.0)),
        (" 7 / 2 hours ", Limit(7, 7200.0)),
    ],
)
def test_a_limit_is_written_as_people_say_it(text: str, limit: Limit) -> None:
    assert Limit.parse(text) == limit


@pytest.mark.parametrize("text", ["", "100", "100/fortnight", "0/minute", "1001/minute", "1 per 2 days", "-1/second"])
def test_a_limit_that_cannot_be_is_refused_with_its_text_or_number(text: str) -> None:
    with pytest.raises(ConfigurationError, match="rate limit"):
        Limit.parse(text)


def test_the_eleventh_waits_until_the_first_leaves_the_window() -> None:
    log = MemoryLog()
    assert all(log.hit("a", TEN, 1, float(second)).allowed for second in range(10))
    refused = log.hit("a", TEN, 1, 10.0)
    assert (refused.allowed, refused.remaining, refused.retry_after, refused.reset_after) == (False, 0, 50.0, 59.0)
    assert log.hit("b", TEN, 1, 10.0).allowed
    assert log.hit("a", TEN, 1, 60.0).allowed


def test_a_cost_is_admitted_whole_or_not_at_all() -> None:
    log = MemoryLog()
    assert log.hit("a", TEN, 8, 0.0).remaining == 2
    assert not log.hit("a", TEN, 3, 1.0).allowed
    assert log.hit("a", TEN, 2, 2.0).allowed
    assert log.hit("a", TEN, 10, 3.0).retry_after == 59.0


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(1, 4)), max_size=60))
def test_no_window_ever_holds_more_than_the_limit(steps: list[tuple[float, int]]) -> None:
    limit, log, now = Limit(5, 10.0), MemoryLog(), 0.0
    admitted: list[float] = []
    for step, cost in steps:
        now += step
        decision = log.hit("a", limit, cost, now)
        admitted += [now] * cost * decision.allowed
        if not decision.allowed:
            assert log.hit("a", limit, cost, now + decision.retry_after + 1e-6).allowed
            now += decision.retry_after + 1e-6
            admitted += [now] * cost
    for start in admitted:
        assert sum(1 for each in admitted if start <= each < start + limit.window - 1e-6) <= limit.most


def test_invented_identities_share_one_place_and_free_nobody() -> None:
    log = MemoryLog(most_keys=3)
    for key in "abc":
        log.hit(key, TEN, 10, 0.0)
    outcomes = [log.hit(f"new {n}", TEN, 1, 1.0).allowed for n in range(12)]
    assert outcomes == [True] * 10 + [False] * 2
    assert not any(log.hit(key, TEN, 1, 2.0).allowed for key in "abc")
    assert len(log) == 4
    assert log.hit("later", TEN, 1, 70.0).allowed
    assert len(log) <= 4


def test_what_somebody_else_admitted_counts() -> None:
    log = MemoryLog()
    log.note("a", TEN, 9, 0.0)
    assert [log.hit("a", TEN, 1, 1.0).allowed for _ in range(2)] == [True, False]
