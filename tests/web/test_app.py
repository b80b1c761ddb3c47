"""The probes over ASGI: what a caller sees."""

from collections.abc import AsyncIterator

import httpx
import pytest

from holdfast.web.app import create_app
from holdfast.web.metrics import LedgerMetrics
from holdfast.web.probes import LedgerProbe
from tests.support import Session

NOWHERE = "postgresql://u:hunter2@127.0.0.1:1/x"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """The application as it is before it has started, over a database that is not there."""
    transport = httpx.ASGITransport(create_app(LedgerProbe(NOWHERE, schema_version=1), LedgerMetrics(NOWHERE)))
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as made:
        yield made


async def test_livez_passes_without_a_database(client: httpx.AsyncClient) -> None:
    answer = await client.get("/livez")
    assert (answer.status_code, answer.json()) == (200, {"status": "pass"})
    assert answer.headers["cache-control"] == "no-store"


async def test_readyz_fails_with_a_reason_before_the_first_ping(client: httpx.AsyncClient) -> None:
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"status": "fail", "reason": "starting"})
    assert answer.headers["cache-control"] == "no-store"


async def test_the_reason_tells_nothing_of_the_database() -> None:
    probe = LedgerProbe(NOWHERE, schema_version=1)
    await probe.step()
    transport = httpx.ASGITransport(create_app(probe, LedgerMetrics(NOWHERE)))
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        answer = await client.get("/readyz")
    assert answer.json() == {"status": "fail", "reason": "database_unavailable"}
    assert "127.0.0.1" not in answer.text


async def test_probes_answer_head_requests(client: httpx.AsyncClient) -> None:
    assert (await client.head("/livez")).status_code == 200
    assert (await client.head("/readyz")).status_code == 503


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json"])
async def test_there_is_nothing_else(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


async def test_metrics_say_that_the_ledger_is_away_and_nothing_else(client: httpx.AsyncClient) -> None:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "holdfast_ledger_up 0.0" in answer.text
    assert "holdfast_job_events" not in answer.text


async def test_metrics_show_the_ledger_s_totals(database: str, conn: Session) -> None:
    conn.execute(
        "INSERT INTO holdfast.job_events (job_id, at, event, reason, lease) SELECT gen_random_uuid(),"
        " holdfast.clock() - interval '1 hour', event, reason, 1"
        " FROM (VALUES ('rescue', 'claim_lost'), ('fenced_late_write', NULL)) AS e (event, reason)"
    )
    conn.execute("SELECT holdfast.count_events()")
    metrics = LedgerMetrics(database)
    await metrics.step()
    text = metrics.render().decode()
    await metrics.stop()
    assert 'holdfast_job_events_total{event="rescue",reason="claim_lost"} 1.0' in text
    assert "holdfast_false_rescues_total 0.0" in text
    assert "holdfast_fenced_late_writes_total 1.0" in text
    assert 'holdfast_monitor_last_sweep_timestamp_seconds{monitor="count_events"}' in text
    assert "holdfast_brake_held 0.0" in text
    assert "holdfast_ledger_up 1.0" in text
