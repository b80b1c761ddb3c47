-- A session that is valid now, with the key that it was made with. One whose key was revoked or has expired is not.
SELECT s.id, s.secret_hash, s.role, s.actor, s.key_id, extract(epoch FROM s.expires_at - (SELECT holdfast.clock()))::float8
FROM holdfast.sessions s
WHERE s.id = %(id)s AND s.kind = 'session' AND s.ended_at IS NULL AND s.expires_at > (SELECT holdfast.clock())
  AND (s.key_id IS NULL OR EXISTS (
      SELECT FROM holdfast.api_keys k WHERE k.id = s.key_id AND k.revoked_at IS NULL
        AND (k.expires_at IS NULL OR k.expires_at > (SELECT holdfast.clock()))))
