"""The rate limiter over a real Postgres, and over one that stands still."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from holdfast import Decision, Holdfast
from holdfast.core.ratelimit import Limit
from holdfast.errors import InvalidArguments
from holdfast.services.limiter import RateLimiter
from tests.services.helpers import Relay, until
from tests.support import Session, row

PER_HOUR = Limit(30, 3600.0)
PATIENT = 30.0  # so that a busy machine does not make a limiter turn to memory


@asynccontextmanager
async def limiting(dsn: str, *, deadline: float = PATIENT) -> AsyncIterator[RateLimiter]:
    limiter = RateLimiter(dsn, deadline=deadline)
    await limiter.start()
    try:
        await until(lambda: limiter.mode == "postgres")
        yield limiter
    finally:
        await limiter.stop()


async def test_instances_side_by_side_admit_the_limit_exactly_in_few_round_trips(database: str, conn: Session) -> None:
    async with limiting(database) as one, limiting(database) as other:
        decisions = await asyncio.gather(*(each.hit("k", PER_HOUR) for each in [one, other] * 50))
    assert sum(decision.allowed for decision in decisions) == 30
    assert {decision.source for decision in decisions} == {"postgres"}
    refused = [decision for decision in decisions if not decision.allowed]
    # A stamp of somebody who was let in just before may be a moment later than the clock that a waiting call has read.
    assert all(0 < decision.retry_after < 3601 and decision.remaining == 0 for decision in refused)
    assert sorted(decision.remaining for decision in decisions if decision.allowed)[0] == 0
    assert row(conn, "SELECT cardinality(stamps) AS n, key FROM holdfast.rate_limit_requests")["n"] == 30


async def test_identities_are_kept_as_hashes(database: str, conn: Session) -> None:
    async with limiting(database) as limiter:
        await limiter.hit("192.0.2.7", PER_HOUR)
    assert "192.0.2.7" not in row(conn, "SELECT key FROM holdfast.rate_limit_requests")["key"]


async def test_larger_costs_are_admitted_whole_beside_single_ones(database: str) -> None:
    async with limiting(database) as limiter:
        costs = [1, 10, 1, 25, 1, 10, 1]
        decisions = await asyncio.gather(*(limiter.hit("k", PER_HOUR, cost=cost) for cost in costs))
        admitted = sum(cost for cost, decision in zip(costs, decisions, strict=True) if decision.allowed)
        assert 4 + 10 <= admitted <= 30
        assert not (await limiter.hit("k", PER_HOUR, cost=30)).allowed


@pytest.mark.parametrize("cost", [0, 31])
async def test_a_cost_that_could_never_be_admitted_is_refused(database: str, cost: int) -> None:
    with pytest.raises(InvalidArguments, match=f"cost is {cost}; it must be from 1 to the limit, 30"):
        await RateLimiter(database).hit("k", PER_HOUR, cost=cost)


async def test_while_postgres_stands_still_memory_goes_on_from_what_was_admitted(relay: Relay) -> None:
    async with limiting(relay.dsn) as limiter:
        assert [(await limiter.hit("k", PER_HOUR)).source for _ in range(20)] == ["postgres"] * 20
        limiter._deadline = 0.05
        relay.hold("holdfast limiter")
        decisions = [await limiter.hit("k", PER_HOUR) for _ in range(15)]
        assert {decision.source for decision in decisions} == {"memory"}
        assert [decision.allowed for decision in decisions] == [True] * 10 + [False] * 5
        assert limiter.mode == "memory"
        relay.let_go("holdfast limiter")
        limiter._deadline = PATIENT
        await until(lambda: limiter.mode == "postgres")
        assert (await limiter.hit("k", PER_HOUR)).source == "postgres"


async def test_no_request_waits_for_a_postgres_that_is_known_to_stand_still(relay: Relay) -> None:
    async with limiting(relay.dsn, deadline=0.05) as limiter:
        relay.hold("holdfast limiter")
        while (await limiter.hit("k", Limit(1000, 3600.0))).source == "postgres":
            pass
        asked = len(relay.asked)
        decisions = await asyncio.gather(*(limiter.hit(f"k{n}", PER_HOUR) for n in range(200)))
        assert {decision.source for decision in decisions} == {"memory"}
        assert len([name for name, text in relay.asked[asked:] if b"rate_limit_hits" in text]) == 0
        relay.let_go("holdfast limiter")


async def test_without_any_postgres_memory_decides_from_the_start() -> None:
    limiter = RateLimiter("postgresql://u@127.0.0.1:1/x")
    await limiter.start()
    decisions = [await limiter.hit("k", Limit(2, 60.0)) for _ in range(3)]
    await limiter.stop()
    assert [(decision.allowed, decision.source) for decision in decisions] == [
        (True, "memory"),
        (True, "memory"),
        (False, "memory"),
    ]


async def test_a_program_asks_for_one_request_over_all_its_processes(database: str, hf: Holdfast) -> None:
    async with Holdfast(database) as other:
        limiters = [await each._open_limiter() for each in (hf, other)]
        for limiter in limiters:
            limiter._deadline = PATIENT
        await until(lambda: {limiter.mode for limiter in limiters} == {"postgres"})
        decisions = [await each.rate_limit("user:42", 3, 3600) for each in (hf, other, hf, other)]
    assert [decision.allowed for decision in decisions] == [True, True, True, False]
    assert isinstance(decisions[0], Decision)


async def test_a_program_without_postgres_is_answered_from_memory() -> None:
    async with Holdfast("postgresql://u@127.0.0.1:1/x") as app:
        decisions = [await app.rate_limit("user:42", 1, 3600) for _ in range(2)]
    assert [(decision.allowed, decision.source) for decision in decisions] == [(True, "memory"), (False, "memory")]
