-- Ask for jobs to be cancelled. A queued job ends at once; a running one is told through its worker's next beat, and
-- whatever its handler does then decides (complete still counts). Locks in id order.
-- Verdict: cancelled | requested | finished | not_found.
CREATE OR REPLACE FUNCTION holdfast.cancel_jobs(ids uuid[], opts jsonb DEFAULT '{}')
RETURNS TABLE (id uuid, verdict text, status text)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $function$
#variable_conflict use_column
DECLARE
    _now timestamptz := holdfast.clock();
BEGIN
    PERFORM FROM holdfast.jobs j WHERE j.id = ANY (cancel_jobs.ids) ORDER BY j.id FOR UPDATE;
    RETURN QUERY
    WITH asked AS (
        SELECT DISTINCT u.id FROM unnest(cancel_jobs.ids) AS u (id)
    ), changed AS (
        UPDATE holdfast.jobs AS j
        SET status = CASE j.status WHEN 'queued' THEN 'cancelled' ELSE j.status END,
            finished_at = CASE j.status WHEN 'queued' THEN _now END,
            cancel_requested_at = coalesce(j.cancel_requested_at, _now)
        FROM asked a
        WHERE j.id = a.id AND j.status IN ('queued', 'running')
        RETURNING j.id, j.status
    )
    SELECT a.id,
           CASE WHEN c.status = 'cancelled' THEN 'cancelled'
                WHEN c.status IS NOT NULL THEN 'requested'
                WHEN j.id IS NULL THEN 'not_found'
                ELSE 'finished' END,
           coalesce(c.status, j.status)
    FROM asked a
    LEFT JOIN changed c ON c.id = a.id
    LEFT JOIN holdfast.jobs j ON j.id = a.id;
END
$function$;
