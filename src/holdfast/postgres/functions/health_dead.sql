-- Dead jobs, and what waits in dead-letter queues, for health checks; each counted to 1,000.
CREATE OR REPLACE FUNCTION holdfast.health_dead()
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $function$
BEGIN
    RETURN jsonb_build_object(
        'dead', (SELECT count(*) FROM (SELECT FROM holdfast.jobs j WHERE j.status = 'dead' LIMIT 1001) d),
        'letters', (SELECT count(*) FROM (SELECT FROM holdfast.dead_letters l WHERE l.gone_at IS NULL LIMIT 1001) d));
END
$function$;
