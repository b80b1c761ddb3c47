"""find_stale_jobs() and stale_jobs_view under the names that people look for: in public, where these are free."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.rows import dict_row

from holdfast.postgres.migrate import load, migrate_up
from holdfast.postgres.schema import CATALOG, differences, objects_of
from tests.support import Session, claim_one, database_copy, enqueue, register, row, rows


@pytest.fixture
def unmigrated(bare: str) -> Iterator[Session]:
    with (
        database_copy(bare, "template0") as dsn,
        psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as session,
    ):
        yield session


def migrate(session: Session) -> None:
    migrate_up(session.info.dsn)


def differing(session: Session) -> list[object]:
    (described,) = row(session, CATALOG).values()
    return list(differences(objects_of(described), [migration.version for migration in load()]))


def test_a_stuck_job_is_found_under_each_name(conn: Session) -> None:
    enqueue(conn)
    claim_one(conn, register(conn))
    conn.execute("UPDATE holdfast.jobs SET heartbeat_at = heartbeat_at - interval '5 minutes'")
    assert rows(conn, "SELECT * FROM public.find_stale_jobs()") == []
    (found,) = rows(conn, "SELECT * FROM find_stale_jobs('1 minute')")
    assert found["reason"] == "no_heartbeat"
    conn.execute("UPDATE holdfast.jobs SET heartbeat_at = heartbeat_at - interval '6 minutes'")
    (seen,) = rows(conn, "SELECT * FROM public.stale_jobs_view")
    (ours,) = rows(conn, "SELECT * FROM holdfast.stale_jobs_view")
    assert {**seen, "silent_for": None} == {**ours, "silent_for": None}


def test_the_two_roles_may_look_and_nobody_else(unmigrated: Session) -> None:
    migrate(unmigrated)
    grantees = rows(
        unmigrated,
        "SELECT DISTINCT g.grantee::regrole::text AS role FROM pg_proc p, aclexplode(p.proacl) g"
        " WHERE p.oid = 'public.find_stale_jobs(interval)'::regprocedure AND g.grantee <> p.proowner"
        " UNION SELECT g.grantee::regrole::text FROM pg_class c, aclexplode(c.relacl) g"
        " WHERE c.oid = 'public.stale_jobs_view'::regclass AND g.grantee <> c.relowner",
    )
    assert {each["role"] for each in grantees} - {"service_role"} == {"holdfast_app"}
    unmigrated.execute("SET ROLE holdfast_app")
    assert rows(unmigrated, "SELECT * FROM public.find_stale_jobs()") == []
    assert rows(unmigrated, "SELECT * FROM public.stale_jobs_view") == []


def test_what_bears_such_a_name_already_stays_as_it_is(unmigrated: Session) -> None:
    unmigrated.execute("CREATE TABLE public.stale_jobs_view (mine integer)")
    unmigrated.execute("CREATE FUNCTION public.find_stale_jobs() RETURNS integer LANGUAGE sql AS 'SELECT 7'")
    migrate(unmigrated)
    unmigrated.execute("SELECT holdfast.secure_schema()")
    may = "has_function_privilege('public', 'public.find_stale_jobs()', 'EXECUTE')"
    assert row(unmigrated, f"SELECT public.find_stale_jobs() AS seven, {may} AS open") == {"seven": 7, "open": True}
    assert rows(unmigrated, "SELECT mine FROM public.stale_jobs_view") == []
    assert differing(unmigrated) == [], "and nobody misses ours"


def test_a_name_that_became_free_is_given_when_that_is_asked_for(unmigrated: Session) -> None:
    unmigrated.execute("CREATE TABLE public.stale_jobs_view (mine integer)")
    migrate(unmigrated)
    unmigrated.execute("DROP TABLE public.stale_jobs_view")
    for _ in range(2):
        unmigrated.execute("SELECT holdfast.offer_stale_jobs(); SELECT holdfast.secure_schema()")
    assert rows(unmigrated, "SELECT * FROM public.stale_jobs_view") == []
    assert differing(unmigrated) == []
    # Ours is made anew by its own file, whatever was made of it.
    unmigrated.execute("DELETE FROM holdfast.schema_migrations WHERE version IN (5, 9)")
    migrate(unmigrated)
    assert differing(unmigrated) == []


def test_a_role_that_may_not_write_to_public_migrates_all_the_same(unmigrated: Session, bare: str) -> None:
    name = unmigrated.info.dbname
    with psycopg.connect(bare, autocommit=True) as admin:
        admin.execute("CREATE ROLE without_public LOGIN")
        try:
            unmigrated.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
            unmigrated.execute(f'GRANT CREATE ON DATABASE "{name}" TO without_public'.encode())
            migrate_up(psycopg.conninfo.make_conninfo(unmigrated.info.dsn, user="without_public"))
            assert rows(unmigrated, "SELECT FROM pg_proc WHERE pronamespace = 'public'::regnamespace") == []
            assert differing(unmigrated) == []
        finally:
            unmigrated.execute("DROP OWNED BY without_public CASCADE")
            admin.execute("DROP OWNED BY without_public")
            admin.execute("DROP ROLE without_public")
