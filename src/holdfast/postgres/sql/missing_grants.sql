-- What this role may not do that Holdfast does: statements that would grant it.
-- RPC missing_grants() RETURNS SETOF text
SELECT 'GRANT SELECT, INSERT, UPDATE, DELETE ON holdfast.' || quote_ident(c.relname) || ' TO ' || quote_ident(current_user)
FROM pg_catalog.pg_class c
WHERE c.relnamespace = 'holdfast'::regnamespace AND c.relkind = 'r'
  AND NOT (has_table_privilege(c.oid, 'SELECT')
           -- What was applied is the owner's to write.
           AND (c.relname = 'schema_migrations' OR has_table_privilege(c.oid, 'INSERT')
                AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE')))
UNION ALL
SELECT 'GRANT EXECUTE ON FUNCTION ' || p.oid::regprocedure || ' TO ' || quote_ident(current_user)
FROM pg_catalog.pg_proc p
WHERE p.pronamespace = 'holdfast'::regnamespace AND NOT has_function_privilege(p.oid, 'EXECUTE')
ORDER BY 1
LIMIT 1000
