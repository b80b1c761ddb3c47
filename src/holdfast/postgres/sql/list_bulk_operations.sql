-- Operations on all jobs that match a filter, the newest first; or one.
SELECT o.id, o.action, o.filter, o.actor, o.status, o.expected, o.is_more, o.looked, o.done, o.verdicts, o.samples,
       o.created_at, o.changed_at, o.finished_at
FROM holdfast.bulk_operations o
WHERE %(id)s::uuid IS NULL OR o.id = %(id)s
ORDER BY o.created_at DESC, o.id
LIMIT %(limit)s
