"""The checks of level ERROR and WARN of Supabase's database linter that the catalog alone can answer, in our own words.

Each is a query of what it finds: names of objects in the schemas holdfast and public. Checks of other schemas (auth,
storage, pgmq) are left out, for nothing of ours is there. Source of the rules:
https://supabase.com/docs/guides/database/database-advisors (numbers in the names are the linter's).
"""

import psycopg

_FUNCTIONS = "FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname IN ('holdfast', 'public')"
_RELATIONS = "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname IN ('holdfast', 'public')"
_POLICIES = "FROM pg_policies p WHERE p.schemaname IN ('holdfast', 'public')"
_BY_API = "(has_table_privilege('anon', c.oid, 'SELECT') OR has_table_privilege('authenticated', c.oid, 'SELECT'))"
_OPEN = "('true', '(true)', '1=1', '(1 = 1)')"

LINTS = {
    "0001_unindexed_foreign_keys": "SELECT k.conname FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace"
    " WHERE k.contype = 'f' AND n.nspname IN ('holdfast', 'public') AND NOT EXISTS (SELECT FROM pg_index i"
    " WHERE i.indrelid = k.conrelid AND (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey)",
    "0003_auth_rls_initplan": f"SELECT p.policyname {_POLICIES}"
    r" AND concat(p.qual, p.with_check) ~ '(auth\.\w+\(|current_setting\()'",
    "0004_no_primary_key": f"SELECT c.relname {_RELATIONS} AND c.relkind = 'r'"
    " AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)",
    "0006_multiple_permissive_policies": f"SELECT p.tablename {_POLICIES} AND p.permissive = 'PERMISSIVE'"
    " GROUP BY p.schemaname, p.tablename, p.roles::text HAVING count(*) > 1",
    "0007_policy_exists_rls_disabled": f"SELECT c.relname {_RELATIONS} AND NOT c.relrowsecurity"
    " AND EXISTS (SELECT FROM pg_policy y WHERE y.polrelid = c.oid)",
    "0009_duplicate_index": "SELECT min(i.indexname) FROM pg_indexes i WHERE i.schemaname IN ('holdfast', 'public')"
    " GROUP BY i.schemaname, i.tablename, replace(i.indexdef, i.indexname, '') HAVING count(*) > 1",
    "0010_security_definer_view": f"SELECT c.relname {_RELATIONS} AND c.relkind = 'v'"
    " AND NOT coalesce(c.reloptions && ARRAY['security_invoker=true', 'security_invoker=on'], false)",
    "0011_function_search_path_mutable": f"SELECT p.proname {_FUNCTIONS}"
    " AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS setting WHERE setting LIKE 'search\\_path=%')",
    "0013_rls_disabled": f"SELECT c.relname {_RELATIONS} AND c.relkind IN ('r', 'p') AND NOT c.relrowsecurity",
    "0014_extension_in_public": "SELECT e.extname FROM pg_extension e WHERE e.extnamespace = 'public'::regnamespace",
    "0015_rls_references_user_metadata": f"SELECT p.policyname {_POLICIES}"
    " AND concat(p.qual, p.with_check) ~ '(user_metadata|raw_user_meta_data)'",
    "0016_materialized_view_in_api": f"SELECT c.relname {_RELATIONS} AND c.relkind = 'm' AND {_BY_API}",
    "0017_foreign_table_in_api": f"SELECT c.relname {_RELATIONS} AND c.relkind = 'f' AND {_BY_API}",
    "0018_unsupported_reg_types": "SELECT c.relname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
    " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname IN ('holdfast', 'public') AND c.relkind = 'r'"
    " AND a.atttypid::regtype::text IN ('regcollation', 'regconfig', 'regdictionary', 'regnamespace', 'regoper',"
    " 'regoperator', 'regproc', 'regprocedure')",
    "0023_sensitive_columns_exposed": "SELECT c.relname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
    " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname IN ('holdfast', 'public')"
    " AND c.relkind IN ('r', 'v')"
    f" AND {_BY_API} AND a.attname ~ '(password|secret|token|api_key|private_key)'",
    "0024_rls_policy_always_true": f"SELECT p.policyname {_POLICIES} AND p.cmd <> 'SELECT'"
    " AND p.roles && ARRAY['public', 'anon', 'authenticated']::name[]"
    f" AND (lower(p.qual) IN {_OPEN} OR lower(p.with_check) IN {_OPEN})",
    "0026_table_visible_to_anon": f"SELECT c.relname {_RELATIONS} AND c.relkind IN ('r', 'p', 'v', 'm')"
    " AND has_table_privilege('anon', c.oid, 'SELECT')",
    "0027_table_visible_to_authenticated": f"SELECT c.relname {_RELATIONS} AND c.relkind IN ('r', 'p', 'v', 'm')"
    " AND has_table_privilege('authenticated', c.oid, 'SELECT')",
    "0028_anon_security_definer_function": f"SELECT p.proname {_FUNCTIONS} AND p.prosecdef"
    " AND has_function_privilege('anon', p.oid, 'EXECUTE')",
    "0029_authenticated_security_definer_function": f"SELECT p.proname {_FUNCTIONS} AND p.prosecdef"
    " AND has_function_privilege('authenticated', p.oid, 'EXECUTE')",
    "0030_invalid_index": f"SELECT c.relname {_RELATIONS} AND c.relkind = 'i'"
    " AND EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = c.oid AND NOT i.indisvalid)",
}


def lint(dsn: str) -> dict[str, list[str]]:
    """What each check finds; only those that find something."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        found = {name: [row[0] for row in conn.execute(query.encode())] for name, query in LINTS.items()}
    return {name: sorted(names) for name, names in found.items() if names}
