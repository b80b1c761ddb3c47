"""The optional file for pg_cron: nothing without the extension; with it, Postgres itself takes stuck jobs back."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row

from holdfast.postgres.embedded import EmbeddedPostgres
from holdfast.postgres.migrate import load_optional, migrate_up
from holdfast.postgres.server_binaries import ServerBinaries
from tests.cli.command import holdfast
from tests.conftest import SETTINGS
from tests.support import Session, row, rows


@pytest.fixture
def with_cron() -> Iterator[Session]:
    """A system's Postgres 15 with pg_cron."""
    base = Path(tempfile.mkdtemp(prefix="holdfast-cron-", dir="/tmp"))
    base.chmod(0o755)
    settings = {**SETTINGS, "shared_preload_libraries": "pg_cron", "cron.database_name": "holdfast"}
    server = EmbeddedPostgres(base / "data", settings=settings)
    place = Path("/usr/lib/postgresql/15/bin")
    assert (place / "postgres").exists(), "Postgres 15 is missing: run scripts/install-system-packages"
    server._binaries = ServerBinaries(place, 15, "system")
    try:
        with server:
            migrate_up(server.dsn)
            with psycopg.connect(server.dsn, autocommit=True, row_factory=dict_row) as conn:
                yield conn
    finally:
        shutil.rmtree(base, ignore_errors=True)


def test_without_the_extension_it_says_so_and_does_nothing(conn: Session) -> None:
    told: list[str] = []
    conn.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
    conn.execute(load_optional("pg_cron").encode())
    assert told == ["the extension pg_cron is not there: nothing was scheduled"]


@pytest.mark.full
def test_it_takes_a_job_from_a_worker_that_nobody_watches(with_cron: Session) -> None:
    conn = with_cron
    conn.execute("CREATE EXTENSION pg_cron")
    conn.execute("ALTER SCHEMA holdfast RENAME TO elsewhere")
    conn.execute(load_optional("pg_cron").encode())
    assert rows(conn, "SELECT FROM cron.job") == [], "each run of it would fail"
    conn.execute("ALTER SCHEMA elsewhere RENAME TO holdfast")
    for _ in range(3):
        conn.execute(load_optional("pg_cron").encode())
    scheduled = rows(conn, "SELECT jobname, schedule, command FROM cron.job ORDER BY jobname")
    assert [each["jobname"] for each in scheduled] == ["holdfast-forget-runs", "holdfast-sweep"]
    job, worker = "00000000-0000-7000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
    conn.execute("SELECT holdfast.enqueue(%s, 'q', 'k', '{}')", (job,))
    conn.execute("""SELECT holdfast.register_worker(%s, '{"queues": ["q"], "kinds": ["k"]}')""", (worker,))
    conn.execute("SELECT holdfast.claim(%s, '{q}', '{k}', 5)", (worker,))
    # Silent for a minute, on a server that has been up, and swept, for an hour.
    conn.execute(
        "CREATE OR REPLACE FUNCTION holdfast.postgres_started_at() RETURNS timestamptz LANGUAGE sql STABLE"
        " AS $$SELECT now() - interval '1 hour'$$"
    )
    conn.execute("UPDATE holdfast.workers SET seen_at = now() - interval '1 minute'")
    conn.execute(
        "UPDATE holdfast.monitors SET swept_at = now() - interval '11 s', resumed_at = now() - interval '1 hour'"
        " WHERE name = 'mark_workers_gone'"
    )
    for each in scheduled:
        conn.execute(each["command"].encode())
    assert row(conn, "SELECT gone_reason FROM holdfast.workers")["gone_reason"] == "lapsed"
    assert row(conn, "SELECT status, rescues FROM holdfast.jobs") == {"status": "queued", "rescues": 1}


def test_the_command_prints_it(tmp_path: Path) -> None:
    assert holdfast("migrate", "print", "--optional", "pg_cron", cwd=tmp_path).out == load_optional("pg_cron")
    wrong = holdfast("migrate", "print", "--optional", "cron", cwd=tmp_path)
    assert (wrong.code, wrong.err) == (2, "error: there is no optional file 'cron'; there is: pg_cron\n")
