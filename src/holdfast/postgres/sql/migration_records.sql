-- The migrations on record. Only asked where the table exists.
SELECT m.version, m.name, m.checksum, m.applied_at::text AS applied_at
FROM holdfast.schema_migrations m
ORDER BY m.version
