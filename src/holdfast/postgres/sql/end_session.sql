-- Sign out.
UPDATE holdfast.sessions s
SET ended_at = (SELECT holdfast.clock())
WHERE s.id = %(id)s AND s.ended_at IS NULL
RETURNING s.id
