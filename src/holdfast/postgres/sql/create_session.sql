-- Keep a session of the dashboard, or a link that begins one; what ended a week ago is forgotten, 1,000 rows at a time.
WITH old AS (
    DELETE FROM holdfast.sessions s
    USING (SELECT o.id FROM holdfast.sessions o
           WHERE o.expires_at < (SELECT holdfast.clock()) - interval '7 days' ORDER BY o.expires_at LIMIT 1000) e
    WHERE s.id = e.id
)
INSERT INTO holdfast.sessions (id, kind, secret_hash, role, actor, key_id, created_at, expires_at)
SELECT %(id)s, %(kind)s, %(secret_hash)s, %(role)s, %(actor)s, %(key_id)s, (SELECT holdfast.clock()),
       (SELECT holdfast.clock()) + %(valid_for)s::interval
RETURNING id
