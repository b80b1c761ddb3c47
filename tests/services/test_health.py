"""The health watch: readiness, and what it sees of ledgers in every condition."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from holdfast.postgres.migrate import load
from holdfast.services.health import FRESH, HealthWatch, NotReady, Ping, judge_ping
from tests.cli.command import eventually
from tests.support import Session

NEWEST = load()[-1].version


@pytest.mark.parametrize(
    ("last", "now", "verdict"),
    [
        (None, 100.0, NotReady.STARTING),
        (Ping(100.0, None), 100.0, None),
        (Ping(100.0, None), 100.0 + FRESH - 0.001, None),
        (Ping(100.0, None), 100.0 + FRESH, NotReady.STALE),
        (Ping(100.0, NotReady.SCHEMA), 101.0, NotReady.SCHEMA),
        (Ping(100.0, NotReady.UNAVAILABLE), 200.0, NotReady.STALE),
    ],
)
def test_an_instance_is_ready_while_its_last_ping_is_good_and_fresh(
    last: Ping | None, now: float, verdict: NotReady | None
) -> None:
    assert judge_ping(last, now) is verdict


@pytest.fixture
async def watch(database: str) -> AsyncIterator[HealthWatch]:
    made = HealthWatch(database, schema_version=NEWEST)
    yield made
    await made.stop()


async def test_a_ledger_that_answers_is_ready(watch: HealthWatch) -> None:
    assert watch.readiness() is NotReady.STARTING
    assert (await watch.ping()).problem is None
    assert watch.readiness() is None


async def test_a_newer_schema_is_not_ours_to_serve(watch: HealthWatch, conn: Session) -> None:
    conn.execute("INSERT INTO holdfast.schema_migrations (version, name, checksum) VALUES (999, '999_future', 'x')")
    await watch.ping()
    assert watch.readiness() is NotReady.SCHEMA


async def test_a_database_without_a_schema_is_not_ready(bare: str) -> None:
    watch = HealthWatch(bare, schema_version=NEWEST)
    assert (await watch.ping()).problem is NotReady.SCHEMA
    await watch.stop()


async def test_a_database_that_nobody_serves_is_unavailable() -> None:
    watch = HealthWatch("postgresql://u:hunter2@127.0.0.1:1/x", schema_version=NEWEST)
    assert (await watch.ping()).problem is NotReady.UNAVAILABLE
    await watch.stop()


async def test_a_database_that_never_answers_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        watch = HealthWatch(f"postgresql://u@127.0.0.1:{port}/x", schema_version=NEWEST)
        assert (await watch.ping()).problem is NotReady.UNAVAILABLE
        await watch.stop()


async def test_it_pings_in_the_background_until_stopped(watch: HealthWatch) -> None:
    await watch.start()
    await asyncio.to_thread(eventually, lambda: watch.readiness() is None)
    await watch.stop()
    await watch.stop()
