-- Forget what the audit log holds from more than 400 days ago, and operations that ended 90 days ago; the oldest 1,000 at a time.
WITH operations AS (
    DELETE FROM holdfast.bulk_operations b
    WHERE b.finished_at < (SELECT holdfast.clock()) - interval '90 days'
), audit AS (
    DELETE FROM holdfast.audit_log a
    USING (SELECT o.id, o.at FROM holdfast.audit_log o ORDER BY o.id LIMIT 1000) old
    WHERE a.id = old.id AND old.at < (SELECT holdfast.clock()) - interval '400 days'
    RETURNING 1
)
SELECT count(*) FROM audit
