-- A worker says which schedules its program declares, and learns when each ticks next.
-- schedules: [{name, cron, time_zone, queue, kind, args, overlap, first_at}], first_at being the first tick from now on.
-- A new one begins there; one whose cron or time zone has changed, too.
--
-- While a deployment replaces programs one by one, two definitions of one name meet. A worker that starts brings its own
-- (opts: {takeover: true}); the others find that the row is no longer theirs (`is_ours` false) and leave it alone. Should
-- the last one to start have been an old program, nobody declares its definition once it has ended: after 60 s of that
-- whoever still declares the name takes the row over.
-- `declared_at` is written at most each 15 s, whatever the number of workers.
CREATE OR REPLACE FUNCTION holdfast.declare_schedules(schedules jsonb, opts jsonb DEFAULT '{}')
RETURNS TABLE (name text, next_at timestamptz, is_ours boolean, paused boolean, clock timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now      timestamptz := holdfast.clock();
    _takeover boolean := coalesce((opts ->> 'takeover')::boolean, false);
BEGIN
    INSERT INTO holdfast.schedules AS s
        (name, cron, time_zone, queue, kind, args, overlap, next_at, declared_at, created_at)
    SELECT d.name, d.cron, d.time_zone, d.queue, d.kind, coalesce(d.args, '{}'), coalesce(d.overlap, false), d.first_at,
           _now, _now
    FROM jsonb_to_recordset(declare_schedules.schedules) AS d (
        name text, cron text, time_zone text, queue text, kind text, args jsonb, overlap boolean, first_at timestamptz)
    ORDER BY d.name
    ON CONFLICT (name) DO UPDATE
    SET cron = EXCLUDED.cron,
        time_zone = EXCLUDED.time_zone,
        queue = EXCLUDED.queue,
        kind = EXCLUDED.kind,
        args = EXCLUDED.args,
        overlap = EXCLUDED.overlap,
        next_at = CASE WHEN (s.cron, s.time_zone) = (EXCLUDED.cron, EXCLUDED.time_zone)
                       THEN s.next_at ELSE EXCLUDED.next_at END,
        declared_at = _now
    WHERE CASE
        WHEN (s.cron, s.time_zone, s.queue, s.kind, s.args, s.overlap)
             = (EXCLUDED.cron, EXCLUDED.time_zone, EXCLUDED.queue, EXCLUDED.kind, EXCLUDED.args, EXCLUDED.overlap)
        THEN s.declared_at < _now - interval '15 seconds'
        ELSE _takeover OR s.declared_at < _now - interval '60 seconds' END;

    RETURN QUERY
    SELECT s.name, s.next_at,
           (s.cron, s.time_zone, s.queue, s.kind, s.args, s.overlap)
           = (d.cron, d.time_zone, d.queue, d.kind, coalesce(d.args, '{}'), coalesce(d.overlap, false)),
           s.paused, _now
    FROM jsonb_to_recordset(declare_schedules.schedules) AS d (
        name text, cron text, time_zone text, queue text, kind text, args jsonb, overlap boolean)
    JOIN holdfast.schedules s ON s.name = d.name;
END
$function$;
