-- Which jobs are stuck right now, and why; for people, dashboards and monitors. Changes nothing.
-- `silent_for` is the time since the last sign of life.
CREATE OR REPLACE FUNCTION holdfast.find_stale_jobs(stale_after interval DEFAULT '10 minutes')
RETURNS TABLE (
    id uuid, queue text, kind text, reason text, lease bigint, worker_id uuid, claimed_at timestamptz,
    last_sign_of_life timestamptz, silent_for interval)
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT s.id, s.queue, s.kind, s.reason, s.lease, s.worker_id, s.claimed_at, l.seen, (SELECT holdfast.clock()) - l.seen
    FROM holdfast.stale_jobs(stale_after, 10000, false, '00000000-0000-0000-0000-000000000000',
                             '00000000-0000-0000-0000-000000000000') AS s
    CROSS JOIN LATERAL (SELECT CASE s.reason
        WHEN 'worker_gone' THEN greatest(s.heartbeat_at, s.worker_seen_at) ELSE s.heartbeat_at END AS seen) AS l
$function$;
