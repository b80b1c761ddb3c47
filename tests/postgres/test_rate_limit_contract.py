"""One contract for the rule in memory and the rule in Postgres, against a model that keeps every request.

The rule in Postgres is a function of the time and of what was there, so it is asked here with times of our own.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from holdfast.core.ratelimit import EXACT, GRAINS, Limit, Policy
from holdfast.core.tally import Tally
from tests.support import Session, row


class Rule(Protocol):
    """What is held to the contract: units granted, what each limit leaves, and when the same cost fits."""

    def hit(self, policy: Policy, cost: int, wanted: int, debt: int, now: int) -> int: ...
    def left(self, policy: Policy, cost: int, now: int) -> list[tuple[int, float]]: ...


class InMemory:
    def __init__(self) -> None:
        self._tally = Tally()

    def hit(self, policy: Policy, cost: int, wanted: int, debt: int, now: int) -> int:
        return self._tally.step(policy, cost, wanted, debt, float(now))

    def left(self, policy: Policy, cost: int, now: int) -> list[tuple[int, float]]:
        return [(quota.remaining, quota.retry_after) for quota in self._tally.quotas(policy, cost, float(now))]


STEP = """
SELECT s.base, s.stamps, s.sums, s.marks, s.granted, s.answer
FROM holdfast.rate_limit_step(%s, %s, %s::bigint[], %s::bigint[], %s::bigint[], %s::integer[], %s::bigint[], %s::text[],
                              %s::integer[], 1, %s, %s, %s, %s) s
"""


class InPostgres:
    def __init__(self, conn: Session) -> None:
        self._conn = conn
        self._state: list[Any] = [0, [], [], None]

    def hit(self, policy: Policy, cost: int, wanted: int, debt: int, now: int) -> int:
        found = self._step(policy, cost, wanted, debt, now)
        self._state = [found["base"], found["stamps"], found["sums"], found["marks"]]
        granted: int = found["granted"]
        return granted

    def left(self, policy: Policy, cost: int, now: int) -> list[tuple[int, float]]:
        answer = self._step(policy, cost, 0, 0, now)["answer"]
        return [(answer[3 * place + 2], answer[3 * place + 3] / 1e6) for place in range(len(policy.limits))]

    def _step(self, policy: Policy, cost: int, wanted: int, debt: int, now: int) -> dict[str, Any]:
        limits = policy.limits
        return row(
            self._conn,
            STEP,
            now * 1_000_000,
            *self._state,
            [limit.most for limit in limits],
            [round(limit.window * 1e6) for limit in limits],
            [limit.algorithm for limit in limits],
            [limit.capacity if limit.algorithm == "gcra" else 0 for limit in limits],
            len(limits),
            cost,
            wanted,
            debt,
        )


@dataclass
class Model:
    """Every unit ever admitted, and the rules by their definitions."""

    policy: Policy
    admitted: list[tuple[int, int]] = field(default_factory=list)
    starts: dict[int, int] = field(default_factory=dict)
    paid: dict[int, float] = field(default_factory=dict)

    def units(self, after: float, until: float) -> int:
        """Admitted later than `after`, and until then."""
        return sum(units for at, units in self.admitted if after < at <= until)

    def room(self, place: int, limit: Limit, now: int, late: float = 0.0) -> int:
        if limit.algorithm == "log":
            return limit.most - self.units(now - limit.window - late, now)
        if limit.algorithm == "fixed":
            start = self.starts.get(place, -(10**9))
            return limit.most - (self.units(start - 0.5, now) if now < start + limit.window else 0)
        ahead = max(self.paid.get(place, -math.inf) - now, 0.0)
        return limit.capacity - math.ceil(ahead * limit.most / limit.window - 1e-6)

    def admit(self, units: int, now: int) -> None:
        if not units:
            return
        for place, limit in enumerate(self.policy.limits):
            if limit.algorithm == "fixed" and now >= self.starts.get(place, -(10**9)) + limit.window:
                self.starts[place] = now
            if limit.algorithm == "gcra":
                paid = max(self.paid.get(place, -math.inf), now) + units * limit.window / limit.most
                self.paid[place] = min(paid, now + (limit.capacity + limit.most) * limit.window / limit.most)
        self.admitted.append((now, units))


@pytest.fixture(params=["memory", "postgres"])
def rule(request: pytest.FixtureRequest) -> Callable[[], Rule]:
    if request.param == "memory":
        return InMemory
    conn: Session = request.getfixturevalue("conn")
    return lambda: InPostgres(conn)


def limits(algorithms: tuple[str, ...], least: int, most: int) -> st.SearchStrategy[Limit]:
    def made(number: int, window: int, algorithm: str, burst: int) -> Limit:
        return Limit(number, float(window), algorithm, burst if algorithm == "gcra" else 0)  # type: ignore[arg-type]

    windows = st.sampled_from([2, 10, 60, 600])
    return st.builds(made, st.integers(least, most), windows, st.sampled_from(algorithms), st.integers(0, 9))


def policies(algorithms: tuple[str, ...], least: int = 1, most: int = 12) -> st.SearchStrategy[Policy]:
    one = limits(algorithms, least, most)
    return st.lists(one, min_size=1, max_size=4).map(lambda found: Policy(tuple(found)))


#: Seconds since the last request: often just at the edge of a window.
EDGES = st.one_of(st.sampled_from([0, 1, 2, 9, 10, 59, 60]), st.integers(0, 30))
#: Seconds since the last, cost, how many at once, and what was admitted elsewhere meanwhile.
STEPS = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 4), st.integers(1, 5), st.sampled_from([0, 0, 0, 0, 0, 3])),
    max_size=30,
)
THOROUGH = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def check_window(policy: Policy, model: Model, hits: list[tuple[int, int]]) -> None:
    """No window of any position holds more than its limit of what was admitted here; debts were admitted elsewhere."""
    for limit in policy.limits:
        factor = {"log": 1.0, "fixed": 2.0, "gcra": 0.0}[limit.algorithm]
        bound = limit.most * factor if factor else limit.capacity + limit.most
        for start, _ in hits:
            held = sum(units for at, units in hits if start <= at < start + limit.window)
            assert held <= bound, f"{held} in {limit.window:g} s from {start}, limit {limit}"


@THOROUGH
@given(policies(("log", "fixed", "gcra")), STEPS)
@example(Policy((Limit(1, 2.0, "gcra", 2),)), [(0, 1, 2, 0), (0, 1, 1, 3), (0, 1, 1, 0), (8, 1, 1, 0)])
def test_each_request_is_decided_as_the_model_decides(
    rule: Callable[[], Rule], policy: Policy, steps: list[tuple[int, int, int, int]]
) -> None:
    subject, model, now, hits = rule(), Model(policy), 1_000, []
    for step, most, wanted, debt in steps:
        now += step
        cost = min(most, policy.capacity)
        model.admit(debt, now)
        room = min(model.room(place, limit, now) for place, limit in enumerate(policy.limits))
        expected = min(wanted, max(room, 0) // cost) * cost
        assert subject.hit(policy, cost, wanted, debt, now) == expected
        model.admit(expected, now)
        hits.append((now, expected))
        for place, (left, _) in enumerate(subject.left(policy, cost, now)):
            assert left == max(model.room(place, policy.limits[place], now), 0)
    check_window(policy, model, hits)


@THOROUGH
@given(policies(("log", "fixed", "gcra")), STEPS)
def test_who_comes_when_told_is_admitted_and_not_a_second_earlier(
    rule: Callable[[], Rule], policy: Policy, steps: list[tuple[int, int, int, int]]
) -> None:
    subject, model, now = rule(), Model(policy), 1_000
    for step, most, _, _ in steps:
        now += step
        cost = min(most, policy.capacity)
        if subject.hit(policy, cost, 1, 0, now):
            model.admit(cost, now)
            continue
        wait = max(wait for _, wait in subject.left(policy, cost, now))
        early = now + math.ceil(wait) - 1
        if early >= now and early < now + wait - 1e-5:
            assert min(model.room(place, limit, early) for place, limit in enumerate(policy.limits)) < cost
        now += math.ceil(wait - 1e-9)
        assert subject.hit(policy, cost, 1, 0, now) == cost, f"told to come after {wait} s"
        model.admit(cost, now)


@THOROUGH
@given(
    policies(("log",), EXACT + 1, 2_000),
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 400), st.integers(1, 4)), min_size=5, max_size=40),
)
def test_large_limits_never_admit_too_much_and_free_places_at_most_a_sixtieth_late(
    rule: Callable[[], Rule], policy: Policy, steps: list[tuple[int, int, int]]
) -> None:
    subject, model, now, hits = rule(), Model(policy), 1_000, []
    for step, most, wanted in steps:
        now += step
        cost = min(most, policy.capacity)
        granted = subject.hit(policy, cost, wanted, 0, now)
        sure = min(
            model.room(place, limit, now, late=limit.window / GRAINS) for place, limit in enumerate(policy.limits)
        )
        assert granted >= min(wanted, max(sure, 0) // cost) * cost
        model.admit(granted, now)
        hits.append((now, granted))
    check_window(policy, model, hits)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_log_that_was_thinned_again_and_again_still_holds_the_bound(rule: Callable[[], Rule], seed: int) -> None:
    rng = random.Random(seed)
    policy = Policy.parse("3/second, 40 per 60 seconds, 400 per 1 hours")
    subject, now, hits = rule(), 1_000, []
    for _ in range(600):
        now += rng.choice([0, 0, 1, 1, 2, 25])
        hits.append((now, subject.hit(policy, 1, 2, 0, now)))
    check_window(policy, Model(policy), hits)
    assert sum(units for _, units in hits) > 300
