"""`/api/health`: what it says, to whom, how fast it is believed to change."""

import asyncio
import time
from datetime import datetime
from typing import Any

import pytest

from holdfast.core.health import Limits, Status
from holdfast.postgres.embedded import EmbeddedPostgres
from tests.services.helpers import until
from tests.support import Session, advance, calm, enqueue, register, seconds
from tests.web.support import ELSEWHERE, HERE, QUICK, Api, api_over, frozen, make_token

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
    given: dict[str, Any] = {"timeout": 2.0, "limiter_deadline": 0.05, "rhythm": QUICK}
    async with api_over(own_server.dsn, **given) as api, api.caller(ELSEWHERE) as stranger:
        with frozen(own_server):
            await until(lambda: api.services.watch.readiness(database=True) is not None)
            await until(lambda: api.services.watch.health().status is Status.FAIL)
            details = await asyncio.wait_for(api.client.get("/api/health"), 5.0)
            status = await asyncio.wait_for(stranger.get("/api/health"), 5.0)
    assert (details.status_code, status.status_code) == (503, 503)
    assert details.json()["checks"]["database"][0]["output"] == "it does not answer"
    assert status.json() == {"status": "fail"}
    assert HERE not in details.text


# The forms of the answer


async def test_checks_can_be_left_out_by_those_who_may_see_them(database: str, conn: Session) -> None:
    enqueue(conn)
    advance(conn, seconds(20))
    async with api_over(database) as api, api.caller(ELSEWHERE) as stranger:
        everything = await api.client.get("/api/health")
        without = await api.client.get("/api/health?exclude=workers,monitors")
        unknown = await api.client.get("/api/health?exclude=wokers")
        denied = await stranger.get("/api/health?exclude=workers")
    assert (everything.status_code, without.status_code) == (503, 200)
    assert set(everything.json()["checks"]) - set(without.json()["checks"]) == {"workers", "monitors"}
    assert (unknown.status_code, "there is no check 'wokers'" in unknown.text) == (400, True)
    assert denied.status_code == 401, "by leaving out one after the other a stranger would learn which one fails"


async def test_verbose_tells_how_each_look_went(api: Api) -> None:
    looks = (await api.client.get("/api/health?verbose")).json()["looks"]
    assert {"ping", "workers", "queues", "monitors"} <= set(looks)
    assert looks["queues"]["failed_in_a_row"] == 0
    assert looks["queues"]["took_ms"] > 0
    async with api.caller(ELSEWHERE) as stranger:
        assert set((await stranger.get("/api/health?verbose")).json()) == {"status"}
        assert set((await stranger.get("/livez?verbose")).json()) == {"status"}
    assert set((await api.client.get("/livez?verbose")).json()) == {"status", "stuck", "loop_lag_s"}


async def test_the_draft_s_form_is_kept(database: str, conn: Session) -> None:
    """draft-inadarei-api-health-check-06: component:measurement, a list of nodes each, output only where it fails."""
    all_is_well(conn)
    async with api_over(database) as api:
        answer = await api.client.get("/api/health", headers={"Accept": "application/health+json"})
        one = await api.client.get("/api/health/database", headers={"Accept": "application/health+json"})
    body = answer.json()
    assert (body["status"], body["version"], body["serviceId"]) == ("pass", "1", "holdfast")
    assert "output" not in body
    assert all(name.count(":") == 1 and len(nodes) == 1 for name, nodes in body["checks"].items())
    (database_node,) = body["checks"]["database:responseTime"]
    assert (database_node["componentType"], database_node["observedUnit"]) == ("datastore", "ms")
    assert database_node["observedValue"] > 0
    assert datetime.fromisoformat(database_node["time"]).tzinfo is not None
    assert "output" not in database_node
    assert one.json()["observedUnit"] == "ms"


async def test_one_check_that_fails_is_a_503_of_its_own(database: str, conn: Session) -> None:
    enqueue(conn)
    advance(conn, seconds(20))
    async with api_over(database) as api:
        failed, well = await api.client.get("/api/health/workers"), await api.client.get("/api/health/database")
    assert (failed.status_code, failed.headers["retry-after"]) == (503, "5")
    assert (well.status_code, "retry-after" in well.headers) == (200, False)


async def test_an_answer_may_be_kept_for_what_is_left_of_its_snapshot_only(database: str, conn: Session) -> None:
    all_is_well(conn)
    async with api_over(database) as api, api.caller(ELSEWHERE) as stranger:
        watch = api.services.watch
        for loop in watch._loops:
            await loop.stop()  # so that nothing is judged anew in between
        (ping,) = [look for look in watch.looks() if look.name == "ping"]
        kept = []
        for age in (0.0, 2.5, 60.0):
            ping.judged_at, watch._kept = time.monotonic() - age, None
            kept.append((await stranger.get("/api/health")).headers["cache-control"])
    fresh, older = (int(each.removeprefix("public, max-age=")) for each in kept[:2])
    assert 0 <= older <= 2 < fresh <= 4
    assert kept[2] == "no-store", "a snapshot that old is a failure"


async def test_a_verdict_is_told_when_it_lasts_and_since_when(database: str, conn: Session) -> None:
    all_is_well(conn)
    async with api_over(database, limits=Limits(worsen=2, clear=2, slow_ping=60.0)) as api:
        watch = api.services.watch

        async def workers() -> tuple[Status, datetime]:
            await watch.look("workers")
            await watch.look("queues")
            known = watch.health()
            found = next(check for check in known.checks if check.name == "workers")
            return found.status, known.changed_at["workers"]

        for loop in watch._loops:
            await loop.stop()
        first = await workers()
        conn.execute("UPDATE holdfast.workers SET gone_at = holdfast.clock(), gone_reason = 'stopped'")
        once, twice = await workers(), await workers()
    assert (first[0], once, twice[0]) == (Status.PASS, first, Status.WARN)
    assert twice[1] > first[1]


@pytest.mark.parametrize("name", ["the rate limiter's link", "keys", "SQS queues", "health looks"])
async def test_a_loop_of_its_own_that_has_ended_fails_liveness(api: Api, name: str) -> None:
    services = api.services
    assert services.limiter.loop is not None
    loops = [services.limiter.loop, services.ring.loop, services.sqs.loop, *services.watch._loops]
    (loop,) = [each for each in loops if each.name == name]
    assert (await api.client.get("/livez")).status_code == 200
    assert loop._task is not None
    loop._task.cancel()
    await asyncio.wait({loop._task})
    answer = await api.client.get("/livez?verbose")
    assert (answer.status_code, answer.json()["stuck"]) == (503, [f"the loop of {name} has ended"])
