-- Which of these watched tables is it this process's turn to look at? Of all processes one wins in each interval, for each table by
-- itself. `watches`: [{name, table_name, action, stale_after, every}], times in seconds. A stamp from the future is one of a clock
-- that was set back.
CREATE OR REPLACE FUNCTION holdfast.begin_watches(watches jsonb) RETURNS SETOF text
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _now timestamptz := holdfast.clock();
BEGIN
    INSERT INTO holdfast.watches AS k (name, table_name, action, stale_after, every)
    SELECT w.name, w.table_name, w.action, make_interval(secs => w.stale_after), make_interval(secs => w.every)
    FROM jsonb_to_recordset(watches) AS w (name text, table_name text, action text, stale_after float8, every float8)
    WHERE NOT EXISTS (
        SELECT FROM holdfast.watches o
        WHERE (o.name, o.table_name, o.action, o.stale_after, o.every)
            = (w.name, w.table_name, w.action, make_interval(secs => w.stale_after), make_interval(secs => w.every)))
    ORDER BY w.name
    ON CONFLICT (name) DO UPDATE SET table_name = excluded.table_name, action = excluded.action,
        stale_after = excluded.stale_after, every = excluded.every;
    RETURN QUERY
    UPDATE holdfast.watches AS k
    SET looked_at = _now
    WHERE k.name = ANY (ARRAY(
        SELECT o.name FROM holdfast.watches o
        JOIN jsonb_to_recordset(watches) AS w (name text) ON w.name = o.name
        WHERE o.looked_at IS NULL OR o.looked_at <= _now - o.every OR o.looked_at > _now + o.every
        ORDER BY o.name
        FOR UPDATE OF o SKIP LOCKED))
    RETURNING k.name;
END
$function$;
