"""The schema that a database has, object by object, against the one that the files make."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from holdfast.postgres.migrate import load, migrate_up
from holdfast.postgres.schema import CATALOG, Difference, differences, objects_of
from holdfast.postgres.way_back import way_back
from tests.cli.command import holdfast, holdfast_here
from tests.support import database_copy, with_database

ROOT = Path(__file__).resolve().parents[2]
ALL = [migration.version for migration in load()]


@pytest.fixture(scope="module")
def plain(bare: str) -> Iterator[str]:
    """The name of a database as the files make it, without the clock of the tests."""
    with psycopg.connect(bare, autocommit=True) as admin:
        admin.execute("CREATE DATABASE holdfast_plain TEMPLATE template0")
        migrate_up(with_database(bare, "holdfast_plain"))
        yield "holdfast_plain"
        admin.execute("DROP DATABASE holdfast_plain WITH (FORCE)")


@pytest.fixture
def migrated(bare: str, plain: str) -> Iterator[str]:
    """A copy of it."""
    with database_copy(bare, plain) as dsn:
        yield dsn


def compare(dsn: str) -> list[Difference]:
    with psycopg.connect(dsn) as conn:
        (described,) = conn.execute(CATALOG).fetchone() or ()
        return differences(objects_of(described), ALL)


def change(dsn: str, text: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(text.encode())


def test_what_is_expected_is_what_the_files_make() -> None:
    """From scratch, file by file, on a server with Supabase's roles."""
    command = [sys.executable, str(ROOT / "scripts" / "write_catalog.py"), "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_migrated_database_has_exactly_what_is_expected(migrated: str) -> None:
    assert compare(migrated) == []


@pytest.mark.parametrize(
    ("text", "what", "kind", "name", "file"),
    [
        ("DROP INDEX holdfast.jobs_claim", "missing", "index", "holdfast.jobs_claim", 1),
        ("DROP TABLE holdfast.api_keys", "missing", "table", "holdfast.api_keys", 9),
        ("ALTER TABLE holdfast.jobs DROP CONSTRAINT jobs_status", "missing", "constraint",
         "holdfast.jobs.jobs_status", 1),
        ("ALTER TABLE holdfast.jobs ALTER attempts DROP DEFAULT", "differs", "column", "holdfast.jobs.attempts", 1),
        ("ALTER TABLE holdfast.jobs ALTER args DROP NOT NULL", "differs", "column", "holdfast.jobs.args", 1),
        ("ALTER TABLE holdfast.jobs DISABLE ROW LEVEL SECURITY", "differs", "table", "holdfast.jobs", 9),
        ("DROP POLICY holdfast_app ON holdfast.jobs", "missing", "policy", "holdfast.jobs.holdfast_app", 9),
        ("REVOKE INSERT ON holdfast.jobs FROM holdfast_app", "differs", "grant", "holdfast_app on holdfast.jobs", 9),
        ("GRANT SELECT ON holdfast.jobs TO PUBLIC", "extra", "grant", "PUBLIC on holdfast.jobs", 9),
        ("GRANT USAGE ON SCHEMA holdfast TO PUBLIC", "extra", "grant", "PUBLIC on schema holdfast", 9),
        ("CREATE FUNCTION holdfast.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'", "extra", "grant",
         "PUBLIC on holdfast.mine()", None),
        ("ALTER VIEW public.stale_jobs_view SET (security_invoker = false)", "differs", "view",
         "public.stale_jobs_view", 16),
        ("GRANT SELECT ON public.stale_jobs_view TO PUBLIC", "extra", "grant", "PUBLIC on public.stale_jobs_view", 9),
        ("DROP FUNCTION public.holdfast_ping()", "missing", "function", "public.holdfast_ping()", 10),
        ("CREATE TABLE holdfast.mine ()", "extra", "table", "holdfast.mine", None),
        ("ALTER VIEW holdfast.stale_jobs_view SET (security_invoker = false)", "differs", "view",
         "holdfast.stale_jobs_view", 5),
        ("CREATE OR REPLACE FUNCTION holdfast.clock() RETURNS timestamptz LANGUAGE sql SET search_path = pg_catalog,"
         " pg_temp AS 'SELECT now()'", "differs", "function", "holdfast.clock()", 1),
        ("DROP INDEX holdfast.jobs_dead; CREATE INDEX jobs_dead ON holdfast.jobs (fingerprint, id)", "differs", "index",
         "holdfast.jobs_dead", 1),
    ],
)  # fmt: skip
def test_what_is_missing_or_was_changed_is_told_with_the_file_that_makes_it(
    migrated: str, text: str, what: str, kind: str, name: str, file: int | None
) -> None:
    change(migrated, text)
    found = [(each.what, each.kind, each.name, each.file) for each in compare(migrated)]
    assert (what, kind, name, file) in found


def test_verify_tells_what_is_missing_and_the_way_out_leads_back(migrated: str, tmp_path: Path) -> None:
    well = holdfast("migrate", "verify", cwd=tmp_path, DATABASE_URL=migrated)
    assert (well.code, well.err) == (0, ""), well.out
    change(migrated, "DROP INDEX holdfast.jobs_claim; DROP TABLE holdfast.api_keys")
    answer = holdfast("migrate", "verify", cwd=tmp_path, DATABASE_URL=migrated)
    assert answer.code == 1
    assert "missing index holdfast.jobs_claim" in answer.out
    assert "missing table holdfast.api_keys" in answer.out
    told = json.loads(holdfast("migrate", "verify", "--json", cwd=tmp_path, DATABASE_URL=migrated).out)
    assert told["matches"] is False
    forget = answer.out.partition("run the SQL ")[2].partition(";")[0]
    change(migrated, forget)
    half = holdfast("migrate", "up", cwd=tmp_path, DATABASE_URL=migrated)
    assert (half.code, half.err) == (0, ""), "with the records gone the files run again"
    assert holdfast("migrate", "verify", cwd=tmp_path, DATABASE_URL=migrated).code == 0


def test_up_does_not_call_a_half_applied_database_well(migrated: str, tmp_path: Path) -> None:
    change(migrated, "DROP INDEX holdfast.jobs_claim")
    answer = holdfast("migrate", "up", cwd=tmp_path, DATABASE_URL=migrated)
    assert answer.code == 1
    assert "what they make is not all there: index holdfast.jobs_claim missing" in answer.err


def test_files_whose_lines_end_as_on_windows_make_the_same(bare: str) -> None:
    """Editors, browsers and checkouts change line ends; what a function does stays."""
    with database_copy(bare, "template0") as dsn:
        for migration in load():
            change(dsn, migration.text.replace("\n", "\r\n"))
        assert compare(dsn) == []
        assert migrate_up(dsn) == []


def test_verify_of_a_database_that_is_behind_says_to_migrate_first(migrated: str, tmp_path: Path) -> None:
    change(migrated, f"DELETE FROM holdfast.schema_migrations WHERE version = {ALL[-1]}")
    answer = holdfast("migrate", "verify", cwd=tmp_path, DATABASE_URL=migrated)
    assert (answer.code, "run: holdfast migrate up" in answer.err) == (1, True)


def test_a_lost_record_is_made_anew_by_the_files_and_the_jobs_are_kept(migrated: str, tmp_path: Path) -> None:
    change(migrated, "INSERT INTO holdfast.queues (name, created_at) VALUES ('kept', now())")
    change(migrated, "DROP TABLE holdfast.schema_migrations")
    answer = holdfast("migrate", "up", cwd=tmp_path, DATABASE_URL=migrated)
    assert "only that table was lost: holdfast migrate print | psql" in answer.err
    change(migrated, holdfast("migrate", "print", cwd=tmp_path).out)
    assert compare(migrated) == []
    with psycopg.connect(migrated) as conn:
        assert conn.execute("SELECT name FROM holdfast.queues").fetchall() == [("kept",)]


@pytest.mark.parametrize(
    "text",
    [
        "ALTER TABLE holdfast.workers DROP COLUMN loop_lag",
        "ALTER TABLE holdfast.jobs DROP COLUMN run_at CASCADE",
        "ALTER TABLE holdfast.jobs DROP COLUMN kind CASCADE",
        "ALTER TABLE holdfast.queues ALTER paused SET DEFAULT true",
        "ALTER TABLE holdfast.queues ALTER paused DROP DEFAULT",
        "ALTER TABLE holdfast.jobs ALTER args DROP NOT NULL",
        "ALTER TABLE holdfast.jobs ALTER error SET NOT NULL",
        "ALTER TABLE holdfast.workers ALTER running TYPE bigint",
        "ALTER TABLE holdfast.workers DROP CONSTRAINT workers_gone_reason",
        "ALTER TABLE holdfast.workers DROP CONSTRAINT workers_gone_reason,"
        " ADD CONSTRAINT workers_gone_reason CHECK (true)",
        "DROP INDEX holdfast.jobs_dead; CREATE INDEX jobs_dead ON holdfast.jobs (fingerprint, id)",
        "DROP TABLE holdfast.queues",
        "DROP FUNCTION holdfast.clock() CASCADE",
        "DROP VIEW holdfast.stale_jobs_view",
        "DROP FUNCTION public.holdfast_ping()",
        "DROP FUNCTION holdfast.secure_schema()",
        "ALTER VIEW public.stale_jobs_view SET (security_invoker = false)",
        "ALTER VIEW holdfast.stale_jobs_view SET (security_invoker = false)",
        # What Postgres fills by itself.
        "ALTER TABLE holdfast.jobs DROP COLUMN lane CASCADE",
        "ALTER TABLE holdfast.jobs ALTER lane DROP EXPRESSION",
        "DROP INDEX holdfast.jobs_claim; ALTER TABLE holdfast.jobs DROP lane,"
        ' ADD lane text COLLATE "C" NOT NULL GENERATED ALWAYS AS (kind) STORED;'
        " CREATE INDEX jobs_claim ON holdfast.jobs (queue, kind, lane, priority, run_at, id) WHERE status = 'queued'",
        "ALTER TABLE holdfast.job_events DROP COLUMN id",
        "ALTER TABLE holdfast.job_events ALTER id DROP IDENTITY",
        "ALTER TABLE holdfast.job_events ALTER id SET GENERATED BY DEFAULT",
        "ALTER TABLE holdfast.job_events ALTER lease ADD GENERATED BY DEFAULT AS IDENTITY",
        # What a file that is run again leaves as it is.
        "ALTER TABLE holdfast.jobs SET (fillfactor = 90, autovacuum_enabled = false)",
        "ALTER TABLE holdfast.jobs RESET (fillfactor)",
        "ALTER TABLE holdfast.jobs DISABLE ROW LEVEL SECURITY",
        "ALTER POLICY holdfast_app ON holdfast.jobs USING (false)",
        "DROP POLICY holdfast_app ON holdfast.jobs",
        "GRANT TRUNCATE ON holdfast.jobs TO holdfast_app",
        "REVOKE INSERT ON holdfast.jobs FROM holdfast_app; GRANT TRUNCATE ON holdfast.jobs TO holdfast_app",
        "GRANT SELECT ON holdfast.jobs, public.stale_jobs_view TO PUBLIC; GRANT USAGE ON SCHEMA holdfast TO PUBLIC;"
        " GRANT EXECUTE ON FUNCTION holdfast.clock() TO PUBLIC",
        "ALTER TABLE holdfast.queues DROP CONSTRAINT queues_pkey",
        "ALTER TABLE holdfast.queues DROP CONSTRAINT queues_pkey,"
        " ADD CONSTRAINT queues_pkey PRIMARY KEY (name, paused)",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'holdfast.jobs_dead'::regclass",
    ],
)
def test_the_way_back_leads_back(migrated: str, text: str) -> None:
    """Statement by statement, as the doctor does it; afterwards the next event finds a number that is free."""
    event = "INSERT INTO holdfast.job_events (at, job_id, lease, event) SELECT now(), gen_random_uuid(), 1, 'crash'"
    change(migrated, f"{event} FROM generate_series(1, 3)")
    change(migrated, text)
    steps = way_back(compare(migrated))
    assert steps
    for step in steps:
        change(migrated, step)
    migrate_up(migrated)
    assert compare(migrated) == []
    change(migrated, event)


def test_without_the_functions_that_look_the_way_to_look_leads_back(migrated: str, tmp_path: Path) -> None:
    for lost in ("schema_catalog", "describe_schema"):
        change(migrated, f"DROP FUNCTION holdfast.{lost}()")
        answer = holdfast_here("migrate", "verify", cwd=tmp_path, DATABASE_URL=migrated)
        assert answer.code == 1
        change(migrated, answer.err.partition("run the SQL ")[2].partition("; then: ")[0])
        assert holdfast_here("migrate", "up", cwd=tmp_path, DATABASE_URL=migrated).code == 0
        assert compare(migrated) == []
