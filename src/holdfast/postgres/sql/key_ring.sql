-- What an instance of the API must know to check keys by itself: the valid ones with their hashes and, without a row of its
-- own, whether anybody ever made a key.
-- RPC key_ring() RETURNS TABLE (id text, name text, role text, secret_hash text, valid_for numeric)
SELECT k.id, k.name, k.role, k.secret_hash, extract(epoch FROM k.expires_at - (SELECT holdfast.clock())) AS valid_for
FROM holdfast.api_keys k
WHERE k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > (SELECT holdfast.clock()))
UNION ALL
SELECT '', '', '', '', NULL
WHERE EXISTS (SELECT FROM holdfast.api_keys k WHERE k.role <> 'canary')
LIMIT 2000
