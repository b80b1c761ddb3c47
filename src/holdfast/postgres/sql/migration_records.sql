-- The migrations on record. Only asked where the table exists.
-- RPC migration_records() RETURNS TABLE (version integer, name text, checksum text, applied_at text)
SELECT m.version, m.name, m.checksum, m.applied_at::text AS applied_at
FROM holdfast.schema_migrations m
ORDER BY m.version
