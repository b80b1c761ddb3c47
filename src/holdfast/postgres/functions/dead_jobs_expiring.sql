-- How many dead jobs retention removes within `notice`, and when the first of them: what nobody has decided about until then is gone
-- for good. Counts go to 10,000. Walks the index on finished_at from its oldest end, so what is kept longer costs nothing.
CREATE OR REPLACE FUNCTION holdfast.dead_jobs_expiring(keep interval, notice interval)
RETURNS TABLE (jobs bigint, first_at timestamptz)
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT count(*), min(d.finished_at) + keep
    FROM (SELECT o.status, o.finished_at FROM holdfast.jobs o
          WHERE o.status IN ('succeeded', 'dead', 'cancelled')
            AND o.finished_at < (SELECT holdfast.clock()) - keep + notice
          ORDER BY o.finished_at, o.id LIMIT 10000) d
    WHERE d.status = 'dead';
$function$;
