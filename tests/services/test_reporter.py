"""Progress and heartbeats reach the row, or the run learns that its lease is lost."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest

from holdfast.errors import LeaseLost
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.reporter import Reporter
from tests import support
from tests.services.helpers import Relay
from tests.support import Session


@pytest.fixture
def worker_id(conn: Session) -> UUID:
    return support.register(conn)


@pytest.fixture
async def reporter(relay: Relay, worker_id: UUID) -> AsyncIterator[Reporter]:
    ledger = AsyncLedger(relay.dsn)
    yield Reporter(ledger, worker_id)
    await ledger.close()


async def test_progress_is_on_the_row_when_the_future_ends_and_counts_as_a_sign_of_life(
    reporter: Reporter, conn: Session, worker_id: UUID
) -> None:
    support.enqueue(conn)
    run = support.claim_one(conn, worker_id)
    support.advance(conn, timedelta(seconds=5))
    await asyncio.wrap_future(reporter.report(run["id"], run["lease"], '{"done": 3}'))
    row = support.job(conn, run["id"])
    assert row["progress"] == {"done": 3}
    assert row["heartbeat_at"] - row["claimed_at"] >= timedelta(seconds=5)


async def test_a_heartbeat_keeps_the_progress_that_was_told_before(
    reporter: Reporter, conn: Session, worker_id: UUID
) -> None:
    support.enqueue(conn)
    run = support.claim_one(conn, worker_id)
    texts = ["1", "2", None]
    futures = [asyncio.wrap_future(reporter.report(run["id"], run["lease"], text)) for text in texts]
    await asyncio.gather(*futures)
    assert support.job(conn, run["id"])["progress"] == 2


async def test_a_lost_lease_is_told_to_its_own_run_only(reporter: Reporter, conn: Session, worker_id: UUID) -> None:
    for _ in range(2):
        support.enqueue(conn)
    held, lost = support.claim(conn, worker_id, 2)
    support.release_lost_claims(conn, worker_id, lost)
    done = await asyncio.gather(
        *(asyncio.wrap_future(reporter.report(run["id"], run["lease"], '"x"')) for run in (held, lost)),
        return_exceptions=True,
    )
    assert done[0] is None
    assert isinstance(done[1], LeaseLost)
    assert str(lost["id"]) in str(done[1])
    assert support.job(conn, held["id"])["progress"] == "x"
    assert support.job(conn, lost["id"])["progress"] is None


async def test_many_reports_share_a_statement_and_may_come_from_any_thread(
    reporter: Reporter, relay: Relay, conn: Session, worker_id: UUID
) -> None:
    for _ in range(20):
        support.enqueue(conn)
    runs = support.claim(conn, worker_id, 20)

    def from_a_thread() -> None:
        for future in [reporter.report(run["id"], run["lease"], "7") for run in runs]:
            future.result(timeout=20)

    await asyncio.to_thread(from_a_thread)
    assert {support.job(conn, run["id"])["progress"] for run in runs} == {7}
    assert relay.count(b"holdfast.progress(") <= 5


async def test_heartbeats_for_many_runs_return_those_that_are_not_ours(
    reporter: Reporter, conn: Session, worker_id: UUID
) -> None:
    for _ in range(2):
        support.enqueue(conn)
    held, lost = support.claim(conn, worker_id, 2)
    support.release_lost_claims(conn, worker_id, lost)
    verdicts = await reporter.verdicts([(held["id"], held["lease"]), (lost["id"], lost["lease"])])
    assert [(each.id, each.verdict) for each in verdicts] == [(lost["id"], "lost")]
