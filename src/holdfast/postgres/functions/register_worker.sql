-- A worker process presents itself, under an id that is new at each start.
-- False: that id was declared gone before. Gone is final, so the caller needs a new id.
-- opts: {supervisor_id, host, pid, parent_pid, version, queues, kinds, slots, quarantine, lost_after (seconds)}.
CREATE OR REPLACE FUNCTION holdfast.register_worker(worker_id uuid, opts jsonb DEFAULT '{}') RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _now    timestamptz := holdfast.clock();
    _queues text[] := ARRAY(SELECT jsonb_array_elements_text(coalesce(opts -> 'queues', '["default"]')) ORDER BY 1);
BEGIN
    INSERT INTO holdfast.workers (id, supervisor_id, host, pid, parent_pid, version, queues, kinds, slots, quarantine,
        lost_after, started_at, seen_at)
    VALUES (
        worker_id,
        (opts ->> 'supervisor_id')::uuid,
        coalesce(opts ->> 'host', ''),
        coalesce((opts ->> 'pid')::integer, 0),
        coalesce((opts ->> 'parent_pid')::integer, 0),
        coalesce(opts ->> 'version', ''),
        _queues,
        ARRAY(SELECT jsonb_array_elements_text(coalesce(opts -> 'kinds', '[]')) ORDER BY 1),
        coalesce((opts ->> 'slots')::integer, 1),
        coalesce((opts ->> 'quarantine')::boolean, false),
        make_interval(secs => coalesce((opts ->> 'lost_after')::double precision, 25)),
        _now, _now)
    ON CONFLICT (id) DO NOTHING;
    INSERT INTO holdfast.queues (name, created_at)
    SELECT q, _now FROM unnest(_queues) AS q
    ON CONFLICT (name) DO NOTHING;
    RETURN EXISTS (SELECT FROM holdfast.workers w WHERE w.id = worker_id AND w.gone_at IS NULL);
END
$function$;
