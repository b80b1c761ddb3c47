"""The probes and the metrics over ASGI: what a caller sees."""

import pytest

from tests.services.helpers import until
from tests.support import Session
from tests.web.support import ELSEWHERE, Api, api_over

NOWHERE = "postgresql://u:hunter2@127.0.0.1:1/x"


async def test_livez_passes_without_a_database() -> None:
    async with api_over(NOWHERE, started=False) as api:
        answer = await api.client.get("/livez")
    assert (answer.status_code, answer.json()) == (200, {"status": "pass"})
    assert answer.headers["cache-control"] == "no-store"


async def test_readyz_fails_with_a_reason_before_the_first_ping() -> None:
    async with api_over(NOWHERE, started=False) as api:
        answer = await api.client.get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"status": "fail", "reason": "starting"})
    assert answer.headers["cache-control"] == "no-store"


async def test_the_reason_tells_nothing_of_the_database() -> None:
    async with api_over(NOWHERE, started=False) as api:
        await api.services.watch.ping()
        answer = await api.client.get("/readyz")
    assert answer.json() == {"status": "fail", "reason": "database_unavailable"}
    assert "127.0.0.1" not in answer.text


async def test_probes_answer_head_requests() -> None:
    async with api_over(NOWHERE, started=False) as api:
        assert (await api.client.head("/livez")).status_code == 200
        assert (await api.client.head("/readyz")).status_code == 503
        assert (await api.client.head("/api/health")).status_code == 503


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/api", "/api/nothing", "/api/jobs/", "/livez/"])
async def test_there_is_nothing_else(api: Api, path: str) -> None:
    answer = await api.client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_metrics_say_that_the_ledger_is_away_and_nothing_else(database: str) -> None:
    async with api_over(database, started=False) as api:
        await api.services.ring.step()
        answer = await api.client.get("/metrics")
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
    async with api_over(database) as api:
        text = (await api.client.get("/metrics")).text
    assert 'holdfast_job_events_total{event="rescue",reason="claim_lost"} 1.0' in text
    assert "holdfast_false_rescues_total 0.0" in text
    assert "holdfast_fenced_late_writes_total 1.0" in text
    assert 'holdfast_monitor_last_sweep_timestamp_seconds{monitor="count_events"}' in text
    assert "holdfast_brake_held 0.0" in text
    assert "holdfast_ledger_up 1.0" in text


async def test_metrics_are_for_callers_with_a_key_where_keys_are_in_use(api: Api) -> None:
    async with api.caller(ELSEWHERE) as stranger:
        assert (await stranger.get("/metrics")).status_code == 401


async def test_the_api_describes_itself(api: Api) -> None:
    document = (await api.client.get("/api/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    assert {"/api/jobs", "/api/jobs/{id}", "/api/jobs/{id}/cancel", "/api/jobs/{id}/retry"} <= set(document["paths"])


async def test_an_error_of_ours_is_told_by_a_number_only(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    @api.app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("postgresql://u:hunter2@db/x")

    async with api.caller(ELSEWHERE) as stranger:
        answer = await stranger.get("/broken")
    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (500, 500)
    assert "hunter2" not in answer.text
    assert await until(lambda: problem["id"] in caplog.text)
