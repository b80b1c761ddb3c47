-- The stale rows of a watched table, the longest silent first. `heartbeat` and `status` are what was read, for the
-- compare-and-set of rescue_watched; `earlier`: how often the row was rescued within the days that this is kept. A time that no
-- calendar has (-infinity, before the year 1) is told as none.
CREATE OR REPLACE FUNCTION holdfast.find_watched(spec jsonb, max_rows integer)
RETURNS TABLE (row_id text, status text, heartbeat text, silent_since timestamptz, columns jsonb, earlier bigint)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $function$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT f.row_id, f.status, f.heartbeat, CASE WHEN f.silent_since > ''0001-01-03'' THEN f.silent_since END, f.columns, (SELECT count(*) FROM holdfast.watch_rescues r WHERE r.watch = $1 AND r.row_id = f.row_id)'
        ' FROM (%s ORDER BY 4 LIMIT $2) f ORDER BY f.silent_since', holdfast.watched_rows(spec))
    USING spec ->> 'name', max_rows;
END
$function$;
