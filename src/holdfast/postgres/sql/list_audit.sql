-- What was changed and by whom, the newest first, a keyset page.
SELECT a.id, a.at, a.actor, a.role, a.via, a.address, a.action, a.target, a.details, a.outcome
FROM holdfast.audit_log a
WHERE (%(before)s::bigint IS NULL OR a.id < %(before)s)
  AND (%(action)s::text IS NULL OR a.action = %(action)s)
  AND (%(target)s::text IS NULL OR a.target = %(target)s)
ORDER BY a.id DESC
LIMIT %(limit)s
