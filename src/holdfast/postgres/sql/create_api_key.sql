-- Keep a new key, unless there are 1,000 valid ones already: every instance of the API holds them all in memory.
-- RPC create_api_key(id text, name text, role text, secret_hash text, valid_for interval)
-- RETURNS TABLE (key_id text, key_name text, key_role text, created_at timestamptz, expires_at timestamptz,
-- revoked_at timestamptz, last_used_at timestamptz)
INSERT INTO holdfast.api_keys (id, name, role, secret_hash, created_at, expires_at)
SELECT %(id)s, %(name)s, %(role)s, %(secret_hash)s, (SELECT holdfast.clock()),
       (SELECT holdfast.clock()) + %(valid_for)s::interval
WHERE (SELECT count(*) FROM holdfast.api_keys k
       WHERE k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > (SELECT holdfast.clock()))) < 1000
RETURNING id, name, role, created_at, expires_at, revoked_at, last_used_at
