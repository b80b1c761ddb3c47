-- Is there a schema of our name, and is it ours? Needs nothing of it: this is asked of databases that have none.
-- RPC schema_owner()
-- RETURNS TABLE (has_schema boolean, has_objects boolean, has_records boolean, server_version integer)
SELECT n.oid IS NOT NULL AS has_schema,
       EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid)
           OR EXISTS (SELECT FROM pg_catalog.pg_proc p WHERE p.pronamespace = n.oid) AS has_objects,
       (SELECT count(*) FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
        WHERE c.relnamespace = n.oid AND c.relname = 'schema_migrations' AND NOT a.attisdropped
          AND a.attname IN ('version', 'name', 'checksum', 'applied_at')) = 4 AS has_records,
       current_setting('server_version_num')::integer AS server_version
FROM (SELECT) AS one
LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = 'holdfast'
