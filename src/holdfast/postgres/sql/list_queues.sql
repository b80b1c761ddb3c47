-- Queues: those with queued or running jobs, those that live workers serve, those that were paused. Names come from the
-- claim's index by one probe each. At most `most` queued jobs of each queue are counted; `is_more` says that there are more.
-- RPC list_queues("limit" bigint, most bigint)
-- RETURNS TABLE (name text, paused boolean, due bigint, later bigint, is_more boolean, running bigint, workers bigint,
-- oldest_due timestamptz)
WITH RECURSIVE queued AS (
    (SELECT j.queue FROM holdfast.jobs j WHERE j.status = 'queued' ORDER BY j.queue LIMIT 1)
    UNION ALL
    SELECT n.queue
    FROM queued q
    CROSS JOIN LATERAL (
        SELECT j.queue FROM holdfast.jobs j WHERE j.status = 'queued' AND j.queue > q.queue ORDER BY j.queue LIMIT 1) n
), running AS MATERIALIZED (
    SELECT j.queue, count(*) AS jobs FROM holdfast.jobs j WHERE j.status = 'running' GROUP BY j.queue
), serving AS MATERIALIZED (
    SELECT s.queue, count(*) AS workers
    FROM holdfast.workers w CROSS JOIN LATERAL unnest(w.queues) AS s (queue)
    WHERE w.gone_at IS NULL AND NOT w.quarantine
    GROUP BY s.queue
), names AS (
    SELECT queue FROM queued
    UNION SELECT queue FROM running
    UNION SELECT queue FROM serving
    UNION SELECT name FROM holdfast.queues
    ORDER BY queue LIMIT %(limit)s
)
SELECT n.queue, coalesce(q.paused, false), c.due, c.later, c.due + c.later >= %(most)s, coalesce(r.jobs, 0),
       coalesce(s.workers, 0), c.oldest_due
FROM names n
LEFT JOIN holdfast.queues q ON q.name = n.queue
LEFT JOIN running r ON r.queue = n.queue
LEFT JOIN serving s ON s.queue = n.queue
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE b.run_at <= b.now) AS due, count(*) FILTER (WHERE b.run_at > b.now) AS later,
           min(b.run_at) FILTER (WHERE b.run_at <= b.now) AS oldest_due
    FROM (SELECT j.run_at, (SELECT holdfast.clock()) AS now FROM holdfast.jobs j
          WHERE j.status = 'queued' AND j.queue = n.queue LIMIT %(most)s) b) c
ORDER BY n.queue
