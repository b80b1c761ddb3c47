-- Does the ledger answer? Its clock, and the newest migration on record.
SELECT holdfast.clock(), (SELECT max(m.version) FROM holdfast.schema_migrations m)
