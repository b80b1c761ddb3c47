-- From now on this key opens nothing. The row stays: it says who had it, and that keys are in use here.
-- RPC revoke_api_key(id text)
-- RETURNS TABLE (key_id text, key_name text, key_role text, created_at timestamptz, expires_at timestamptz,
-- revoked_at timestamptz, last_used_at timestamptz)
UPDATE holdfast.api_keys AS k
SET revoked_at = coalesce(k.revoked_at, (SELECT holdfast.clock()))
WHERE k.id = %(id)s
RETURNING k.id, k.name, k.role, k.created_at, k.expires_at, k.revoked_at, k.last_used_at
