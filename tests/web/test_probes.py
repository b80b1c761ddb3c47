"""Readiness: the decision, and pings of ledgers in every condition."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from holdfast.postgres.migrate import load
from holdfast.web.probes import FRESH, LedgerProbe, NotReady, Ping, judge
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
    assert judge(last, now) is verdict


@pytest.fixture
async def probe(database: str) -> AsyncIterator[LedgerProbe]:
    made = LedgerProbe(database, schema_version=NEWEST)
    yield made
    await made.stop()


async def test_a_ledger_that_answers_is_ready(probe: LedgerProbe) -> None:
    assert probe.readiness() is NotReady.STARTING
    assert (await probe.step()).problem is None
    assert probe.readiness() is None


async def test_a_newer_schema_is_not_ours_to_serve(probe: LedgerProbe, conn: Session) -> None:
    conn.execute("INSERT INTO holdfast.schema_migrations (version, name, checksum) VALUES (999, '999_future', 'x')")
    await probe.step()
    assert probe.readiness() is NotReady.SCHEMA


async def test_a_database_without_a_schema_is_not_ready(bare: str) -> None:
    probe = LedgerProbe(bare, schema_version=NEWEST)
    assert (await probe.step()).problem is NotReady.SCHEMA
    await probe.stop()


async def test_a_database_that_nobody_serves_is_unavailable() -> None:
    probe = LedgerProbe("postgresql://u:hunter2@127.0.0.1:1/x", schema_version=NEWEST)
    assert (await probe.step()).problem is NotReady.UNAVAILABLE
    await probe.stop()


async def test_a_database_that_never_answers_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        probe = LedgerProbe(f"postgresql://u@127.0.0.1:{port}/x", schema_version=NEWEST)
        assert (await probe.step()).problem is NotReady.UNAVAILABLE
        await probe.stop()


async def test_it_pings_in_the_background_until_stopped(probe: LedgerProbe) -> None:
    await probe.start()
    await asyncio.to_thread(eventually, lambda: probe.readiness() is None)
    await probe.stop()
    await probe.stop()
