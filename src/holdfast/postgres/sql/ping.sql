-- Does the ledger answer? Its clock, and the newest migration on record.
-- RPC ping() RETURNS TABLE (clock timestamptz, schema_version integer)
SELECT holdfast.clock(), (SELECT max(m.version) FROM holdfast.schema_migrations m)
