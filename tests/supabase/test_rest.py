"""The ledger over HTTPS alone: real PostgREST with Supabase's roles; keys, refusals, and whatever else can come."""

import contextlib
import socket
import time
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from holdfast.errors import (
    ConfigurationError,
    DatabaseRefused,
    DatabaseUnavailable,
    InvalidValue,
    NeedsConnection,
    SchemaMismatch,
    WorkerGone,
)
from holdfast.postgres import calls, presence, reads
from holdfast.postgres.calls import Call, NewJob, Settlement
from holdfast.postgres.health import health_report
from holdfast.postgres.ledger import AsyncLedger, SyncLedger
from holdfast.postgres.migrate import load, migrate_status
from holdfast.postgres.rest import place_of, rest_address
from tests.supabase.project import PUBLISHABLE_KEY, SECRET_KEY, Answer, Project, token
from tests.support import Session, row

pytestmark = pytest.mark.full


def sync(project: Project, key: str = SECRET_KEY, deadline: float = 10.0) -> SyncLedger:
    return SyncLedger(project.address(key), deadline=deadline)


def job(**given: Any) -> NewJob:
    return NewJob(uuid4(), "default", "report", '{"to": "ada@example.org", "n": [1, 2.5, null]}', **given)


async def test_a_job_is_written_claimed_run_and_settled_over_https_alone(project: Project, conn: Session) -> None:
    ledger, worker = AsyncLedger(project.address()), uuid4()
    try:
        wanted = job(delay=0.0, priority=7)
        assert [answer.created for answer in await ledger.call(calls.enqueue_many([wanted, job(delay=3600.0)]))] == [
            True
        ] * 2
        options = {"host": "h", "pid": 1, "queues": ["default"], "kinds": ["report"], "slots": 5}
        assert await ledger.one(calls.register_worker(worker, options)) is True
        (claimed,) = await ledger.call(calls.claim(worker, ["default"], ["report"], 5, None))
        assert (claimed.id, claimed.lease, claimed.args["n"], claimed.priority) == (wanted.id, 1, [1, 2.5, None], 7)
        assert claimed.timeout == timedelta(hours=1)
        assert (
            claimed.claimed_at
            == row(conn, "SELECT claimed_at FROM holdfast.jobs WHERE id = %s", wanted.id)["claimed_at"]
        )
        assert await ledger.one(calls.beat(worker, {})) is True
        assert await ledger.call(calls.check_leases(worker, [(wanted.id, 1)], 15.0)) == []
        (told,) = await ledger.call(calls.progress(worker, [(wanted.id, 1, '{"done": 0.5}')]))
        assert told.verdict == "applied"
        settlement = Settlement(wanted.id, 1, "complete", result='{"sent": true}')
        assert [each.verdict for each in await ledger.call(calls.settle(worker, [settlement]))] == ["applied"]
        (again,) = await ledger.call(calls.settle(worker, [settlement]))
        assert again.verdict == "already"
        (stored,) = await ledger.call(reads.job(wanted.id))
        assert (stored.status, stored.result, stored.progress) == ("succeeded", {"sent": True}, {"done": 0.5})
        assert (
            stored.created_at
            == row(conn, "SELECT created_at FROM holdfast.jobs WHERE id = %s", wanted.id)["created_at"]
        )
    finally:
        await ledger.close()


async def test_a_worker_that_is_gone_is_told_so(project: Project) -> None:
    ledger = AsyncLedger(project.address())
    try:
        with pytest.raises(WorkerGone):
            await ledger.call(calls.claim(uuid4(), ["default"], ["report"], 5, None))
    finally:
        await ledger.close()


def test_health_is_looked_at_over_https(project: Project) -> None:
    report = sync(project).one(health_report(600.0))
    assert report.running == 0
    assert report.postgres.version >= 15
    assert {monitor.name for monitor in report.monitors} >= {"rescue_stale_jobs", "prune"}
    assert sync(project).one(reads.ping()).schema_version == load()[-1].version
    assert {status.state for status in migrate_status(project.address())} == {"applied"}
    assert sync(project).call(presence.list_services()) == []


@pytest.mark.parametrize("key", [SECRET_KEY, token("service_role")], ids=["secret key", "service_role JWT"])
def test_each_kind_of_key_goes_into_the_fields_where_it_belongs(project: Project, key: str) -> None:
    assert sync(project, key).one(reads.ping()).schema_version == load()[-1].version
    sent = project.seen[-1]
    assert sent["apikey"] == key
    assert sent.get("authorization") == (None if key == SECRET_KEY else f"Bearer {key}")
    assert "Mozilla" not in sent["user-agent"]


@pytest.mark.parametrize("key", [PUBLISHABLE_KEY, token("anon"), "sbp_0123"])
def test_a_key_that_can_never_work_is_refused_before_it_is_sent(project: Project, key: str) -> None:
    with pytest.raises(ConfigurationError, match="take a secret key") as raised:
        sync(project, key)
    assert key not in str(raised.value)
    assert project.seen == []


@pytest.mark.parametrize("key", ["sb_secret_two words", "sb_secret_two\nlines", "sb_secret_ümlaut"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_told(project: Project, key: str) -> None:
    with pytest.raises(ConfigurationError, match="SUPABASE_SERVICE_KEY holds a space, a line break") as raised:
        sync(project, key)
    assert "two" not in str(raised.value)
    assert "mlaut" not in str(raised.value)
    assert project.seen == []


@pytest.mark.parametrize(
    "key",
    ["sb_secret_revoked", token("service_role", exp=1), token("authenticated")],
    ids=["revoked", "expired", "role"],
)
def test_a_key_that_is_refused_says_what_to_set(project: Project, key: str) -> None:
    with pytest.raises(DatabaseRefused, match="set SUPABASE_SERVICE_KEY to a secret key of this project") as raised:
        sync(project, key).call(reads.ping())
    assert key not in str(raised.value)


def test_a_ledger_without_our_functions_says_what_to_run(project: Project, conn: Session) -> None:
    conn.execute("DROP FUNCTION public.holdfast_ping()")
    conn.execute("NOTIFY pgrst, 'reload schema'")
    end = time.monotonic() + 20
    with contextlib.suppress(SchemaMismatch):
        while time.monotonic() < end:  # PostgREST reads its list anew in its own time
            sync(project).call(reads.ping())
    with pytest.raises(SchemaMismatch, match="run: holdfast migrate up"):
        sync(project).call(reads.ping())


def test_a_value_that_postgres_refuses_is_the_callers_mistake(project: Project) -> None:
    with pytest.raises(InvalidValue):
        sync(project).call(calls.enqueue_many([NewJob(uuid4(), "default", "report", '{"a": "\\u0000"}')]))


def test_a_call_that_takes_longer_than_its_role_may_is_an_outage(project: Project, conn: Session) -> None:
    conn.execute(
        "CREATE OR REPLACE FUNCTION public.holdfast_ping() RETURNS TABLE (clock timestamptz, schema_version integer)"
        " LANGUAGE sql AS 'SELECT clock_timestamp(), 1 FROM pg_sleep(30)'"
    )
    with pytest.raises(DatabaseUnavailable, match="it took longer than this role may"):
        sync(project).call(reads.ping())


def page(status: int) -> Answer:
    return lambda gateway: gateway.raw(status, b"<html><title>Bad gateway</title></html>", "text/html")


def half_sent(gateway: Any) -> None:
    gateway.send_response(200)
    gateway.send_header("Content-Type", "application/json")
    gateway.send_header("Content-Length", "1000")
    gateway.end_headers()
    gateway.wfile.write(b'[{"clock":')
    gateway.wfile.flush()
    gateway.close_connection = True
    gateway.connection.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (page(200), DatabaseUnavailable, "a proxy in between"),
        (page(502), DatabaseUnavailable, "answered 502 and no JSON .*'Bad gateway'"),
        (page(404), DatabaseRefused, "set SUPABASE_URL to the project's address"),
        (half_sent, DatabaseUnavailable, "cannot be reached"),
        (lambda gateway: gateway.send(503, {"code": "PGRST002", "message": "no"}), DatabaseUnavailable, "PGRST002"),
        (lambda gateway: gateway.send(429, {"message": "slow down"}), DatabaseUnavailable, "429"),
        (lambda gateway: gateway.send(406, {"code": "PGRST106", "message": "no"}), DatabaseRefused, "exposed schemas"),
        (lambda gateway: gateway.send(200, [{"other": 1}]), SchemaMismatch, "in another form"),
        (lambda gateway: gateway.send(200, "text"), SchemaMismatch, "in another form"),
    ],
    ids=["html", "502", "404", "half sent", "503", "429", "406", "other columns", "other shape"],
)
def test_what_can_come_instead_of_an_answer(
    project: Project, answer: Answer, error: type[Exception], words: str
) -> None:
    project.misbehave.append(answer)
    with pytest.raises(error, match=words):
        sync(project).call(reads.ping())


def test_a_key_of_another_project_is_refused_before_it_is_sent() -> None:
    key = token("service_role", ref="zzzzzzzzzzzzzzzzzzzz")
    with pytest.raises(
        ConfigurationError, match="is a key of project zzzzzzzzzzzzzzzzzzzz, and SUPABASE_URL is that of"
    ):
        SyncLedger(rest_address("https://abcdefghijklmnopqrst.supabase.co", key))


def test_nobody_waits_longer_than_the_deadline(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        address = rest_address(f"http://127.0.0.1:{deaf.getsockname()[1]}", SECRET_KEY)
        with pytest.raises(DatabaseUnavailable, match=r"did not answer ping within 0\.2 s"):
            SyncLedger(address, deadline=0.2).call(reads.ping())


def drip(gateway: Any) -> None:
    """A byte now and then, for ever: each of them within every limit that counts anew."""
    gateway.send_response(200)
    gateway.send_header("Content-Type", "application/json")
    gateway.send_header("Content-Length", "100000")
    gateway.end_headers()
    gateway.close_connection = True
    with contextlib.suppress(OSError):
        for _ in range(1000):
            gateway.wfile.write(b" ")
            gateway.wfile.flush()
            time.sleep(0.02)


async def test_an_answer_that_drips_ends_at_the_deadline(project: Project) -> None:
    project.misbehave.extend([drip, drip])
    with pytest.raises(DatabaseUnavailable, match=r"did not answer ping within 0\.3 s"):
        sync(project, deadline=0.3).call(reads.ping())
    ledger = AsyncLedger(project.address(), deadline=0.3)
    with pytest.raises(DatabaseUnavailable, match=r"did not answer ping within 0\.3 s"):
        await ledger.call(reads.ping())
    await ledger.close()


def test_what_needs_a_connection_says_so(project: Project) -> None:
    with pytest.raises(NeedsConnection, match="needs a connection to Postgres, and here is HTTPS alone"):
        sync(project).call(Call("a statement of mine", "SELECT 1", (), int))


def test_an_address_keeps_its_key_to_itself() -> None:
    address = rest_address("https://abcdef.supabase.co/", "sb_secret_a/b:c@d")
    assert place_of(address).key == "sb_secret_a/b:c@d"
    assert place_of(address).url == "https://abcdef.supabase.co"
