-- Write one job that is due now and has no keys; all parameters are text, like those of enqueue.sql.
-- RPC enqueue_one(id text, queue text, kind text, args text, policy text)
-- RETURNS TABLE (ord integer, job_id uuid, created boolean)
SELECT 1 AS ord, e.job_id AS id, e.created
FROM holdfast.enqueue(
    CAST(%(id)s AS text)::uuid, CAST(%(queue)s AS text), CAST(%(kind)s AS text), CAST(%(args)s AS text)::jsonb,
    CAST(%(policy)s AS text)::jsonb) AS e
