-- Write many jobs that are due now, have no keys, and share one policy; all parameters are text, like those of enqueue.sql.
-- RPC enqueue_plain_jobs(jobs text, expected text, policy text)
-- RETURNS TABLE (ord integer, id uuid, created boolean)
SELECT e.ord, e.id, e.created
FROM holdfast.enqueue_plain(
    CAST(%(jobs)s AS text)::json, CAST(%(expected)s AS text)::integer, CAST(%(policy)s AS text)::jsonb) AS e
