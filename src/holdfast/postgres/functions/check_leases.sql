-- The reading half of a beat: what a worker must know about the leases it holds, and about those it does not
-- know it holds. It locks nothing and changes nothing.
--   lost     the caller named this (id, lease), and it is no longer its own: stop the handler, write nothing
--   cancel   somebody asked for this job to be cancelled
--   unknown  the row says that this worker runs it, the worker does not know it: the answer of a claim was lost
--            (only when claimed longer ago than `unknown_after`: a younger answer may still be under way)
-- A lease with a settle under way must not be named: that settle's own answer decides.
CREATE OR REPLACE FUNCTION holdfast.check_leases(
    worker_id uuid, ids uuid[], leases bigint[], unknown_after interval DEFAULT '15 seconds'
) RETURNS TABLE (id uuid, lease bigint, verdict text)
LANGUAGE plpgsql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_mergejoin = off
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH known AS MATERIALIZED (
        SELECT k.id, k.lease FROM unnest(check_leases.ids, check_leases.leases) AS k (id, lease)
    ), mine AS MATERIALIZED (
        SELECT j.id, j.lease, j.claimed_at, j.cancel_requested_at
        FROM holdfast.jobs j
        WHERE j.worker_id = check_leases.worker_id AND j.status = 'running'
    )
    SELECT k.id, k.lease, 'lost'
    FROM known k
    WHERE NOT EXISTS (SELECT FROM mine m WHERE m.id = k.id AND m.lease = k.lease)
    UNION ALL
    SELECT m.id, m.lease, 'cancel'
    FROM mine m
    WHERE m.cancel_requested_at IS NOT NULL AND EXISTS (SELECT FROM known k WHERE k.id = m.id AND k.lease = m.lease)
    UNION ALL
    SELECT m.id, m.lease, 'unknown'
    FROM mine m
    WHERE m.claimed_at < (SELECT holdfast.clock()) - check_leases.unknown_after
      AND NOT EXISTS (SELECT FROM known k WHERE k.id = m.id AND k.lease = m.lease);
END
$function$;
