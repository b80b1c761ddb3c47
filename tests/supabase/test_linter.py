"""The linter's checks can fail; and projects that are set up in another way."""

from pathlib import Path

import psycopg

from holdfast.postgres.migrate import migrate_up
from tests.cli.command import holdfast
from tests.supabase.linter import LINTS
from tests.supabase.project import supabase_database

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


def test_a_database_whose_public_schema_is_closed_is_migrated_all_the_same(bare: str, tmp_path: Path) -> None:
    with supabase_database(bare) as dsn:
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("DROP SCHEMA public")
        up = holdfast("migrate", "up", cwd=tmp_path, DATABASE_URL=dsn)
        assert (up.code, up.err) == (0, "")
        assert holdfast("migrate", "verify", cwd=tmp_path, DATABASE_URL=dsn).code == 0
