"""How limits and policies are written, and what a decision says."""

import pytest

from holdfast.core.ratelimit import Limit, Policy, Quota, decision
from holdfast.core.ratelimit_fields import fields, problem
from holdfast.errors import ConfigurationError

MINUTE = Limit(100, 60.0)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("100/minute", MINUTE),
        ("5 per 10 seconds", Limit(5, 10.0)),
        ("1/day", Limit(1, 86400.0)),
        (" 7 / 2 hours ", Limit(7, 7200.0)),
        ("50/s", Limit(50, 1.0)),
        ("1000/day fixed", Limit(1000, 86400.0, "fixed")),
        ("600/minute gcra", Limit(600, 60.0, "gcra")),
        ("600/min gcra burst 20", Limit(600, 60.0, "gcra", 20)),
    ],
)
def test_a_limit_is_written_as_people_say_it(text: str, limit: Limit) -> None:
    assert Limit.parse(text) == limit


@pytest.mark.parametrize(
    "text",
    [
        "",
        "100",
        "100/fortnight",
        "0/minute",
        "1000000001/minute",
        "1 per 32 days",
        "-1/second",
        "9" * 5000 + "/second",
        "1 per " + "9" * 5000 + " seconds",
        "10/minute fixed burst 3",
        "10/minute log burst 3",
        "1/second,",
        ",".join(["1/second"] * 6),
    ],
)
def test_a_limit_that_cannot_be_is_refused_with_its_text_or_number(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"rate limit|burst|a policy of 6 limits"):
        Policy.parse(text)


@pytest.mark.parametrize("most", [True, 1.5, "3", None])
def test_a_limit_of_something_else_than_a_number_is_refused(most: object) -> None:
    with pytest.raises(ConfigurationError, match="a rate limit of"):
        Limit(most, 60.0)  # type: ignore[arg-type]


def test_a_policy_is_made_of_all_the_ways_to_write_one() -> None:
    wanted = (Limit(5, 1.0), MINUTE)
    assert Policy.of("5/second, 100/minute").limits == wanted
    assert Policy.of(["5/second", MINUTE]).limits == wanted
    assert Policy.of(MINUTE) == Policy((MINUTE,), "100;w=60")
    with pytest.raises(ConfigurationError, match="a rate limit is 7"):
        Policy.of(7)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "ü", " a", "x" * 100])
def test_a_name_that_no_header_can_carry_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="a policy is called"):
        Policy((MINUTE,), name)


def test_a_share_is_a_part_of_the_limit_and_at_least_one() -> None:
    assert Limit(100, 60.0).share(3) == Limit(33, 60.0)
    assert Limit(2, 60.0).share(3) == Limit(1, 60.0)
    assert Limit(100, 60.0, "gcra", 10).share(4) == Limit(25, 60.0, "gcra", 2)


def test_several_limits_are_told_by_name_each_and_the_tightest_speaks_for_all() -> None:
    policy = Policy.parse("5/second, 100/minute", name="search")
    second, minute = policy.limits
    made = decision(
        policy,
        (Quota(second, 4, 0.0, 0.9), Quota(minute, 0, 12.2, 59.0)),
        allowed=False,
        source="postgres",
        key="k",
        cost=1,
    )
    assert (made.limit, made.remaining, made.retry_after, made.violated) == (minute, 0, 12.2, (minute,))
    assert not made
    assert dict(fields(made, ("draft-11", "legacy"))) == {
        "RateLimit-Policy": '"search-1s";q=5;w=1, "search-60s";q=100;w=60',
        "RateLimit": '"search-1s";r=4;t=1, "search-60s";r=0;t=13',
        "X-RateLimit-Limit": "100",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": "13",
        "Retry-After": "13",
    }
    assert problem(made)["violated-policies"] == ["search-60s"]
    assert problem(made)["detail"] == "100 requests in 60 s are admitted; try again in 13 s."
    once = Policy.parse("1/hour")
    quotas = (Quota(once.limits[0], 0, 9.0, 9.0),)
    assert problem(decision(once, quotas, allowed=False, source="postgres", key="ann", cost=1))["detail"] == (
        "1 request in 3600 s is admitted; try again in 9 s."
    )


def test_retry_after_is_never_earlier_than_the_reset_told() -> None:
    policy = Policy.parse("1/second", name="p")
    for wait in (0.0, 0.001, 0.999, 1.0, 1.0001):
        quotas = (Quota(policy.limits[0], 0, wait, wait),)
        made = decision(policy, quotas, allowed=False, source="cache", key="k", cost=1)
        told = dict(fields(made))
        assert int(told["Retry-After"]) >= max(int(told["RateLimit"].partition(";t=")[2]), 1)


def test_a_shadowed_refusal_is_admitted_and_says_so() -> None:
    policy = Policy.parse("1/second", name="p", shadow=True)
    made = decision(policy, (Quota(policy.limits[0], 0, 0.5, 0.5),), allowed=False, source="postgres", key="k", cost=1)
    assert (made.allowed, made.shadowed, made.violated) == (True, True, policy.limits)
