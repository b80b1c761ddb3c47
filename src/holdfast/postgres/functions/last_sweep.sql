-- How many seconds ago stuck jobs were swept last, by anybody; null for never.
CREATE OR REPLACE FUNCTION holdfast.last_sweep() RETURNS double precision
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT extract(epoch FROM (SELECT holdfast.clock()) - m.swept_at)::double precision
    FROM holdfast.monitors m WHERE m.name = 'rescue_stale_jobs';
$function$;
