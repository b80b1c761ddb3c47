-- The worker's sign of life: one update of its own row, which no job's lock can block.
-- False: this worker was declared gone (or never registered). That is final: exit, and start with a new id.
-- opts: {loop_lag (seconds), running, draining}.
CREATE OR REPLACE FUNCTION holdfast.beat(worker_id uuid, opts jsonb DEFAULT '{}') RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $function$
BEGIN
    UPDATE holdfast.workers AS w
    SET seen_at = (SELECT holdfast.clock()),
        loop_lag = make_interval(secs => (opts ->> 'loop_lag')::double precision),
        running = coalesce((opts ->> 'running')::integer, w.running),
        draining = coalesce((opts ->> 'draining')::boolean, w.draining)
    WHERE w.id = beat.worker_id AND w.gone_at IS NULL;
    RETURN FOUND;
END
$function$;
