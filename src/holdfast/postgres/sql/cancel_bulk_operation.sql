-- End an operation that is under way; what it did stays done.
UPDATE holdfast.bulk_operations o
SET status = 'cancelled', finished_at = (SELECT holdfast.clock()), changed_at = (SELECT holdfast.clock())
WHERE o.id = %(id)s AND o.status = 'running'
RETURNING o.id, o.done
