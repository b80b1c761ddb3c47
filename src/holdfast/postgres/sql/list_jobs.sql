-- Jobs by filter, newest first, one keyset page. Ids are of version 7, so their order is that of creation.
-- `known` tells of a queued job whether any live worker knows its kind: a kind that nobody knows stays queued.
-- RPC list_jobs(status text, queue text, kind text, error text, key text, newer interval, older interval, before uuid,
-- "limit" bigint) RETURNS TABLE (id uuid, queue_name text, job_kind text, job_status text, attempts integer,
-- max_attempts integer, lease bigint, run_at timestamptz, claimed_at timestamptz, finished_at timestamptz,
-- created_at timestamptz, message text, known boolean)
SELECT j.id, j.queue, j.kind, j.status, j.attempts, j.max_attempts, j.lease, j.run_at, j.claimed_at, j.finished_at,
       j.created_at, j.error ->> 'message' AS error,
       CASE WHEN j.status = 'queued' THEN EXISTS (
           SELECT FROM holdfast.workers w WHERE w.gone_at IS NULL AND j.kind = ANY (w.kinds)) END AS known
FROM holdfast.jobs j
WHERE (%(status)s::text IS NULL OR j.status = %(status)s)
  AND (%(queue)s::text IS NULL OR j.queue = %(queue)s)
  AND (%(kind)s::text IS NULL OR j.kind = %(kind)s)
  AND (%(error)s::text IS NULL OR position(lower(%(error)s) IN lower(concat_ws(': ', j.error ->> 'type', j.error ->> 'message'))) > 0)
  AND (%(key)s::text IS NULL OR %(key)s IN (j.unique_key, j.group_key, j.limit_key))
  AND (%(newer)s::interval IS NULL OR j.created_at >= (SELECT holdfast.clock()) - %(newer)s)
  AND (%(older)s::interval IS NULL OR j.created_at < (SELECT holdfast.clock()) - %(older)s)
  AND (%(before)s::uuid IS NULL OR j.id < %(before)s)
ORDER BY j.id DESC
LIMIT %(limit)s
