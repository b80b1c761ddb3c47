-- What a sweep came to, for people and health checks.
UPDATE holdfast.monitors AS m SET last_result = %(result)s::jsonb WHERE m.name = %(name)s RETURNING m.name
