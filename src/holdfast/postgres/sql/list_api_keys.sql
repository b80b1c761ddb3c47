-- The keys that people made, the newest first; with `all` also those that are no longer valid.
-- RPC list_api_keys("all" boolean, "limit" bigint)
-- RETURNS TABLE (id text, name text, role text, created_at timestamptz, expires_at timestamptz, revoked_at timestamptz,
-- last_used_at timestamptz)
SELECT k.id, k.name, k.role, k.created_at, k.expires_at, k.revoked_at, k.last_used_at
FROM holdfast.api_keys k
WHERE k.role <> 'canary'
  AND (%(all)s OR (k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > (SELECT holdfast.clock()))))
ORDER BY k.created_at DESC, k.id
LIMIT %(limit)s
