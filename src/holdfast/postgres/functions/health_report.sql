-- How the ledger is, in one round trip, for health checks: all of the parts that an instance of the API asks for one by one.
-- What is counted in them is bounded, however many jobs there are.
CREATE OR REPLACE FUNCTION holdfast.health_report(stale_after interval DEFAULT '10 minutes', opts jsonb DEFAULT '{}')
RETURNS jsonb
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT holdfast.health_server() || holdfast.health_workers() || holdfast.health_queues() || holdfast.health_jobs()
        || holdfast.health_stale(stale_after) || holdfast.health_dead() || holdfast.health_told()
        || holdfast.health_monitors() || holdfast.health_limits();
$function$;
