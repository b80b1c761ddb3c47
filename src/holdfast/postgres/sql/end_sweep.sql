-- What a sweep came to, for people and health checks.
-- RPC end_sweep(name text, result jsonb) RETURNS SETOF text
UPDATE holdfast.monitors AS m SET last_result = %(result)s::jsonb WHERE m.name = %(name)s RETURNING m.name
