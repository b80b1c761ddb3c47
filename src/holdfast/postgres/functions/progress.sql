-- A job's own sign of life, and what it has to tell; many in one statement, each under its lease.
-- An element of `progress` that is NULL is a heartbeat alone. A row that somebody holds locked is skipped ('locked'),
-- so that one handler's open transaction never delays the others' heartbeats.
-- Verdict: applied | lost | locked.
CREATE OR REPLACE FUNCTION holdfast.progress(
    worker_id uuid, ids uuid[], leases bigint[], progress jsonb[] DEFAULT NULL
) RETURNS TABLE (id uuid, lease bigint, verdict text)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    _now     timestamptz := holdfast.clock();
    _applied uuid[];
BEGIN
    WITH touched AS (
        UPDATE holdfast.jobs AS j
        SET heartbeat_at = greatest(j.heartbeat_at, _now), progress = coalesce(p.progress, j.progress),
            suspect = j.suspect  -- no change; see claim.sql
        FROM (
            SELECT f.id, n.progress
            FROM (
                SELECT u.id, u.lease, u.progress
                FROM unnest(progress.ids, progress.leases, progress.progress) AS u (id, lease, progress)
                ORDER BY u.id) n
            JOIN holdfast.jobs f ON f.id = n.id AND f.lease = n.lease
            WHERE f.worker_id = progress.worker_id AND f.status IS NOT DISTINCT FROM 'running'
            FOR UPDATE OF f SKIP LOCKED) p
        WHERE j.id = p.id
        RETURNING j.id)
    SELECT coalesce(array_agg(t.id), '{}') INTO _applied FROM touched t;

    RETURN QUERY
    SELECT n.id, n.lease, CASE
        WHEN NOT EXISTS (SELECT FROM holdfast.jobs j WHERE j.id = n.id AND j.lease = n.lease
                         AND j.worker_id = progress.worker_id AND j.status IS NOT DISTINCT FROM 'running') THEN 'lost'
        WHEN n.id = ANY (_applied) THEN 'applied'
        ELSE 'locked' END
    FROM unnest(progress.ids, progress.leases) AS n (id, lease);
END
$function$;
