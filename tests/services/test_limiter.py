"""The rate limiter over a real Postgres: one count over all processes, shared round trips, and what it remembers."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from holdfast import Decision, Holdfast, Limit, Policy, RateLimiter, SyncRateLimiter
from holdfast.errors import ConfigurationError, InvalidArguments
from tests.services.helpers import Relay, until
from tests.support import Session, row, rows

PER_HOUR = Limit(30, 3600.0)
PATIENT = 30.0  # so that a busy machine does not make a limiter turn to memory


@asynccontextmanager
async def limiting(dsn: str | None, *, deadline: float = PATIENT, **given: Any) -> AsyncIterator[RateLimiter]:
    async with RateLimiter(dsn, deadline=deadline, **given) as limiter:
        if dsn is not None:
            await until(lambda: limiter.mode == "postgres")
        yield limiter


async def ask(limiter: RateLimiter, times: int, limits: Any = PER_HOUR, key: str = "k") -> list[bool]:
    """One after the other."""
    return [(await limiter.hit(key, limits)).allowed for _ in range(times)]


async def test_instances_side_by_side_admit_the_limit_exactly_in_few_round_trips(database: str, conn: Session) -> None:
    async with limiting(database) as one, limiting(database) as other:
        decisions = await asyncio.gather(*(each.hit("k", PER_HOUR) for each in [one, other] * 50))
        assert one.report().flights + other.report().flights <= 8
    assert sum(decision.allowed for decision in decisions) == 30
    assert {decision.source for decision in decisions} == {"postgres"}
    refused = [decision for decision in decisions if not decision.allowed]
    assert all(0 < decision.retry_after <= 3600 and decision.remaining == 0 for decision in refused)
    assert row(conn, "SELECT sums[cardinality(sums)] AS n FROM holdfast.rate_limit_requests")["n"] == 30


async def test_what_nobody_started_asks_postgres_from_its_first_request_on(database: str) -> None:
    fresh = [RateLimiter(database, deadline=PATIENT) for _ in range(3)]
    decisions = [await each.hit("k", "4/hour") for each in fresh for _ in range(2)]
    assert [decision.allowed for decision in decisions] == [True] * 4 + [False] * 2
    assert {decision.source for decision in decisions} == {"postgres"}
    for each in fresh:
        await each.stop()


async def test_a_lone_request_waits_for_no_other(relay: Relay) -> None:
    async with limiting(relay.dsn) as limiter:
        for n in range(5):
            await limiter.hit("k", PER_HOUR)
            assert relay.count(b"rate_limit_hits") == 1 + 1 + n, "one round trip each, after the look at the start"


async def test_who_has_no_room_is_refused_without_a_round_trip_until_there_is(relay: Relay) -> None:
    async with limiting(relay.dsn) as limiter:
        assert await ask(limiter, 3, "2 per 2 seconds") == [True, True, False]
        trips = relay.count(b"rate_limit_hits")
        refused = await limiter.hit("k", "2 per 2 seconds")
        assert (refused.source, relay.count(b"rate_limit_hits")) == ("cache", trips)
        assert 0 < refused.retry_after <= 2
        waited = await limiter.acquire("k", "2 per 2 seconds", timeout=30)
        assert (waited.allowed, waited.source) == (True, "postgres")


async def test_only_the_same_question_is_refused_from_memory(database: str) -> None:
    async with limiting(database) as limiter:
        assert (await limiter.hit("k", PER_HOUR, cost=29)).allowed
        assert (await limiter.hit("k", PER_HOUR, cost=5)).source == "postgres"
        assert (await limiter.hit("k", PER_HOUR, cost=5)).source == "cache"
        assert (await limiter.hit("k", PER_HOUR, cost=6)).source == "cache"
        assert (await limiter.hit("k", PER_HOUR, cost=1)).allowed
        wider = Policy((Limit(40, 3600.0),), Policy.of(PER_HOUR).name)
        assert (await limiter.hit("k", wider, cost=5)).allowed, "the same name with other limits is another question"


async def test_identities_are_kept_as_hashes(database: str, conn: Session) -> None:
    async with limiting(database) as limiter:
        await limiter.hit("192.0.2.7", PER_HOUR)
    kept = row(conn, "SELECT r::text AS line FROM holdfast.rate_limit_requests r")["line"]
    assert "192.0.2.7" not in kept


async def test_mixed_costs_are_each_admitted_whole_in_their_order(database: str) -> None:
    async with limiting(database) as limiter:
        costs = [1, 10, 1, 25, 1, 10, 1]
        decisions = await asyncio.gather(*(limiter.hit("k", PER_HOUR, cost=cost) for cost in costs))
        assert [decision.allowed for decision in decisions] == [True, True, True, False, True, True, True]
        assert [decision.cost for decision in decisions] == costs
        assert (await limiter.peek("k", PER_HOUR)).remaining == 30 - 24


async def test_mixed_costs_that_fit_go_together(database: str) -> None:
    async with limiting(database) as limiter:
        flights = limiter.report().flights
        decisions = await asyncio.gather(*(limiter.hit("k", PER_HOUR, cost=cost) for cost in [1, 2, 3, 4, 5]))
        assert all(decisions)
        assert limiter.report().flights == flights + 1
        assert (await limiter.peek("k", PER_HOUR)).remaining == 15


async def test_several_limits_hold_at_once_and_a_refusal_costs_none_of_them(database: str) -> None:
    limits = "2/second, 5/minute, 1000/day"
    async with limiting(database) as limiter:
        assert await ask(limiter, 6, limits) == [True, True, False, False, False, False]
        refused = await limiter.hit("k", limits)
        assert (refused.limit, refused.violated) == (Limit(2, 1.0), (Limit(2, 1.0),))
        assert [quota.remaining for quota in refused.quotas] == [0, 3, 998]
        assert (await limiter.acquire("k", limits, timeout=30)).allowed
        assert [quota.remaining for quota in (await limiter.peek("k", limits)).quotas] == [1, 2, 997]


@pytest.mark.parametrize("cost", [0, 31, 1.5, True, "1"])
async def test_a_cost_that_could_never_be_admitted_is_refused(database: str, cost: Any) -> None:
    with pytest.raises(InvalidArguments, match=f"cost is {cost!r}; it must be from 1 to the limit, 30"):
        await RateLimiter(database).hit("k", PER_HOUR, cost=cost)


async def test_a_shadow_admits_all_and_counts_what_it_would_have_refused(database: str) -> None:
    policy = Policy.parse("2/hour", name="shadow", shadow=True)
    async with limiting(database) as limiter:
        decisions = [await limiter.hit("k", policy) for _ in range(5)]
        assert all(decision.allowed for decision in decisions)
        assert [decision.shadowed for decision in decisions] == [False, False, True, True, True]
        assert limiter.report().decisions == {
            ("shadow", "postgres", "admitted"): 2,
            ("shadow", "postgres", "shadowed"): 3,
        }


# What an administrator does


async def test_a_refund_gives_the_place_back(database: str) -> None:
    async with limiting(database) as limiter:
        spent = [await limiter.hit("k", "2/hour") for _ in range(3)]
        assert await limiter.refund(spent[0])
        assert not await limiter.refund(spent[2]), "it was refused"
        assert await ask(limiter, 2, "2/hour") == [True, False]


async def test_a_reset_in_one_process_reaches_the_others(database: str) -> None:
    async with limiting(database) as one, limiting(database) as other:
        assert await ask(one, 3, "2/hour") == [True, True, False]
        assert await ask(other, 1, "2/hour") == [False]
        assert await one.reset("k", "2;w=3600") == 1

        async def admitted() -> bool:
            return (await other.hit("k", "2/hour")).allowed

        assert await until(admitted, seconds=20)


async def test_lists_and_tiers_change_without_a_deploy(database: str) -> None:
    api = Policy.parse("2/hour", name="api")
    async with limiting(database) as limiter:
        assert await ask(limiter, 3, api) == [True, True, False]
        await limiter.override("k", "api", "4/hour")
        assert await ask(limiter, 3, api) == [True, True, False]
        await limiter.allow("k")
        assert await ask(limiter, 5, api) == [True] * 5
        await limiter.block("k", 100, policy="api")
        blocked = await limiter.hit("k", api)
        assert (blocked.allowed, round(blocked.retry_after)) == (False, 100)
        assert (await limiter.peek("k", api)).allowed is False
        assert await limiter.clear("k")
        assert await limiter.clear("k", policy="api")
        assert not await limiter.clear("k", policy="api")


async def test_the_top_of_the_refused_has_names_where_they_are_known(database: str, conn: Session) -> None:
    async with limiting(database) as limiter:
        await ask(limiter, 9, "2/hour", "ann")
        await ask(limiter, 4, "2/hour", "bob")

        async def told() -> bool:
            found = [(key, seen.refused) for key, seen in await limiter.top(5)]
            return found == [("ann", 7), ("bob", 2)]

        assert await until(told, seconds=20)
        assert len(await limiter.top(1)) == 1
    totals = rows(conn, "SELECT source, outcome, decisions FROM holdfast.rate_limit_totals")
    counted = {(each["source"], each["outcome"]): each["decisions"] for each in totals}
    assert counted["postgres", "admitted"] == 4
    assert counted["cache", "refused"] + counted.get(("postgres", "refused"), 0) == 9


async def test_without_postgres_there_are_no_lists() -> None:
    async with limiting(None) as limiter:
        with pytest.raises(ConfigurationError, match="has no Postgres"):
            await limiter.block("k")


async def test_a_refund_works_in_memory_as_well() -> None:
    async with limiting(None) as limiter:
        for _ in range(50):  # so that a stamp that is rounded the wrong way is met
            key = f"k{_}"
            spent = [await limiter.hit(key, "2/hour") for _ in range(3)]
            assert [each.allowed for each in spent] == [True, True, False]
            assert await limiter.refund(spent[1])
            assert await ask(limiter, 2, "2/hour", key) == [True, False]


# What others send


@pytest.mark.parametrize(
    "key",
    ["", "\x00", "a\x00b", "'; DROP TABLE holdfast.rate_limit_requests; --", "ü☃\U0001f600", "\ud800", "x" * 1_000_000],
)
async def test_a_key_may_be_any_text_and_each_has_a_limit_of_its_own(database: str, conn: Session, key: str) -> None:
    async with limiting(database) as limiter:
        assert await ask(limiter, 3, "2/hour", key) == [True, True, False]
        assert await ask(limiter, 1, "2/hour", key + "!") == [True]
        assert await limiter.reset(key) == 1
    assert row(conn, "SELECT max(pg_column_size(r.*)) AS size FROM holdfast.rate_limit_requests r")["size"] < 400


@pytest.mark.parametrize("key", [None, 42, b"k", ["k"]])
async def test_a_key_of_another_type_is_refused(key: Any) -> None:
    async with limiting(None) as limiter:
        with pytest.raises(InvalidArguments, match="the key of a rate limit is"):
            await limiter.hit(key, "2/hour")


async def test_many_identities_fill_no_memory_and_free_nobody(database: str) -> None:
    async with limiting(database, most_keys=100) as limiter:
        assert await ask(limiter, 2, "1/hour", "ann") == [True, False]
        for start in range(0, 2000, 500):
            await asyncio.gather(*(limiter.hit(f"user:{n}", "1/hour") for n in range(start, start + 500)))
        assert limiter.report().identities <= 600, "those that wait are kept beside the 100"
        assert await ask(limiter, 1, "1/hour", "ann") == [False], "Postgres knows who is not remembered here"
        await asyncio.gather(*(limiter.hit(f"other:{n}", "1/hour") for n in range(100)))


async def test_alone_invented_identities_share_one_place_and_free_nobody() -> None:
    async with limiting(None, most_keys=3) as limiter:
        for key in "abc":
            await ask(limiter, 10, "10/hour", key)
        outcomes = [(await limiter.hit(f"new {n}", "10/hour")).allowed for n in range(12)]
        assert outcomes == [True] * 10 + [False] * 2
        for key in "abc":
            assert await ask(limiter, 1, "10/hour", key) == [False]
        assert limiter.report().identities == 4


async def test_alone_who_is_free_again_makes_room() -> None:
    async with limiting(None, most_keys=3) as limiter:
        for key in "abc":
            assert await ask(limiter, 1, "1 per 1 seconds", key) == [True]

        async def is_kept() -> bool:
            await limiter.hit("d", "1 per 1 seconds")
            return limiter._identities.get(("1;w=1", "d")) is not None

        assert await until(is_kept)
        assert limiter.report().identities <= 4


# For programs


async def test_a_program_asks_for_one_request_over_all_its_processes(database: str, hf: Holdfast) -> None:
    async with Holdfast(database) as other:
        limiters = [await each._open_limiter() for each in (hf, other)]
        for limiter in limiters:
            limiter.deadline = PATIENT
        await until(lambda: {limiter.mode for limiter in limiters} == {"postgres"})
        decisions = [await each.rate_limit("user:42", 3, 3600) for each in (hf, other, hf, other)]
    assert [decision.allowed for decision in decisions] == [True, True, True, False]
    assert isinstance(decisions[0], Decision)


async def test_a_program_without_postgres_is_answered_from_memory() -> None:
    async with Holdfast("postgresql://u@127.0.0.1:1/x") as app:
        decisions = [await app.rate_limit("user:42", 1, 3600) for _ in range(2)]
        plain = await asyncio.to_thread(app.rate_limit_sync, "user:42", 1, 3600)
    assert [(decision.allowed, decision.source) for decision in decisions] == [(True, "memory"), (False, "memory")]
    assert (plain.allowed, plain.source) == (True, "memory"), "threads have a limiter of their own"


def test_threads_share_one_count_and_round_trips(database: str) -> None:
    allowed: list[bool] = []
    with SyncRateLimiter(database, deadline=PATIENT) as limiter:
        threads = [
            threading.Thread(target=lambda: allowed.extend(limiter.hit("k", PER_HOUR).allowed for _ in range(10)))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert limiter.report().flights < 80
        assert limiter.hit("k", PER_HOUR).source == "cache"
        assert not limiter.acquire("k", PER_HOUR, timeout=0.01)
        assert limiter.reset("k") == 1
        spent = limiter.hit("k", PER_HOUR)
        assert limiter.refund(spent)
        assert limiter.peek("k", PER_HOUR).remaining == 30
        limiter.block("k", 60)
        assert not limiter.hit("k", PER_HOUR)
        assert limiter.clear("k")
        limiter.allow("k")
        limiter.override("k", "30;w=3600", "2/hour")
        assert limiter.hit("k", PER_HOUR)
    assert sum(allowed) == 30


def test_the_child_of_a_fork_begins_anew(database: str) -> None:
    with SyncRateLimiter(database, deadline=PATIENT) as limiter:
        assert limiter.hit("k", "2/hour").allowed
        child = os.fork()
        if child == 0:
            os._exit(0 if limiter.hit("k", "2/hour").allowed else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert not limiter.hit("k", "2/hour").allowed
