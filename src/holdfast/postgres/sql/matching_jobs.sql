-- What a filter matches, for somebody who is about to act on it: at most `most` jobs are counted, by kind, queue and
-- status, with the age of the oldest and the newest id, behind which nothing is touched that comes later.
-- RPC matching_jobs(statuses text[], queue text, kind text, error text, key text, newer interval, older interval,
-- most bigint) RETURNS TABLE (job_kind text, job_queue text, status text, jobs bigint, oldest timestamptz, last_id uuid)
SELECT m.kind, m.queue, m.status, count(*), min(m.created_at), max(m.id::text)::uuid
FROM (
    SELECT j.id, j.kind, j.queue, j.status, j.created_at
    FROM holdfast.jobs j
    WHERE j.status = ANY (%(statuses)s::text[])
      AND (%(queue)s::text IS NULL OR j.queue = %(queue)s)
      AND (%(kind)s::text IS NULL OR j.kind = %(kind)s)
      AND (%(error)s::text IS NULL OR position(lower(%(error)s) IN lower(concat_ws(': ', j.error ->> 'type', j.error ->> 'message'))) > 0)
      AND (%(key)s::text IS NULL OR %(key)s IN (j.unique_key, j.group_key, j.limit_key))
      AND (%(newer)s::interval IS NULL OR j.created_at >= (SELECT holdfast.clock()) - %(newer)s)
      AND (%(older)s::interval IS NULL OR j.created_at < (SELECT holdfast.clock()) - %(older)s)
    ORDER BY j.id
    LIMIT %(most)s) AS m
GROUP BY m.kind, m.queue, m.status
ORDER BY count(*) DESC, m.kind, m.queue, m.status
