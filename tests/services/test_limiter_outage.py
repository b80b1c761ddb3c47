"""The rate limiter while Postgres stands still, is slow, is gone or takes no writes, and when it is back."""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from holdfast import Decision, Limit, Policy, RateLimiter
from holdfast.events import RateLimiterSwitched, Sinks
from holdfast.postgres.embedded import EmbeddedPostgres
from holdfast.postgres.migrate import migrate_up
from holdfast.services.limiter_link import MOST_LATE
from tests.services.helpers import Recorder, Relay, until
from tests.support import Session, row

PER_HOUR = Limit(30, 3600.0)
PATIENT = 30.0
NAME = "holdfast limiter"


@asynccontextmanager
async def limiting(dsn: str, **given: Any) -> AsyncIterator[RateLimiter]:
    async with RateLimiter(dsn, deadline=PATIENT, **given) as limiter:
        await until(lambda: limiter.mode == "postgres")
        yield limiter


async def decide(limiter: RateLimiter, times: int, limits: Any = PER_HOUR, key: str = "k") -> list[Decision]:
    return [await limiter.hit(key, limits) for _ in range(times)]


@asynccontextmanager
async def standing_still(relay: Relay, *limiters: RateLimiter) -> AsyncIterator[None]:
    """Answers do not arrive; at the end they do again, and Postgres decides."""
    relay.hold(NAME)
    for limiter in limiters:
        limiter.deadline = 0.05
    try:
        yield
    finally:
        relay.let_go(NAME)
        for limiter in limiters:
            limiter.deadline = PATIENT
    await until(lambda: all(each.mode == "postgres" and not each.report().debtors for each in limiters))


# On its own


async def test_memory_goes_on_from_what_was_admitted(relay: Relay) -> None:
    async with limiting(relay.dsn) as limiter:
        assert all(each.source == "postgres" for each in await decide(limiter, 20))
        async with standing_still(relay, limiter):
            decisions = await decide(limiter, 15)
            assert {decision.source for decision in decisions} == {"memory"}
            assert [decision.allowed for decision in decisions] == [True] * 10 + [False] * 5
            assert limiter.mode == "memory"
        (after,) = await decide(limiter, 1)
        assert after.allowed is False


async def test_processes_share_what_is_left(relay: Relay) -> None:
    async with limiting(relay.dsn) as one, limiting(relay.dsn) as other:
        await until(lambda: one.report().instances == other.report().instances == 2)
        await decide(one, 10)
        await decide(other, 9)
        await decide(one, 1)
        async with standing_still(relay, one, other):
            admitted = [sum(each.allowed for each in await decide(limiter, 20)) for limiter in (one, other)]
            assert admitted == [5, 5], "they had seen 20 and 19 of 30, and each has half of what is left"
        assert not (await one.hit("k", PER_HOUR)).allowed


async def test_what_was_admitted_is_paid_back(relay: Relay, database: str) -> None:
    async with limiting(relay.dsn) as limiter:
        async with standing_still(relay, limiter):
            assert all(each.allowed for each in await decide(limiter, 12))
            assert all(each.allowed for each in await decide(limiter, 3, key="other"))
        async with limiting(database) as stranger:
            assert (await stranger.peek("k", PER_HOUR)).remaining == 30 - 12
            assert (await stranger.peek("other", PER_HOUR)).remaining == 30 - 3


async def test_several_limits_are_kept_in_memory_as_well(relay: Relay) -> None:
    limits = "10/second, 25/hour, 40/day"
    async with limiting(relay.dsn) as limiter:
        await decide(limiter, 10, limits)
        async with standing_still(relay, limiter):
            admitted = [await limiter.acquire("k", limits, timeout=20) for _ in range(15)]
            assert all(admitted)
            refused = await limiter.hit("k", limits)
            assert (refused.allowed, Limit(25, 3600.0) in refused.violated) == (False, True)


@pytest.mark.parametrize(("without", "admitted"), [("closed", 0), ("open", 40), ("share", 30)])
async def test_a_policy_says_what_happens_without_postgres(relay: Relay, without: Any, admitted: int) -> None:
    policy = Policy((PER_HOUR,), "login", without)
    async with limiting(relay.dsn) as limiter:
        async with standing_still(relay, limiter):
            decisions = await decide(limiter, 40, policy)
            assert sum(each.allowed for each in decisions) == admitted
            assert all(each.retry_after > 0 for each in decisions if not each.allowed)
        if without == "closed":
            assert (await limiter.hit("k", policy)).allowed


async def test_lists_and_tiers_that_were_seen_stay_in_force(relay: Relay) -> None:
    async with limiting(relay.dsn) as limiter:
        await limiter.allow("friend")
        await limiter.block("foe", 3600)
        await limiter.override("payer", "30;w=3600", "50/hour")
        for key in ("friend", "foe", "payer"):
            await limiter.hit(key, PER_HOUR)
        async with standing_still(relay, limiter):
            assert sum(each.allowed for each in await decide(limiter, 60, key="friend")) == 60
            assert sum(each.allowed for each in await decide(limiter, 5, key="foe")) == 0
            assert sum(each.allowed for each in await decide(limiter, 60, key="payer")) == 49


async def test_memory_is_bounded_while_it_decides(relay: Relay) -> None:
    async with limiting(relay.dsn, most_keys=50) as limiter, standing_still(relay, limiter):
        await limiter.hit("first", PER_HOUR)
        decisions = [await limiter.hit(f"invented {n}", PER_HOUR) for n in range(1000)]
        assert limiter.report().identities <= 51
        assert sum(each.allowed for each in decisions) == 49 + 30, "those who have a place, and the shared one"


# Late flights


async def test_a_late_answer_is_set_off_against_what_memory_admitted(relay: Relay, database: str) -> None:
    async with limiting(relay.dsn) as limiter:
        relay.hold(NAME)
        limiter.deadline = 0.05
        decisions = await asyncio.gather(*(limiter.hit("k", PER_HOUR) for _ in range(8)))
        assert {each.source for each in decisions} == {"memory"}
        limiter.deadline = PATIENT
        relay.let_go(NAME)
        await until(lambda: limiter.mode == "postgres" and not limiter.report().debtors)
        assert (await limiter.peek("k", PER_HOUR)).remaining == 30 - 8, "charged once"


async def test_what_a_late_answer_granted_and_memory_did_not_is_given_back(relay: Relay) -> None:
    policy = Policy((PER_HOUR,), "login", "closed")
    async with limiting(relay.dsn) as limiter:
        relay.hold(NAME)
        limiter.deadline = 0.05
        decisions = await asyncio.gather(*(limiter.hit("k", policy) for _ in range(8)))
        assert not any(decisions)
        limiter.deadline = PATIENT
        relay.let_go(NAME)
        await until(lambda: limiter.mode == "postgres")

        async def is_free() -> bool:
            return (await limiter.peek("k", policy)).remaining == 30

        assert await until(is_free)


async def test_five_late_flights_in_a_row_open_the_breaker(relay: Relay) -> None:
    recorder = Recorder()
    async with limiting(relay.dsn, sinks=Sinks([recorder])) as limiter:
        for _ in range(MOST_LATE):
            limiter.deadline = 0.05
            relay.hold(NAME)
            assert (await limiter.hit("k", PER_HOUR)).source == "memory"
            limiter.deadline = PATIENT
            relay.let_go(NAME)
            await until(lambda: limiter.mode == "postgres")
        switches = recorder.of(RateLimiterSwitched)
    assert [each.mode for each in switches] == ["postgres", "memory", "postgres"]
    assert "in a row were late" in switches[1].why


async def test_what_memory_admitted_counts_in_memory_until_postgres_is_known_to_have_it(relay: Relay) -> None:
    async with limiting(relay.dsn) as limiter:
        relay.hold(NAME)
        limiter.deadline = 0.05
        admitted = sum(map(bool, await decide(limiter, 20)))
        charging = relay.keep_back(b"rate_limit_hits")
        relay.let_go(NAME)
        await until(charging.reached.is_set)
        await until(lambda: limiter.mode == "memory")
        admitted += sum(map(bool, await decide(limiter, 40)))
        assert admitted == 30, "its debt is in the air, and late"
        charging.let_go.set()
        limiter.deadline = PATIENT
        await until(lambda: limiter.mode == "postgres" and not limiter.report().debtors)
        assert (await limiter.peek("k", PER_HOUR)).remaining == 0
        assert not await limiter.hit("k", PER_HOUR)


async def test_nobody_waits_for_a_late_flight_of_the_second_connection_when_the_first_is_back(relay: Relay) -> None:
    async with limiting(relay.dsn) as limiter:
        first, second = relay.keep_back(b"rate_limit_hits"), relay.keep_back(b"rate_limit_hits", after=1)
        ahead = [asyncio.create_task(limiter.hit(f"first {n}", PER_HOUR)) for n in range(100)]
        await until(first.reached.is_set)
        limiter.deadline = 0.05
        behind = [asyncio.create_task(limiter.hit(f"second {n}", PER_HOUR)) for n in range(100)]
        await until(second.reached.is_set)
        await asyncio.gather(*behind)
        lost = relay.lose_answer(b"rate_limit_beat")
        first.let_go.set()
        await until(lost.is_set)
        await until(lambda: limiter.mode == "postgres")
        asked = asyncio.create_task(limiter.hit("k", PER_HOUR))
        await until(asked.done)
        assert not second.let_go.is_set()
        assert len([task for task in asyncio.all_tasks() if "_fly" in repr(task)]) == 1, "the late one is in the air"
        second.let_go.set()
        await asyncio.gather(*ahead)


async def test_no_request_waits_for_a_postgres_that_is_known_to_stand_still(relay: Relay) -> None:
    async with limiting(relay.dsn) as limiter:
        limiter.deadline = 0.05
        relay.hold(NAME)
        while (await limiter.hit("k", Limit(1000, 3600.0))).source == "postgres":
            pass
        asked = relay.count(b"rate_limit_hits")
        decisions = await asyncio.gather(*(limiter.hit(f"k{n}", PER_HOUR) for n in range(200)))
        assert {decision.source for decision in decisions} == {"memory"}
        assert relay.count(b"rate_limit_hits") == asked
        relay.let_go(NAME)


async def test_a_lost_answer_is_no_lost_request(relay: Relay) -> None:
    async with limiting(relay.dsn) as limiter:
        lost = relay.lose_answer(b"rate_limit_hits")
        decision = await limiter.hit("k", PER_HOUR)
        assert lost.is_set()
        assert (decision.allowed, decision.source) == (True, "memory")
        await until(lambda: limiter.mode == "postgres" and not limiter.report().debtors)
        assert (await limiter.peek("k", PER_HOUR)).remaining == 30 - 2, (
            "nobody can know, so it is charged twice at worst"
        )


async def test_a_limiter_stops_while_its_flight_is_late(relay: Relay) -> None:
    limiter = RateLimiter(relay.dsn, deadline=PATIENT)
    await limiter.start()
    await until(lambda: limiter.mode == "postgres")
    relay.hold(NAME)
    limiter.deadline = 0.05
    assert (await limiter.hit("k", PER_HOUR)).source == "memory"
    await asyncio.wait_for(limiter.stop(), 4)
    relay.let_go(NAME)


async def test_a_limiter_that_nobody_started_looks_for_postgres_with_its_first_request(database: str) -> None:
    limiter = RateLimiter(database, deadline=PATIENT)
    assert await limiter.hit("k", PER_HOUR)
    await until(lambda: limiter.mode == "postgres" and not limiter.report().debtors)
    later = await limiter.hit("k", PER_HOUR)
    assert (later.source, later.remaining) == ("postgres", 28)
    await limiter.stop()
    assert (await limiter.hit("k", PER_HOUR)).source == "memory"
    assert not [task for task in asyncio.all_tasks() if "Link" in repr(task)], "what was stopped stays so"


async def test_a_peek_is_answered_while_postgres_stands_still(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.services.limiter.PEEK_DEADLINE", 0.05)
    async with limiting(relay.dsn) as limiter:
        await decide(limiter, 10)
        relay.hold("holdfast limits")
        found = await limiter.peek("k", PER_HOUR)
        relay.let_go("holdfast limits")
    assert (found.source, found.remaining) == ("memory", 20)


async def test_a_mode_lasts_until_it_is_another(relay: Relay) -> None:
    async with limiting(relay.dsn) as limiter:
        relay.hold(NAME)
        limiter.deadline = 0.05
        assert (await limiter.hit("k", PER_HOUR)).source == "memory"
        since = limiter._link.since  # type: ignore[union-attr]
        await relay.cut(NAME)
        await until(lambda: "late" not in limiter.report().why)
        assert limiter._link.since == since  # type: ignore[union-attr]
        relay.let_go(NAME)


async def test_without_any_postgres_memory_decides_from_the_start() -> None:
    async with RateLimiter("postgresql://u@127.0.0.1:1/x") as limiter:
        decisions = await decide(limiter, 3, Limit(2, 60.0))
        assert limiter.report().mode == "memory"
        assert "cannot be reached" in limiter.report().why
    assert [(decision.allowed, decision.source) for decision in decisions] == [
        (True, "memory"),
        (True, "memory"),
        (False, "memory"),
    ]


async def test_a_database_without_the_schema_is_like_none_and_says_so(bare: str) -> None:
    async with RateLimiter(bare) as limiter:
        assert (await limiter.hit("k", PER_HOUR)).source == "memory"
        assert "holdfast migrate up" in limiter.report().why
        assert limiter.report().lacks_schema


# A server of its own, stopped and killed


@pytest.fixture
def own_server() -> Iterator[EmbeddedPostgres]:
    base = Path(tempfile.mkdtemp(prefix="holdfast-limits-", dir="/tmp"))
    base.chmod(0o755)
    try:
        with EmbeddedPostgres(base / "data", settings={"fsync": "off", "full_page_writes": "off"}) as server:
            migrate_up(server.dsn)
            yield server
    finally:
        shutil.rmtree(base, ignore_errors=True)


def signal_all(server: EmbeddedPostgres, number: signal.Signals) -> None:
    for pid in server._processes():
        os.kill(pid, number)


async def test_a_server_that_is_frozen_killed_or_takes_no_writes_stalls_nobody_and_is_used_when_it_is_back(
    own_server: EmbeddedPostgres,
) -> None:
    limit = Policy.parse("1000000/hour", name="load")
    answered: list[Decision] = []

    async def load() -> None:
        while True:
            answered.append(await limiter.hit("k", limit))
            await asyncio.sleep(0.002)

    async def more(source: str) -> None:
        """Requests are answered, and in this way."""
        seen = len(answered)
        await until(lambda: sum(each.source == source for each in answered[seen:]) >= 20, source)

    async with RateLimiter(own_server.dsn) as limiter:
        limiter.deadline = 0.25
        await until(lambda: limiter.mode == "postgres")
        callers = [asyncio.create_task(load()) for _ in range(4)]
        await more("postgres")

        signal_all(own_server, signal.SIGSTOP)
        await more("memory")
        assert limiter.mode == "memory"
        signal_all(own_server, signal.SIGCONT)
        await more("postgres")
        admitted = sum(each.allowed for each in answered)
        await until(lambda: not limiter.report().debtors)
        assert 1_000_000 - (await limiter.peek("k", limit)).remaining >= admitted, "all is charged"

        await asyncio.to_thread(own_server.kill)
        await more("memory")
        await asyncio.to_thread(own_server.start)
        await more("postgres")

        await asyncio.to_thread(read_only, own_server, True)
        await more("memory")
        assert "read-only" in limiter.report().why
        await asyncio.to_thread(read_only, own_server, False)
        await more("postgres")
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)


def read_only(server: EmbeddedPostgres, yes: bool) -> None:
    with psycopg.connect(server.dsn, autocommit=True) as conn:
        conn.execute("SET default_transaction_read_only = off")
        conn.execute(f"ALTER SYSTEM SET default_transaction_read_only = {'on' if yes else 'off'}".encode())
        conn.execute("SELECT pg_reload_conf()")


async def test_instances_that_left_give_their_share_back(database: str, conn: Session) -> None:
    async with limiting(database):
        async with limiting(database):
            assert row(conn, "SELECT count(*) AS n FROM holdfast.rate_limit_instances")["n"] == 2
        assert row(conn, "SELECT count(*) AS n FROM holdfast.rate_limit_instances")["n"] == 1
