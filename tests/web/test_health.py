"""`/api/health`: what it says, to whom, how fast it is believed to change."""

import asyncio

import pytest

from holdfast.core.health import Status
from holdfast.postgres.embedded import EmbeddedPostgres
from tests.services.helpers import until
from tests.support import Session, advance, calm, enqueue, register, seconds
from tests.web.support import ELSEWHERE, HERE, Api, api_over, frozen, make_token

CHECKS = [
    "database", "schema", "workers", "queues", "ringer", "jobs", "stale_jobs", "dead_letters", "incidents", "monitors",
    "notifications", "rate_limits", "pool",
]  # fmt: skip


def all_is_well(conn: Session) -> None:
    """A worker lives, and the monitors have just swept."""
    calm(conn)
    register(conn, queues=["default"], kinds=["report"], slots=10)
    conn.execute("UPDATE holdfast.monitors SET every = '5 s', swept_at = holdfast.clock() WHERE name <> 'count_events'")


async def test_a_caller_of_this_machine_sees_every_check(database: str, conn: Session) -> None:
    all_is_well(conn)
    enqueue(conn)
    async with api_over(database) as api:
        answer = await api.client.get("/api/health")
    body = answer.json()
    assert (answer.status_code, body["status"]) == (200, "pass"), body
    assert list(body["checks"]) == CHECKS
    assert answer.headers["cache-control"] == "no-store"
    assert body["checks"]["queues"][0]["observed"]["default"]["queued"] == 1
    assert body["checks"]["workers"][0]["observed"]["live"] == 1
    assert body["checks"]["rate_limits"][0]["observed"]["mode"] == "postgres"


async def test_who_has_no_key_learns_the_status_only_and_may_keep_it_for_a_moment(database: str, conn: Session) -> None:
    all_is_well(conn)
    async with api_over(database) as api, api.caller(ELSEWHERE) as stranger:
        answer = await stranger.get("/api/health")
        again = await stranger.get("/api/health", headers={"If-None-Match": answer.headers["etag"]})
    assert (answer.status_code, answer.json()) == (200, {"status": "pass"})
    assert answer.headers["cache-control"].startswith("public, max-age=")
    assert int(answer.headers["cache-control"].rpartition("=")[2]) <= 5
    assert answer.headers["vary"] == "Accept, Authorization"
    assert (again.status_code, again.content) == (304, b"")


async def test_a_key_opens_the_details_from_anywhere(api: Api) -> None:
    token = await make_token(api.services)
    async with api.caller(ELSEWHERE, Authorization=f"Bearer {token}") as operator:
        assert "database" in (await operator.get("/api/health")).json()["checks"]
        only = await operator.get("/api/health/database")
        assert only.json()["observed"]["round_trip_ms"] > 0
        missing = await operator.get("/api/health/nonsense")
    assert missing.status_code == 404
    assert "there are: database, schema, workers" in missing.json()["detail"]


async def test_one_check_is_not_for_strangers(api: Api) -> None:
    async with api.caller(ELSEWHERE) as stranger:
        assert (await stranger.get("/api/health/database")).status_code == 401


async def test_it_fails_with_503_while_jobs_wait_and_nobody_works(database: str, conn: Session) -> None:
    enqueue(conn)
    advance(conn, seconds(20))
    async with api_over(database) as api:
        answer = await api.client.get("/api/health")
    assert answer.status_code == 503
    assert answer.json()["checks"]["workers"][0]["output"] == "no worker lives, and jobs are due"
    assert answer.headers["retry-after"] == "5"
    assert answer.headers["cache-control"] == "no-store"


async def test_the_draft_s_media_type_is_given_to_who_asks_for_it(api: Api) -> None:
    plain = await api.client.get("/api/health")
    draft = await api.client.get("/api/health", headers={"Accept": "application/health+json"})
    assert plain.headers["content-type"] == "application/json"
    assert draft.headers["content-type"] == "application/health+json"


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"])
async def test_what_a_proxy_passes_on_is_not_of_this_machine(api: Api, header: str) -> None:
    answer = await api.client.get("/api/health", headers={header: "203.0.113.9"})
    assert set(answer.json()) == {"status"}


async def test_a_frozen_postgres_is_told_at_once_and_nothing_of_it_to_strangers(own_server: EmbeddedPostgres) -> None:
    async with api_over(own_server.dsn, timeout=2.0, limiter_deadline=0.05) as api, api.caller(ELSEWHERE) as stranger:
        with frozen(own_server):
            await until(lambda: api.services.watch.readiness(database=True) is not None)
            await until(lambda: api.services.watch.health().status is Status.FAIL)
            details = await asyncio.wait_for(api.client.get("/api/health"), 5.0)
            status = await asyncio.wait_for(stranger.get("/api/health"), 5.0)
    assert (details.status_code, status.status_code) == (503, 503)
    assert details.json()["checks"]["database"][0]["output"] == "it does not answer"
    assert status.json() == {"status": "fail"}
    assert HERE not in details.text
