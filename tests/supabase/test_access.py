"""Who may do what on a project as Supabase runs it: its linter's checks, and each role against each object."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from psycopg import conninfo, sql
from psycopg.rows import dict_row

from holdfast.postgres.migrate import load, migrate_up
from holdfast.postgres.schema import CATALOG, differences, objects_of
from tests.supabase.linter import lint
from tests.supabase.project import GENEROUS, STRICT, supabase_database
from tests.support import Session, row, rows


@pytest.fixture(
    scope="module", params=[GENEROUS, STRICT], ids=["a project of before October 2026", "a project of today"]
)
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


def test_the_schema_is_what_verify_expects_whatever_the_project_gives_by_itself(conn: Session) -> None:
    (described,) = row(conn, CATALOG).values()
    assert differences(objects_of(described), [migration.version for migration in load()]) == []


def test_nobody_but_our_two_roles_gets_at_anything(conn: Session) -> None:
    """Each role is tried against each object, as the server itself decides it."""
    for role in ("anon", "authenticated", "public"):
        assert not row(conn, "SELECT has_schema_privilege(%s, 'holdfast', 'USAGE') AS yes", role)["yes"]
        assert rows(conn, f"SELECT c.relname {OURS} AND {may_touch(role)}") == []
        assert (
            rows(conn, f"SELECT p.proname {OUR_FUNCTIONS} AND has_function_privilege('{role}', p.oid, 'EXECUTE')") == []
        )
        may_count = f"has_sequence_privilege('{role}', c, 'USAGE, SELECT, UPDATE')"
        assert rows(conn, f"SELECT c::regclass::text {OUR_SEQUENCES} WHERE {may_count}") == []
    assert rows(conn, f"SELECT {OUR_SEQUENCES}") != []


OURS = (
    "FROM pg_class c WHERE (c.relnamespace = 'holdfast'::regnamespace AND c.relkind IN ('r', 'p', 'v')"
    " OR c.oid = 'public.stale_jobs_view'::regclass)"
)
OUR_FUNCTIONS = (
    "FROM pg_proc p WHERE (p.pronamespace = 'holdfast'::regnamespace OR p.pronamespace = 'public'::regnamespace"
    " AND (p.proname LIKE 'holdfast\\_%%' OR p.proname = 'find_stale_jobs'))"
)
#: A list is made first: the server may ask for a privilege before it asks for the kind of relation.
OUR_SEQUENCES = (
    "FROM unnest(ARRAY(SELECT oid FROM pg_class WHERE relnamespace = 'holdfast'::regnamespace AND relkind = 'S')) AS c"
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
    may_count = f"has_sequence_privilege('{role}', c, 'USAGE')"
    assert rows(conn, f"SELECT c::regclass::text {OUR_SEQUENCES} WHERE NOT {may_count}") == []
    assert refused == [] or (role == "holdfast_app" and all(name.startswith("holdfast_") for name in refused))


@pytest.mark.parametrize("role", ["holdfast_app", "service_role"])
def test_our_roles_can_run_a_job_from_its_beginning_to_its_end(bare: str, migrated: str, role: str) -> None:
    """Privileges alone are not it: row level security is on, and each function runs with its caller's rights."""
    superuser = conninfo.make_conninfo(migrated, user=str(conninfo.conninfo_to_dict(bare)["user"]))
    with psycopg.connect(superuser, autocommit=True, row_factory=dict_row) as conn:
        run_a_job_as(conn, role)


def run_a_job_as(conn: Session, role: str) -> None:
    conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
    job, worker = uuid4(), uuid4()
    conn.execute("SELECT holdfast.enqueue(%s, 'q', 'k', '{}')", (job,))
    conn.execute("""SELECT holdfast.register_worker(%s, '{"queues": ["q"], "kinds": ["k"]}')""", (worker,))
    claimed = row(conn, "SELECT id, lease FROM holdfast.claim(%s, '{q}', '{k}', 5)", worker)
    assert (claimed["id"], claimed["lease"]) == (job, 1)
    settled = row(conn, "SELECT verdict FROM holdfast.settle(%s, ARRAY[%s]::uuid[], '{1}', '{complete}')", worker, job)
    assert settled["verdict"] == "applied"
    assert row(conn, "SELECT holdfast.health_report() ? 'clock' AS looked")["looked"]
    for stale in ("holdfast.stale_jobs_view", "public.stale_jobs_view", "public.find_stale_jobs()"):
        assert rows(conn, f"SELECT * FROM {stale}") == []
    assert row(conn, "SELECT allowed FROM holdfast.check_rate_limit(%s, 3, 60)", role)["allowed"]


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_others_are_refused_when_they_try(conn: Session, role: str) -> None:
    conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
    for text in (
        "SELECT * FROM holdfast.jobs",
        "SELECT holdfast.clock()",
        "SELECT * FROM public.holdfast_ping()",
        "SELECT * FROM public.holdfast_check_rate_limit('x', 3)",
        "SELECT * FROM public.stale_jobs_view",
        "SELECT * FROM public.find_stale_jobs()",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(text.encode())


def test_what_comes_later_is_secured_by_the_same_function(migrated: str) -> None:
    with psycopg.connect(migrated, row_factory=dict_row) as conn:  # rolled back at its end
        secure_later_ones(conn)
        conn.rollback()


def secure_later_ones(conn: Session) -> None:
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
