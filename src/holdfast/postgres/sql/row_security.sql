-- Tables of which row-level security shows this role nothing, since no policy is for it; and roles of strangers that may
-- look into the schema.
-- RPC row_security() RETURNS TABLE (what text, name text)
SELECT 'hidden', c.relname::text
FROM pg_catalog.pg_class c
WHERE c.relnamespace = 'holdfast'::regnamespace AND c.relkind = 'r' AND row_security_active(c.oid)
  AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_policy p CROSS JOIN LATERAL unnest(p.polroles) AS r (role)
      WHERE p.polrelid = c.oid AND (r.role = 0 OR pg_has_role(r.role, 'MEMBER')))
UNION ALL
SELECT 'exposed', r.rolname::text
FROM pg_catalog.pg_roles r
WHERE r.rolname IN ('anon', 'authenticated') AND has_schema_privilege(r.oid, 'holdfast', 'USAGE')
ORDER BY 1, 2
