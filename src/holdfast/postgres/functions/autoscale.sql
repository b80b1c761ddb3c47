-- For autoscalers: how many slots each queue could use now, and why. Its columns stay as they are: deployments ask for them.
--
--     SELECT coalesce(sum(wanted), 0) FROM holdfast.autoscale WHERE queue IN ('mail', 'reports')
--
-- wanted: what runs, and, where something is due and the queue is not paused, what waits. Waiting jobs are counted to a bound
-- (health_queues), those for later among them: a queue of which nothing is due wants no more than what runs.
DROP VIEW IF EXISTS holdfast.autoscale;
CREATE VIEW holdfast.autoscale WITH (security_invoker = true) AS
SELECT q.name AS queue, q.paused, q.queued, q.running, q.due_for AS oldest_due_seconds,
       q.running + CASE WHEN q.due_for IS NULL OR q.paused THEN 0 ELSE q.queued END AS wanted
FROM holdfast.health_queues() AS h (report)
CROSS JOIN LATERAL jsonb_to_recordset(h.report -> 'queues')
     AS q (name text, paused boolean, queued bigint, running bigint, due_for double precision);
