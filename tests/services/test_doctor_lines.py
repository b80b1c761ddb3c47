"""The lines that tell of server, access, schema, times and the whole way: each is made to fail by breaking its part."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg import conninfo

from holdfast.app import new_id
from holdfast.core.findings import Finding, Verdict, exit_code
from holdfast.postgres.examine import ServerFacts, repair
from holdfast.postgres.health import health_report
from holdfast.postgres.migrate import migrate_up
from holdfast.postgres.schema import expected
from holdfast.services.checks import drift, end_to_end, server
from holdfast.services.checks.access import check_access
from holdfast.services.checks.deployment import Deployment, Patience
from holdfast.services.checks.timing import check_beats, check_drain
from holdfast.services.doctor import Doctor
from tests.services.helpers import until
from tests.services.test_doctor import deployment, finding
from tests.support import Session, advance, register, seconds

GOOD = ServerFacts(datetime(2026, 1, 1, tzinfo=UTC), 180006, 100, 10, True, False, "app")
REMOTE = "postgresql://app@db.example.org/app"
NO_SKEW = timedelta(0)


@pytest.mark.parametrize(
    ("id", "facts", "dsn", "skew", "verdict", "said"),
    [
        ("database.version", replace(GOOD, version=140011), REMOTE, NO_SKEW, "fail", "Postgres 14"),
        ("database.version", replace(GOOD, version=190001), REMOTE, NO_SKEW, "warn", "newer than what is tested"),
        ("database.tls", replace(GOOD, is_encrypted=False), REMOTE, NO_SKEW, "fail", "in the clear"),
        ("database.tls", replace(GOOD, is_encrypted=False), "postgresql:///app", NO_SKEW, "pass", "on this machine"),
        ("database.tls", GOOD, REMOTE, NO_SKEW, "warn", "sslmode=prefer would go on without"),
        ("database.tls", GOOD, f"{REMOTE}?sslmode=verify-full", NO_SKEW, "pass", "encrypted, sslmode=verify-full"),
        ("database.clock", GOOD, REMOTE, timedelta(seconds=61), "warn", "61 s ahead of this machine's"),
        ("database.clock", GOOD, REMOTE, timedelta(seconds=-61), "warn", "61 s behind this machine's"),
        ("database.room", replace(GOOD, connections=95), REMOTE, NO_SKEW, "warn", "95 of 100 connections"),
        ("database.writable", replace(GOOD, is_standby=True), REMOTE, NO_SKEW, "fail", "a standby"),
    ],
)
def test_a_server_that_is_not_as_it_should_be_is_told_with_the_way_out(
    id: str, facts: ServerFacts, dsn: str, skew: timedelta, verdict: str, said: str
) -> None:
    found = finding(server.judge(dsn, facts, skew), id)
    assert (found.verdict, said in found.found) == (verdict, True), found
    assert bool(found.fix) is (verdict != "pass")


# Access


@contextmanager
def role(conn: Session, database: str, name: str) -> Iterator[str]:
    """Another role of this server, and its way in."""
    conn.execute(f"CREATE ROLE {name} LOGIN".encode())
    try:
        yield conninfo.make_conninfo(database, user=name)
    finally:
        conn.execute(f"DROP OWNED BY {name}".encode())
        conn.execute(f"DROP ROLE {name}".encode())


async def test_a_role_without_grants_is_told_and_repaired_by_the_statements_that_are_named(
    database: str, conn: Session
) -> None:
    with role(conn, database, "newcomer") as dsn:
        conn.execute("GRANT USAGE ON SCHEMA holdfast TO newcomer")
        async with deployment(database, with_worker=False) as made:
            ledger = type(made.ledger)(dsn, name="newcomer")
            found = finding(await check_access(replace(made, ledger=ledger)), "access.grants")
            assert (found.verdict, found.found.startswith("newcomer lacks ")) == (Verdict.FAIL, True)
            assert "GRANT " in found.fix
            for statement in found.repair:
                repair(database, statement)
            again = finding(await check_access(replace(made, ledger=ledger)), "access.grants")
            await ledger.close()
    assert again.verdict is Verdict.PASS


async def test_rows_that_a_policy_hides_and_strangers_who_may_look_are_told(database: str, conn: Session) -> None:
    with role(conn, database, "onlooker") as dsn, role(conn, database, "anon"):
        conn.execute("GRANT USAGE ON SCHEMA holdfast TO onlooker, anon")
        conn.execute("ALTER TABLE holdfast.jobs ENABLE ROW LEVEL SECURITY")
        async with deployment(database, with_worker=False) as made:
            ledger = type(made.ledger)(dsn, name="onlooker")
            findings = await check_access(replace(made, ledger=ledger))
            await ledger.close()
        rows, strangers = finding(findings, "access.rows"), finding(findings, "access.strangers")
        assert (rows.verdict, "from onlooker" in rows.found) == (Verdict.FAIL, True)
        assert strangers.verdict is Verdict.FAIL
        assert strangers.repair == ("REVOKE USAGE ON SCHEMA holdfast FROM anon",)
        repair(database, strangers.repair[0])
        async with deployment(database, with_worker=False) as made:
            assert finding(await check_access(made), "access.strangers").verdict is Verdict.PASS


# Drift


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        ("DROP INDEX holdfast.jobs_finished", "index jobs_finished is missing"),
        ("DROP POLICY holdfast_app ON holdfast.jobs", "policy jobs.holdfast_app is missing"),
        ("GRANT SELECT ON holdfast.jobs TO PUBLIC", "grant PUBLIC on jobs: SELECT for strangers"),
        ("ALTER TABLE holdfast.workers DROP COLUMN stats_number", "column workers.stats_number is missing"),
        ("ALTER TABLE holdfast.jobs DROP CONSTRAINT jobs_priority", "constraint jobs.jobs_priority is missing"),
        ("ALTER TABLE holdfast.queues ALTER paused SET DEFAULT true", "column queues.paused is 'boolean NOT NULL DEF"),
        ("DROP FUNCTION holdfast.find_stale_jobs(interval) CASCADE", "function find_stale_jobs("),
        (
            "CREATE OR REPLACE FUNCTION holdfast.suspects() RETURNS int LANGUAGE sql AS 'SELECT 1';"
            " CREATE OR REPLACE FUNCTION holdfast.is_false_rescue(reason text, at timestamptz, details jsonb,"
            " gone_at timestamptz, gone_reason text, seen_at timestamptz, lost_after interval, timeout interval,"
            " silent_after interval, stale_after interval) RETURNS boolean LANGUAGE sql AS 'SELECT false'",
            "has another body",
        ),
        ("DROP VIEW holdfast.stale_jobs_view", "view stale_jobs_view is missing"),
        ("DROP TABLE holdfast.idempotency_keys", "table idempotency_keys is missing"),
    ],
)
async def test_what_differs_from_the_migrations_is_named(database: str, conn: Session, breaks: str, said: str) -> None:
    async with deployment(database, with_worker=False) as made:
        whole = await drift.check_drift(made)
        conn.execute(breaks.encode())
        found = await drift.check_drift(made)
    assert whole.verdict is Verdict.PASS, whole
    assert (found.verdict, said in found.found, bool(found.fix)) == (Verdict.FAIL, True, True), found


@pytest.mark.parametrize(
    "breaks",
    [
        "DROP INDEX holdfast.jobs_finished",
        "ALTER TABLE holdfast.workers DROP COLUMN stats_number",
        "DROP FUNCTION holdfast.settle_notification",
        "CREATE OR REPLACE FUNCTION holdfast.postgres_started_at() RETURNS timestamptz LANGUAGE sql AS 'SELECT now()'",
        "DROP TABLE holdfast.idempotency_keys",
        "DROP VIEW holdfast.stale_jobs_view",
    ],
)
async def test_the_steps_that_are_named_repair_it(bare: str, breaks: str) -> None:
    """On a database as users have it: without the clock of tests."""
    name = "holdfast_drift"
    with psycopg.connect(bare, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        dsn = conninfo.make_conninfo(bare, dbname=name)
        try:
            migrate_up(dsn)
            repair(dsn, breaks)
            async with deployment(dsn, with_worker=False) as made:
                broken = await drift.check_drift(made)
                for step in broken.repair:
                    migrate_up(dsn) if step == drift.AGAIN else repair(dsn, step)
                again = await drift.check_drift(made)
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    assert (broken.verdict, again.verdict) == (Verdict.FAIL, Verdict.PASS), (broken, again)


async def test_what_others_keep_beside_it_is_no_drift(database: str, conn: Session) -> None:
    conn.execute("CREATE INDEX of_ours ON holdfast.jobs (created_at)")
    async with deployment(database, with_worker=False) as made:
        found = await drift.check_drift(made)
    assert (found.verdict, "; 1 of others beside them" in found.found) == (Verdict.PASS, True), found


def test_what_is_expected_has_every_kind_of_object() -> None:
    assert {kind for kind, _ in expected()} == {
        "table", "column", "constraint", "index", "function", "view", "policy", "grant", "role"
    }  # fmt: skip


# Times


async def test_a_worker_whose_beats_are_late_is_told_before_it_is_declared_gone(database: str, conn: Session) -> None:
    async with deployment(database, with_worker=False) as made:
        assert (await check_beats(made)).verdict is Verdict.SKIP
        register(conn)
        verdicts = []
        for silence in (1, 9, 20):
            conn.execute("UPDATE holdfast.workers SET seen_at = holdfast.clock() - %s::interval", (seconds(silence),))
            verdicts.append((await check_beats(made)).verdict)
    assert verdicts == [Verdict.PASS, Verdict.WARN, Verdict.FAIL]


async def test_a_platform_that_kills_too_early_is_told(database: str) -> None:
    async with deployment(database, with_worker=False) as made:
        found = [await check_drain(replace(made, termination_grace=grace)) for grace in (None, 30.0, 38.0)]
    assert [each.verdict for each in found] == [Verdict.SKIP, Verdict.FAIL, Verdict.PASS]
    assert "terminationGracePeriodSeconds (Kubernetes) or TimeoutStopSec (systemd) to 38" in found[1].fix


# The whole way


async def findings(made: Deployment, *only: str) -> list[Finding]:
    return [each async for each in Doctor(made, new_id=new_id, only=only).examine()]


async def test_a_canary_is_timed_and_a_death_is_told_and_nothing_of_both_stays_dead(
    database: str, conn: Session
) -> None:
    async with deployment(database) as made:
        looking = asyncio.create_task(findings(replace(made, e2e=True), "e2e"))
        await until(lambda: conn.execute("SELECT FROM holdfast.jobs WHERE status = 'dead'").fetchall())
        advance(conn, seconds(16))  # deaths are looked for each 15 s, among what is 15 s old
        found = await looking
    assert [(each.id, each.verdict) for each in found] == [
        ("e2e.timing", Verdict.PASS), ("e2e.death", Verdict.PASS)
    ], found  # fmt: skip
    assert "through default: written in " in found[0].found
    assert found[1].found.startswith("told by log ")
    assert conn.execute("SELECT count(*) AS left FROM holdfast.jobs WHERE status = 'dead'").fetchall() == [{"left": 0}]


async def test_a_canary_that_nobody_runs_and_a_death_that_nobody_tells_fail(
    database: str, conn: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with deployment(database, with_worker=False) as whole:
        made = replace(whole, patience=Patience(canary=0.3, notice=0.3))
        register(conn, queues=["default"])
        report = await made.ledger.one(health_report(600.0))
        timing = await end_to_end.check_timing(made, report, new_id)
        death = await end_to_end.check_death(made, report, new_id)
        monkeypatch.setattr(end_to_end, "_ends", lambda *_: until(lambda: True))
        untold = await end_to_end.check_death(made, report, new_id)
    assert (timing.verdict, death.verdict, untold.verdict) == (Verdict.FAIL, Verdict.FAIL, Verdict.FAIL)
    assert "no incident was opened" in untold.found
    assert exit_code([timing]) == 1


# Only some of them


async def test_only_the_lines_that_are_asked_for_are_looked_at(database: str) -> None:
    async with deployment(database, with_worker=False) as made:
        assert [each.id for each in await findings(made, "schema.drift")] == ["schema.drift"]
        assert {each.id.partition(".")[0] for each in await findings(made, "access", "database")} == {
            "access", "database"
        }  # fmt: skip
        assert [each.id for each in await findings(made, "limits.refuse")] == ["limits.refuse"]


def test_warnings_have_an_exit_code_of_their_own_where_they_count() -> None:
    warns = [Finding("a", "A", Verdict.WARN, "")]
    assert (exit_code(warns), exit_code(warns, warns_count=True)) == (0, 4)
