"""The doctor against a real deployment: all well, and each of its lines made to fail by breaking the real part."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

from holdfast.app import new_id
from holdfast.core.findings import Finding, Verdict, by_component, exit_code, overall
from holdfast.core.ratelimit import Limit
from holdfast.errors import SchemaMismatch
from holdfast.events import Sinks
from holdfast.notify.log import LogChannel
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.presence import Introduction, announce_service, list_services
from holdfast.postgres.rate_limit import rate_limit_beat
from holdfast.services.checks import workers
from holdfast.services.checks.deployment import Deployment, Patience
from holdfast.services.doctor import Doctor
from holdfast.services.monitors import Monitors, MonitorSettings
from holdfast.services.restarts import Here, why_old
from tests.services.helpers import app_on, until, working
from tests.support import Session, claim_one, enqueue, register
from tests.web.support import api_over, make_token

HERE = Here("this-host", "/srv/app", "1.0", "settings-now", None)
NOWHERE = "postgresql://u:hunter2@127.0.0.1:1/x"


@asynccontextmanager
async def deployment(database: str, *, with_worker: bool = True, **api: Any) -> AsyncIterator[Deployment]:
    """An API, and a worker with its monitors, that have all begun."""
    app = app_on(database)

    @app.job()
    async def report() -> None:
        pass

    async with contextlib.AsyncExitStack() as running:
        if with_worker:
            await running.enter_async_context(working(database, app, sweep=True))
            monitors = Monitors(
                database, MonitorSettings(dlq=True, dlq_interval=0.5), {"log": LogChannel()}, Sinks(), new_id=new_id
            )
            task = asyncio.create_task(monitors.run())
            running.push_async_callback(ended, task)
        served = await running.enter_async_context(api_over(database, **api))
        ledger = AsyncLedger(database, name="doctor")
        running.push_async_callback(ledger.close)
        made = Deployment(database, "test database", ledger, served.client, HERE, 600.0)
        await ledger.call(announce_service(introduction()))
        if with_worker:
            await until(lambda: swept(ledger))
        yield made


async def ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def introduction(**changes: object) -> Introduction:
    usual = Introduction(new_id(), "up", HERE.host, 7, HERE.version, HERE.folder, HERE.settings_hash)
    return replace(usual, **changes)  # type: ignore[arg-type]


async def swept(ledger: AsyncLedger) -> bool:
    from holdfast.postgres.health import health_report

    report = await ledger.one(health_report(600.0))
    rhythmic = {monitor.name for monitor in report.monitors if monitor.every and monitor.swept_ago is not None}
    return set(workers.names(has_queues=False)) <= rhythmic


async def examine(made: Deployment) -> list[Finding]:
    return [finding async for finding in Doctor(made, new_id=new_id).examine()]


async def line(made: Deployment, id: str) -> Finding:
    """One line; nothing else is looked at."""
    return finding([each async for each in Doctor(made, new_id=new_id, only=[id]).examine()], id)


def finding(findings: list[Finding], id: str) -> Finding:
    (found,) = [each for each in findings if each.id == id]
    return found


async def test_a_deployment_that_works_passes_on_every_line(database: str) -> None:
    async with deployment(database) as made:
        findings = await examine(replace(made, termination_grace=60.0))
        lines = Doctor(made, new_id=new_id).lines()
    assert list(lines) == [each.id for each in findings], "the lines are those that are listed, in the same order"
    assert {each.id: each.verdict for each in findings} == dict.fromkeys(
        (
            "database.answers", "database.version", "database.tls", "database.clock", "database.room",
            "database.writable", "migrations.head", "schema.drift", "schema.rate_limit_requests",
            "schema.find_stale_jobs", "schema.stale_jobs_view", "access.grants", "access.rows", "access.strangers",
            "limits.hot_updates", "limits.old_transaction", "limits.room",
            "workers.live", "workers.beats", "workers.drain", "monitors.stale_job_monitor", "monitors.pruner",
            "monitors.dead_job_monitor", "monitors.health_monitor", "monitors.alerter", "jobs.end_to_end",
            "settings.in_force", "sqs.queues", "alerts.slack", "api.answers", "health.status", "health.private",
            "limits.refuse",
        ),
        Verdict.PASS,
    ), findings  # fmt: skip
    assert (overall(findings), exit_code(findings)) == (Verdict.PASS, 0)
    assert finding(findings, "limits.refuse").found.startswith("429 at request 101, Retry-After ")
    assert finding(findings, "jobs.end_to_end").found.startswith("a canary through queue default succeeded in ")


async def test_it_leaves_no_key_in_use_behind(database: str, conn: Session) -> None:
    async with deployment(database) as made:
        await examine(made)
        again = await examine(made)
        assert (await made.http.get("/api/jobs")).status_code == 200
    assert finding(again, "limits.refuse").verdict is Verdict.PASS
    roles = conn.execute("SELECT DISTINCT role FROM holdfast.api_keys").fetchall()
    assert roles == [{"role": "canary"}]


async def test_a_database_that_nobody_serves_is_unreachable_and_the_rest_is_skipped() -> None:
    async with api_over(NOWHERE, started=False) as api:
        ledger = AsyncLedger(NOWHERE)
        findings = await examine(Deployment(NOWHERE, "nowhere", ledger, api.client, HERE, 600.0))
    database = finding(findings, "database.answers")
    assert (database.verdict, database.unreachable) == (Verdict.FAIL, True)
    assert "hunter2" not in str(findings)
    assert exit_code(findings) == 3
    assert finding(findings, "health.status").verdict is Verdict.FAIL
    assert {each.id for each in findings if each.found == "needs the database"} == {
        "database.version", "database.tls", "database.clock", "database.room", "database.writable", "migrations.head",
        "schema.drift", "schema.rate_limit_requests", "schema.find_stale_jobs", "schema.stale_jobs_view",
        "access.grants", "access.rows", "access.strangers", "workers.live", "workers.beats", "workers.drain",
        "monitors.stale_job_monitor", "monitors.pruner", "monitors.dead_job_monitor",
        "monitors.health_monitor", "monitors.alerter", "jobs.end_to_end", "settings.in_force",
        "limits.hot_updates", "limits.old_transaction", "limits.room",
    }  # fmt: skip
    assert finding(findings, "limits.refuse").found == "no canary key could be made"


async def test_a_database_without_the_schema_needs_to_be_migrated_and_nothing_else(bare: str) -> None:
    async with api_over(bare, started=False) as api:
        ledger = AsyncLedger(bare)
        findings = await examine(Deployment(bare, "bare", ledger, api.client, HERE, 600.0))
        await ledger.close()
    others = ("health endpoint", "rate limits", "SQS bells", "Slack")
    assert {each.fix for each in findings if each.component not in others} == {
        "", "holdfast migrate up", "holdfast migrate status tells what is missing, holdfast migrate up brings it",
    }  # fmt: skip
    skipped = {each.id for each in findings if each.verdict is Verdict.SKIP}
    assert {"monitors.stale_job_monitor", "monitors.pruner", "jobs.end_to_end", "settings.in_force"} <= skipped


async def test_reasons_of_health_are_told_with_the_key_that_was_given(database: str) -> None:
    """Also where no canary key can be made: the database is not reached from here."""
    async with api_over(database) as api:
        token = await make_token(api.services)
        ledger = AsyncLedger(NOWHERE)
        async with api.caller("192.0.2.9") as outside:
            made = Deployment(NOWHERE, "nowhere", ledger, outside, HERE, 600.0)
            without = await line(made, "health.status")
            given = await line(replace(made, token=token), "health.status")
    assert (without.verdict, given.verdict) == (Verdict.FAIL, Verdict.FAIL)
    assert "its reasons need a key" in without.found
    assert "HOLDFAST_API_KEY" in without.fix
    assert "no monitor has ever swept" in given.found


@pytest.mark.parametrize(
    ("breaks", "id", "said", "fix"),
    [
        ("DELETE FROM holdfast.schema_migrations WHERE version = 6", "migrations.head", "pending: 006", "migrate up"),
        (
            "UPDATE holdfast.schema_migrations SET checksum = 'x' WHERE version = 4",
            "migrations.head",
            "edited: 004",
            "use the Holdfast version that applied it",
        ),
        (
            "INSERT INTO holdfast.schema_migrations (version, name, checksum) VALUES (999, '999_future', 'x')",
            "migrations.head",
            "unknown: 999_future",
            "upgrade this Holdfast",
        ),
        (
            "ALTER TABLE holdfast.rate_limit_requests RENAME TO gone",
            "schema.rate_limit_requests",
            "table does not work",
            "WHERE version IN (4, 9); then: holdfast migrate up",
        ),
        (
            "ALTER FUNCTION holdfast.find_stale_jobs(interval) RENAME TO gone",
            "schema.find_stale_jobs",
            "function does not work",
            "WHERE version IN (5, 9); then: holdfast migrate up",
        ),
        (
            "ALTER VIEW holdfast.stale_jobs_view RENAME TO gone",
            "schema.stale_jobs_view",
            "view does not work",
            "WHERE version IN (5, 9); then: holdfast migrate up",
        ),
    ],
)
async def test_a_schema_that_is_not_whole_fails_where_it_is_broken(
    database: str, conn: Session, breaks: str, id: str, said: str, fix: str
) -> None:
    async with deployment(database, with_worker=False) as made:
        conn.execute(breaks.encode())
        found = await line(made, id)
    assert (found.verdict, said in found.found, fix in found.fix) == (Verdict.FAIL, True, True), found


async def test_a_column_that_is_not_there_is_told_and_ends_no_examination(database: str, conn: Session) -> None:
    async with deployment(database, with_worker=False) as made:
        conn.execute("ALTER TABLE holdfast.queues RENAME COLUMN paused TO gone")
        conn.execute("ALTER TABLE holdfast.services RENAME COLUMN folder TO gone")
        with pytest.raises(SchemaMismatch, match=r"column .* does not exist"):
            await made.ledger.call(list_services())
        findings = await examine(made)
    found = finding(findings, "workers.live")
    assert found.verdict is Verdict.FAIL
    assert "column" in found.found
    assert finding(findings, "limits.refuse").verdict is Verdict.PASS


async def test_without_workers_nothing_is_swept_nor_sent_and_it_says_so(database: str) -> None:
    async with deployment(database, with_worker=False) as made:
        findings = await examine(made)
    assert finding(findings, "workers.live").found == "none lives"
    assert finding(findings, "monitors.stale_job_monitor").found == "has never swept"
    assert finding(findings, "monitors.pruner").verdict is Verdict.FAIL
    assert finding(findings, "jobs.end_to_end").verdict is Verdict.SKIP
    assert "holdfast worker APP" in finding(findings, "workers.live").fix
    assert exit_code(findings) == 1


async def test_a_monitor_that_stopped_fails_after_three_of_its_intervals(database: str, conn: Session) -> None:
    conn.execute(
        "UPDATE holdfast.monitors SET every = '5 s', swept_at = holdfast.clock() - interval '21 s'"
        " WHERE name = 'rescue_stale_jobs'"
    )
    async with deployment(database, with_worker=False) as made:
        found = await line(made, "monitors.stale_job_monitor")
    assert found.verdict is Verdict.FAIL
    assert re.fullmatch(r"swept \d+ s ago, which is too long", found.found)


async def test_a_job_that_nobody_runs_fails_and_is_taken_back(database: str, conn: Session) -> None:
    conn.execute(
        'SELECT holdfast.register_worker(gen_random_uuid(), \'{"queues": ["default"], "kinds": [], "slots": 3}\')'
    )
    async with deployment(database, with_worker=False) as made:
        found = await line(replace(made, patience=Patience(canary=0.3)), "jobs.end_to_end")
    assert found.verdict is Verdict.FAIL
    assert "a canary through queue default was accepted, and not run within 0.3 s" in found.found
    assert "holdfast probe" in found.fix
    left = conn.execute("SELECT status FROM holdfast.jobs").fetchall()
    assert left == [{"status": "cancelled"}]


async def test_a_queue_whose_slots_are_all_taken_warns_though_others_have_free_ones(
    database: str, conn: Session
) -> None:
    busy = register(conn, queues=["slow"], slots=1)
    enqueue(conn, queue="slow")
    claim_one(conn, busy, queues=["slow"])
    async with deployment(database) as made:
        found = await line(replace(made, patience=Patience(canary=1.0)), "jobs.end_to_end")
    assert found.verdict is Verdict.WARN
    assert "a canary through queue slow was accepted, and not run within 1 s: no slot was free" in found.found


async def test_a_canary_that_does_not_succeed_fails(database: str, conn: Session) -> None:
    conn.execute(
        "CREATE FUNCTION holdfast_test.cancel() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.status := 'cancelled'; NEW.finished_at := now(); RETURN NEW; END $$"
    )
    conn.execute(
        "CREATE TRIGGER never BEFORE INSERT ON holdfast.jobs FOR EACH ROW EXECUTE FUNCTION holdfast_test.cancel()"
    )
    async with deployment(database) as made:
        found = await line(made, "jobs.end_to_end")
    assert (found.verdict, found.found) == (Verdict.FAIL, "a canary did not succeed: default: cancelled")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"settings_hash": "older"}, r"up \(pid 7\) started .*, before the settings were taken away"),
        ({"version": "0.9"}, r"up \(pid 7\) runs version 0.9, this is 1.0"),
    ],
)
async def test_a_service_with_older_settings_or_another_version_is_named(
    database: str, conn: Session, changes: dict[str, str], said: str
) -> None:
    async with deployment(database, with_worker=False) as made:
        conn.execute("DELETE FROM holdfast.services")
        await made.ledger.call(announce_service(introduction(**changes)))
        found = await line(made, "settings.in_force")
    assert found.verdict is Verdict.FAIL
    assert re.search(said, found.found)
    assert found.fix == "restart up (pid 7)"


async def test_settings_files_older_than_the_service_are_not_said_to_be_later(database: str) -> None:
    """One of two files was taken away."""
    async with deployment(database, with_worker=False) as made:
        (service,) = await made.ledger.call(list_services())
    older = replace(HERE, settings_hash="other", settings_written=service.started_at - timedelta(hours=1))
    newer = replace(HERE, settings_hash="other", settings_written=service.started_at + timedelta(hours=1))
    assert str(why_old(service, older)).endswith("with other settings than there are now")
    assert "before the settings of 2" in str(why_old(service, newer))


async def test_services_elsewhere_are_told_and_not_judged(database: str, conn: Session) -> None:
    async with deployment(database, with_worker=False) as made:
        await made.ledger.call(announce_service(introduction(folder="/elsewhere", settings_hash="other")))
        found = await line(made, "settings.in_force")
    assert (found.verdict, found.found) == (Verdict.PASS, "in force in up (pid 7); 1 elsewhere cannot be compared")


async def test_an_api_that_is_not_there_is_unreachable(database: str) -> None:
    async with (
        deployment(database, with_worker=False) as made,
        httpx.AsyncClient(base_url="http://127.0.0.1:1") as none,
    ):
        findings = await examine(replace(made, http=none))
    found = finding(findings, "api.answers")
    assert (found.verdict, found.found) == (
        Verdict.FAIL,
        "http://127.0.0.1:1 does not answer: ConnectError: All connection attempts failed",
    )
    assert exit_code(findings) == 3
    assert finding(findings, "limits.refuse").verdict is Verdict.SKIP


async def test_something_else_at_the_address_is_no_api(database: str) -> None:
    async def other(scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": b"nginx"})  # type: ignore[operator]

    transport = httpx.ASGITransport(other)
    async with (
        deployment(database, with_worker=False) as made,
        httpx.AsyncClient(transport=transport, base_url="http://shop") as shop,
    ):
        found = await line(replace(made, http=shop), "api.answers")
    assert found.found == "http://shop is something else: /livez answers 404"


async def test_health_that_fails_is_told_with_its_reasons(database: str, conn: Session) -> None:
    conn.execute(
        "INSERT INTO holdfast.jobs (id, queue, kind, args, run_at, created_at)"
        " VALUES (gen_random_uuid(), 'default', 'report', '{}', holdfast.clock() - interval '20 s', holdfast.clock())"
    )
    async with deployment(database, with_worker=False) as made:
        found = await line(made, "health.status")
    assert found.verdict is Verdict.FAIL
    assert found.found.startswith("503, fail: workers: no worker lives, and jobs are due")


async def test_an_api_on_another_database_is_found_out(database: str) -> None:
    async with deployment(database, with_worker=False) as made, api_over(NOWHERE, started=False) as other:
        findings = await examine(replace(made, http=other.client))
    assert finding(findings, "health.status").verdict is Verdict.FAIL
    found = finding(findings, "limits.refuse")
    assert found.verdict is Verdict.FAIL
    assert "Compare DATABASE_URL of both" in found.fix


async def test_a_limit_that_admits_one_too_many_fails(database: str) -> None:
    """A proxy that answers in the API's place, as a cache would."""
    async with deployment(database, with_worker=False, rate_limit=Limit.parse("5/minute")) as made:

        async def stale(request: httpx.Request) -> httpx.Response:
            if request.url.path != "/api/keys/self":
                return await made.http.send(made.http.build_request("GET", request.url.path, headers=request.headers))
            return httpx.Response(200, json={}, headers={"RateLimit-Policy": '"default";q=5;w=60'})

        async with httpx.AsyncClient(transport=httpx.MockTransport(stale), base_url="http://proxy") as proxy:
            found = await line(replace(made, http=proxy, patience=Patience(counts=0.1)), "limits.refuse")
    assert (found.verdict, found.found) == (Verdict.FAIL, "request 6 of 5 was admitted")


async def test_a_limit_that_admits_one_too_many_while_the_database_was_late_is_told_with_that_reason(
    database: str,
) -> None:
    async with deployment(database, with_worker=False, rate_limit=Limit.parse("5/minute")) as made:

        async def alone(request: httpx.Request) -> httpx.Response:
            if request.url.path != "/api/keys/self":
                return await made.http.send(made.http.build_request("GET", request.url.path, headers=request.headers))
            decided = {("default", "memory", "admitted"): 1}
            await made.ledger.call(rate_limit_beat(new_id(), decided, {}, 1000))
            return httpx.Response(200, json={}, headers={"RateLimit-Policy": '"default";q=5;w=60'})

        async with httpx.AsyncClient(transport=httpx.MockTransport(alone), base_url="http://api") as slow:
            found = await line(replace(made, http=slow), "limits.refuse")
    assert found.verdict is Verdict.WARN
    assert found.found == (
        "request 6 of 5 was admitted; 6 meanwhile were decided in memory, since the database did not answer in time"
    )


async def test_a_window_that_is_over_before_the_limit_is_reached_tells_nothing(database: str) -> None:
    async with deployment(database, with_worker=False, rate_limit=Limit(3, 0.001)) as made:
        found = await line(made, "limits.refuse")
    assert found.verdict is Verdict.SKIP
    assert re.fullmatch(r"not tried: 3 requests take [\d.]+ s from here, the window has 1 s", found.found)


async def test_a_limit_is_tried_with_several_requests_at_a_time(database: str) -> None:
    """One after the other, a thousand would take longer than a check may."""
    asked = 0
    together = asyncio.Barrier(2)

    async def slow(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        if request.url.path != "/api/keys/self":
            return await made.http.send(made.http.build_request("GET", request.url.path, headers=request.headers))
        asked += 1
        headers = {"RateLimit-Policy": '"default";q=5;w=60', "RateLimit": '"default";r=0;t=9', "Retry-After": "9"}
        if asked in range(2, 6):
            await together.wait()
        if asked == 6:
            return httpx.Response(429, headers={**headers, "Content-Type": "application/problem+json"})
        return httpx.Response(200, json={}, headers=headers)

    async with (
        deployment(database, with_worker=False) as made,
        httpx.AsyncClient(transport=httpx.MockTransport(slow), base_url="http://far") as far,
    ):
        found = await line(replace(made, http=far), "limits.refuse")
    assert (found.verdict, found.found) == (Verdict.PASS, "429 at request 6, Retry-After 9 s")


async def test_details_for_strangers_fail(database: str) -> None:
    async with deployment(database, with_worker=False) as made:

        async def talkative(request: httpx.Request) -> httpx.Response:
            headers = {name: value for name, value in request.headers.items() if name != "via"}
            return await made.http.send(made.http.build_request("GET", request.url.path, headers=headers))

        async with httpx.AsyncClient(transport=httpx.MockTransport(talkative), base_url="http://localhost") as proxy:
            found = await line(replace(made, http=proxy), "health.private")
    assert (found.verdict, found.found) == (Verdict.FAIL, "strangers learn checks, output")


def test_the_table_has_a_row_for_each_component_with_its_worst_line() -> None:
    findings = [
        Finding("a.1", "A", Verdict.PASS, "well", code="brings"),
        Finding("b.1", "B", Verdict.SKIP, "not looked at"),
        Finding("a.2", "A", Verdict.FAIL, "broken"),
    ]
    rows = [(row.name, row.code, row.found, row.verdict) for row in by_component(findings)]
    assert rows == [("A", "brings", "broken", Verdict.FAIL), ("B", "", "not looked at", Verdict.SKIP)]
