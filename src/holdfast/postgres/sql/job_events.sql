-- What happened to a job besides its happy path, oldest first; the last 200.
-- RPC job_events(job_id uuid)
-- RETURNS TABLE (at timestamptz, event text, reason text, lease bigint, worker_id uuid, details jsonb)
SELECT e.at, e.event, e.reason, e.lease, e.worker_id, e.details
FROM (SELECT * FROM holdfast.job_events n WHERE n.job_id = %(job_id)s ORDER BY n.id DESC LIMIT 200) e
ORDER BY e.id
