-- The query that finds the stale rows of a watched table, as text: its rows with a running status whose heartbeat is older than
-- stale_after, or, without one, whose `since` is; but for those that were rescued within that time. Names are quoted as names and
-- values as values of their column's type, so that the planner can hold them against a partial index. `spec` is what examine_watch
-- found nothing wrong with.
CREATE OR REPLACE FUNCTION holdfast.watched_rows(spec jsonb) RETURNS text
LANGUAGE plpgsql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _columns text;
    _types   jsonb;
    _cutoff  text := format('((SELECT holdfast.clock()) - %L::interval)', (spec ->> 'stale_after') || ' seconds');
    _zone    text := coalesce(spec ->> 'time_zone', 'UTC');
    _silent  text[];
    _since   text[];
BEGIN
    SELECT jsonb_object_agg(a.attname, format_type(a.atttypid, -1)) INTO _types
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = spec ->> 'schema' AND c.relname = spec ->> 'table' AND a.attnum > 0 AND NOT a.attisdropped;
    IF NOT coalesce(_types ?& array_remove(ARRAY[spec ->> 'id', spec ->> 'status', spec ->> 'heartbeat', spec ->> 'since'], NULL), false) THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format(
            'table %I.%I is not there any more, or lacks columns; see: holdfast watch check', spec ->> 'schema', spec ->> 'table');
    END IF;
    -- The payload is told as its text: JSON that is read and written again has other numbers (1.10, more than 15 digits).
    SELECT string_agg(format(CASE x WHEN spec ->> 'payload' THEN '%L, t.%I::text' ELSE '%L, t.%I' END, x, x), ', ') INTO _columns FROM jsonb_array_elements_text(spec -> 'columns') AS x;
    -- A timestamp without time zone is one of the table's own time zone.
    _silent := ARRAY(
        SELECT CASE WHEN _types ->> x.name = 'timestamp without time zone' THEN format('t.%I AT TIME ZONE %L', x.name, _zone)
                    ELSE format('t.%I', x.name) END
        FROM unnest(ARRAY[spec ->> 'heartbeat', spec ->> 'since']) WITH ORDINALITY AS x (name, place)
        WHERE x.name IS NOT NULL ORDER BY x.place);
    _since := ARRAY(
        SELECT CASE WHEN _types ->> x.name = 'timestamp without time zone' THEN format('t.%I < %s AT TIME ZONE %L', x.name, _cutoff, _zone)
                    ELSE format('t.%I < %s', x.name, _cutoff) END
        FROM unnest(ARRAY[spec ->> 'heartbeat', spec ->> 'since']) WITH ORDINALITY AS x (name, place)
        WHERE x.name IS NOT NULL ORDER BY x.place);
    RETURN format(
        'SELECT t.%1$I::text AS row_id, t.%2$I::text AS status, t.%3$I::text AS heartbeat, coalesce(%4$s) AS silent_since,'
        ' %5$s AS columns FROM %6$I.%7$I AS t WHERE t.%2$I = ANY (%8$L::%9$s[]) AND (%10$s)'
        ' AND NOT EXISTS (SELECT FROM holdfast.watch_rescues r WHERE r.watch = %11$L AND r.row_id = t.%1$I::text'
        ' AND r.rescued_at > %12$s)',
        spec ->> 'id', spec ->> 'status', spec ->> 'heartbeat', array_to_string(_silent, ', '),
        CASE WHEN _columns IS NULL THEN '''{}''::jsonb' ELSE format('jsonb_build_object(%s)', _columns) END,
        spec ->> 'schema', spec ->> 'table',
        ARRAY(SELECT jsonb_array_elements_text(spec -> 'running'))::text, _types ->> (spec ->> 'status'),
        _since[1] || CASE WHEN _since[2] IS NULL THEN ''
                          ELSE format(' OR t.%I IS NULL AND %s', spec ->> 'heartbeat', _since[2]) END,
        spec ->> 'name', _cutoff);
END
$function$;
