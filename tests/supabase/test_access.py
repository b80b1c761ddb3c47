"""Who may do what on a project as Supabase runs it: its linter's checks, and each role against each object."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo, sql
from psycopg.rows import dict_row

from holdfast.postgres.migrate import migrate_up
from tests.cli.command import holdfast
from tests.supabase.linter import LINTS, lint
from tests.supabase.project import GENEROUS, STRICT, supabase_database
from tests.support import Session, row, rows


@pytest.fixture(params=[GENEROUS, STRICT], ids=["a project of before October 2026", "a project of today"])
def migrated(request: pytest.FixtureRequest, bare: str) -> Iterator[str]:
    with supabase_database(bare, request.param) as dsn:
        migrate_up(dsn)
        yield dsn


@pytest.fixture
def conn(migrated: str) -> Iterator[Session]:
    with psycopg.connect(migrated, autocommit=True, row_factory=dict_row) as session:
        yield session


def test_the_linter_finds_nothing(migrated: str) -> None:
    assert lint(migrated) == {}


#: What each check must find; the names are those of the objects made.
BAD = {
    "0001_unindexed_foreign_keys": "CREATE TABLE public.a (id int PRIMARY KEY); CREATE TABLE public.b (a int,"
    " CONSTRAINT bad FOREIGN KEY (a) REFERENCES public.a)",
    "0003_auth_rls_initplan": "CREATE POLICY bad ON holdfast.jobs TO service_role USING (queue = current_setting('x'))",
    "0004_no_primary_key": "CREATE TABLE public.bad (a int)",
    "0006_multiple_permissive_policies": "CREATE TABLE public.bad (a int); CREATE POLICY x ON public.bad USING (a = 1);"
    " CREATE POLICY y ON public.bad USING (a = 2)",
    "0007_policy_exists_rls_disabled": "CREATE TABLE public.bad (a int); CREATE POLICY x ON public.bad USING (a = 1)",
    "0009_duplicate_index": "CREATE INDEX bad ON holdfast.jobs (created_at);"
    " CREATE INDEX worse ON holdfast.jobs (created_at)",
    "0010_security_definer_view": "CREATE VIEW public.bad AS SELECT 1",
    "0011_function_search_path_mutable": "CREATE FUNCTION public.bad() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "0013_rls_disabled": "ALTER TABLE holdfast.jobs DISABLE ROW LEVEL SECURITY;"
    " ALTER TABLE holdfast.jobs RENAME TO bad",
    "0015_rls_references_user_metadata": "CREATE TABLE public.a (user_metadata text);"
    " CREATE POLICY bad ON public.a USING (user_metadata = 'x')",
    "0016_materialized_view_in_api": "CREATE MATERIALIZED VIEW public.bad AS SELECT 1;"
    " GRANT SELECT ON public.bad TO anon",
    "0018_unsupported_reg_types": "CREATE TABLE public.bad (a regproc)",
    "0023_sensitive_columns_exposed": "CREATE TABLE public.bad (password text); GRANT SELECT ON public.bad TO anon",
    "0024_rls_policy_always_true": "CREATE POLICY bad ON holdfast.jobs TO authenticated USING (true)",
    "0026_table_visible_to_anon": "CREATE TABLE public.bad (a int); GRANT SELECT ON public.bad TO anon",
    "0027_table_visible_to_authenticated": "CREATE TABLE public.bad (a int);"
    " GRANT SELECT ON public.bad TO authenticated",
    "0028_anon_security_definer_function": "CREATE FUNCTION public.bad() RETURNS int"
    " LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
    "0029_authenticated_security_definer_function": "CREATE FUNCTION public.bad() RETURNS int"
    " LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
}


def test_each_check_of_the_linter_can_fail(bare: str) -> None:
    assert set(LINTS) - set(BAD) == {"0014_extension_in_public", "0017_foreign_table_in_api", "0030_invalid_index"}
    with supabase_database(bare) as dsn:
        migrate_up(dsn)
        for name, text in BAD.items():
            with psycopg.connect(dsn) as conn:
                conn.execute(text.encode())
                found = [each[0] for each in conn.execute(LINTS[name].encode())]
                conn.rollback()
            assert "bad" in found, f"{name} did not find it"


def test_nobody_but_our_two_roles_gets_at_anything(conn: Session) -> None:
    """Each role is tried against each object, as the server itself decides it."""
    for role in ("anon", "authenticated", "public"):
        assert not row(conn, "SELECT has_schema_privilege(%s, 'holdfast', 'USAGE') AS yes", role)["yes"]
        assert rows(conn, f"SELECT c.relname {OURS} AND {may_touch(role)}") == []
        assert (
            rows(conn, f"SELECT p.proname {OUR_FUNCTIONS} AND has_function_privilege('{role}', p.oid, 'EXECUTE')") == []
        )


OURS = "FROM pg_class c WHERE c.relnamespace = 'holdfast'::regnamespace AND c.relkind IN ('r', 'p', 'v')"
OUR_FUNCTIONS = (
    "FROM pg_proc p WHERE (p.pronamespace = 'holdfast'::regnamespace"
    " OR p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'holdfast\\_%%')"
)


def may_touch(role: str) -> str:
    return f"has_table_privilege('{role}', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')"


@pytest.mark.parametrize("role", ["holdfast_app", "service_role"])
def test_our_roles_may_read_and_write_rows_and_call_functions_and_nothing_more(conn: Session, role: str) -> None:
    assert row(conn, "SELECT has_schema_privilege(%s, 'holdfast', 'USAGE') AS yes", role)["yes"]
    assert not row(conn, "SELECT has_schema_privilege(%s, 'holdfast', 'CREATE') AS yes", role)["yes"]
    tables = rows(conn, f"SELECT c.oid::regclass::text AS name, c.relkind::text AS kind {OURS}")
    for table in tables:
        for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "TRIGGER", "REFERENCES"):
            wanted = privilege == "SELECT" or (
                privilege in ("INSERT", "UPDATE", "DELETE")
                and table["kind"] != "v"
                and table["name"] != "holdfast.schema_migrations"
            )
            found = row(conn, "SELECT has_table_privilege(%s, %s, %s) AS yes", role, table["name"], privilege)["yes"]
            assert found is wanted, f"{role}: {privilege} on {table['name']}"
    denied = f"SELECT p.proname {OUR_FUNCTIONS} AND NOT has_function_privilege('{role}', p.oid, 'EXECUTE')"
    refused = [each["proname"] for each in rows(conn, denied)]
    assert refused == [] or (role == "holdfast_app" and all(name.startswith("holdfast_") for name in refused))


@pytest.mark.parametrize("role", ["holdfast_app", "service_role"])
def test_our_roles_can_run_a_job_from_its_beginning_to_its_end(bare: str, migrated: str, role: str) -> None:
    """Privileges alone are not it: row level security is on, and each function runs with its caller's rights."""
    superuser = conninfo.make_conninfo(migrated, user=str(conninfo.conninfo_to_dict(bare)["user"]))
    with psycopg.connect(superuser, autocommit=True, row_factory=dict_row) as conn:
        run_a_job_as(conn, role)


def run_a_job_as(conn: Session, role: str) -> None:
    conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
    job, worker = "00000000-0000-7000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
    conn.execute("SELECT holdfast.enqueue(%s, 'q', 'k', '{}')", (job,))
    conn.execute("""SELECT holdfast.register_worker(%s, '{"queues": ["q"], "kinds": ["k"]}')""", (worker,))
    claimed = row(conn, "SELECT lease FROM holdfast.claim(%s, '{q}', '{k}', 5)", worker)
    assert claimed["lease"] == 1
    settled = row(conn, "SELECT verdict FROM holdfast.settle(%s, ARRAY[%s]::uuid[], '{1}', '{complete}')", worker, job)
    assert settled["verdict"] == "applied"
    assert row(conn, "SELECT holdfast.health_report() -> 'ended' -> 'of' AS n")["n"] == 1
    assert rows(conn, "SELECT * FROM holdfast.stale_jobs_view") == []
    assert row(conn, "SELECT allowed FROM holdfast.check_rate_limit('x', 3, 60)")["allowed"]


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_others_are_refused_when_they_try(conn: Session, role: str) -> None:
    conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
    for text in (
        "SELECT * FROM holdfast.jobs",
        "SELECT holdfast.clock()",
        "SELECT * FROM public.holdfast_ping()",
        "SELECT * FROM public.holdfast_check_rate_limit('x', 3)",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(text.encode())


def test_what_comes_later_is_secured_by_the_same_function(conn: Session) -> None:
    conn.execute("CREATE TABLE holdfast.later (id integer PRIMARY KEY); GRANT SELECT ON holdfast.later TO anon")
    conn.execute(
        "CREATE FUNCTION holdfast.late() RETURNS integer LANGUAGE sql SET search_path = pg_catalog AS 'SELECT 1'"
    )
    conn.execute("SELECT holdfast.secure_schema()")
    assert row(conn, "SELECT relrowsecurity AS on FROM pg_class WHERE oid = 'holdfast.later'::regclass")["on"]
    assert not row(conn, f"SELECT {may_touch('anon').replace('c.oid', 'oid')} AS yes FROM pg_class"
                         " WHERE oid = 'holdfast.later'::regclass")["yes"]  # fmt: skip
    assert not row(conn, "SELECT has_function_privilege('public', 'holdfast.late()', 'EXECUTE') AS yes")["yes"]
    assert row(conn, "SELECT has_table_privilege('holdfast_app', 'holdfast.later', 'INSERT') AS yes")["yes"]


def test_a_database_whose_public_schema_is_closed_is_migrated_all_the_same(bare: str, tmp_path: Path) -> None:
    with supabase_database(bare) as dsn:
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("DROP SCHEMA public")
        up = holdfast("migrate", "up", cwd=tmp_path, DATABASE_URL=dsn)
        assert (up.code, up.err) == (0, "")
        assert holdfast("migrate", "verify", cwd=tmp_path, DATABASE_URL=dsn).code == 0
