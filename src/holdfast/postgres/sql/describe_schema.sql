-- Every object of ours and how it is defined, a line each, to be compared with what a migrated database has.
-- NOT NULL is told with its column: only Postgres 18 has constraints for it. A function is told by a hash of its body.
SELECT 'table' AS what, c.relname::text AS name,
       concat_ws(' ', c.relkind::text, array_to_string(c.reloptions, ','), CASE WHEN c.relrowsecurity THEN 'rls' END) AS definition
FROM pg_catalog.pg_class c
WHERE c.relnamespace = 'holdfast'::regnamespace AND c.relkind IN ('r', 'v')
UNION ALL
SELECT 'column', c.relname || '.' || a.attname,
       concat_ws(' ', format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'NOT NULL' END,
                 CASE WHEN a.attgenerated = 's' THEN 'GENERATED ALWAYS AS' WHEN d.oid IS NOT NULL THEN 'DEFAULT' END,
                 pg_get_expr(d.adbin, d.adrelid), CASE WHEN a.attidentity <> '' THEN 'IDENTITY' END)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = 'holdfast'::regnamespace AND c.relkind IN ('r', 'v')
UNION ALL
SELECT 'constraint', c.relname || '.' || k.conname, pg_get_constraintdef(k.oid)
FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
WHERE c.relnamespace = 'holdfast'::regnamespace AND k.contype IN ('c', 'p', 'u', 'f')
UNION ALL
SELECT 'index', i.relname::text, concat_ws(' ', pg_get_indexdef(i.oid), CASE WHEN NOT x.indisvalid THEN 'INVALID' END)
FROM pg_catalog.pg_index x
JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
WHERE i.relnamespace = 'holdfast'::regnamespace
UNION ALL
SELECT 'function', p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')',
       md5(concat_ws(' ', p.prosrc, p.provolatile, p.prosecdef, array_to_string(p.proconfig, ',')))
FROM pg_catalog.pg_proc p
WHERE p.pronamespace = 'holdfast'::regnamespace
   OR (p.pronamespace = 'public'::regnamespace AND left(p.proname, 9) = 'holdfast_')
ORDER BY 1, 2
