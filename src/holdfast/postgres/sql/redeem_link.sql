-- A sign-in link, used up: it opens once. No row where it is not known, was used, or is too old.
UPDATE holdfast.sessions s
SET ended_at = (SELECT holdfast.clock())
WHERE s.id = %(id)s AND s.kind = 'link' AND s.secret_hash = %(secret_hash)s AND s.ended_at IS NULL
  AND s.expires_at > (SELECT holdfast.clock())
RETURNING s.role, s.actor, s.key_id
