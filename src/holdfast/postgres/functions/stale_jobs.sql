-- Running jobs that somebody must take back, with the reason: the one place that says what "stuck" is.
--   worker_gone      its worker was declared gone (or its row no longer exists)
--   deadline_passed  the worker should have stopped it 30 s ago
--   no_heartbeat     it owes heartbeats and sent none for `silent_after`, or gave no sign of life at all for
--                    `stale_after`
-- One pass over the partial index on running rows, which is as long as there are slots in the fleet. Keyset:
-- (after_worker, after_id), so that a long rescue never walks over the dead entries of what it rescued before.
-- `only_gone` leaves out what silence alone says (see the brake in mark_workers_gone).
CREATE OR REPLACE FUNCTION holdfast.stale_jobs(
    stale_after interval, max_jobs integer, only_gone boolean, after_worker uuid, after_id uuid
) RETURNS TABLE (
    id uuid, queue text, kind text, lease bigint, worker_id uuid, reason text,
    claimed_at timestamptz, heartbeat_at timestamptz, deadline_at timestamptz, worker_seen_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_sort = off
SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    _now timestamptz := holdfast.clock();
BEGIN
    RETURN QUERY
    SELECT j.id, j.queue, j.kind, j.lease, j.worker_id, r.reason, j.claimed_at, j.heartbeat_at, j.deadline_at, w.seen_at
    FROM holdfast.jobs j
    LEFT JOIN holdfast.workers w ON w.id = j.worker_id
    CROSS JOIN LATERAL (SELECT CASE
        WHEN w.id IS NULL OR w.gone_at IS NOT NULL THEN 'worker_gone'
        WHEN j.deadline_at < _now THEN 'deadline_passed'
        WHEN j.heartbeat_at < _now - least(j.silent_after, stale_jobs.stale_after) THEN 'no_heartbeat'
        END AS reason) r
    WHERE j.status = 'running'
      AND (j.worker_id, j.id) > (stale_jobs.after_worker, stale_jobs.after_id)
      AND r.reason IS NOT NULL
      AND (r.reason = 'worker_gone' OR NOT stale_jobs.only_gone)
    ORDER BY j.worker_id, j.id
    LIMIT stale_jobs.max_jobs;
END
$function$;
