-- Take stale rows of a watched table back: their status, and nothing else of them, is changed where status and heartbeat are still
-- what was read; what was done, and the message to send, is written in the same statement. A row that somebody holds locked is
-- being worked at, and left; so is one that another look took back meanwhile: whoever claimed it since, without a heartbeat, has
-- its time. `rescues`: [{id, row_id, status, heartbeat, silent_since, to_status, is_final, queue_url, entry}].
-- Returns those that were carried out, and those that the table `refused` (a constraint, a trigger), with the reason. A batch in
-- which one is refused is halved until that is alone: it stops no other. Of reasons only those are told that hold no values.
CREATE OR REPLACE FUNCTION holdfast.rescue_watched(spec jsonb, rescues jsonb) RETURNS TABLE (id uuid, refused text)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $function$
DECLARE
    _types jsonb;
    _done  uuid[];
    _half  integer := jsonb_array_length(rescues) / 2;
    _why   text;
BEGIN
    SELECT jsonb_object_agg(a.attname, format_type(a.atttypid, -1)) INTO _types
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = spec ->> 'schema' AND c.relname = spec ->> 'table' AND a.attnum > 0 AND NOT a.attisdropped;
    IF NOT coalesce(_types ?& ARRAY[spec ->> 'id', spec ->> 'status', spec ->> 'heartbeat'], false) THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format(
            'table %I.%I is not there any more, or lacks columns; see: holdfast watch check', spec ->> 'schema', spec ->> 'table');
    END IF;
    EXECUTE format(
        $query$
        WITH wanted AS MATERIALIZED (
            SELECT w.* FROM jsonb_to_recordset($1) AS w (id uuid, row_id text, status text, heartbeat text,
                silent_since timestamptz, to_status text, is_final boolean, queue_url text, entry jsonb)
        ), held AS MATERIALIZED (
            SELECT t.%1$I AS key, w.id, w.to_status
            FROM wanted w JOIN %2$I.%3$I AS t ON t.%1$I = w.row_id::%4$s
            WHERE t.%5$I = w.status::%6$s AND t.%7$I IS NOT DISTINCT FROM w.heartbeat::%8$s
              AND NOT EXISTS (SELECT FROM holdfast.watch_rescues r
                              WHERE r.watch = $2 AND r.row_id = w.row_id AND r.rescued_at > (SELECT holdfast.clock()) - $3)
            ORDER BY t.%1$I
            FOR UPDATE OF t SKIP LOCKED
        ), changed AS (
            UPDATE %2$I.%3$I AS t SET %5$I = h.to_status::%6$s
            FROM held h
            WHERE t.%1$I = h.key
            RETURNING h.id
        ), written AS (
            INSERT INTO holdfast.watch_rescues (id, watch, row_id, from_status, to_status, is_final, silent_since, rescued_at,
                queue_url, entry, due_at)
            SELECT w.id, $2, w.row_id, w.status, w.to_status, w.is_final, w.silent_since, (SELECT holdfast.clock()), w.queue_url,
                   w.entry, (SELECT holdfast.clock())
            FROM wanted w JOIN changed c ON c.id = w.id
            RETURNING id
        )
        SELECT array_agg(id) FROM written
        $query$,
        spec ->> 'id', spec ->> 'schema', spec ->> 'table', _types ->> (spec ->> 'id'), spec ->> 'status',
        _types ->> (spec ->> 'status'), spec ->> 'heartbeat', _types ->> (spec ->> 'heartbeat'))
    INTO _done USING rescues, spec ->> 'name', make_interval(secs => (spec ->> 'stale_after')::float8);
    RETURN QUERY SELECT d, NULL::text FROM unnest(_done) AS d;
EXCEPTION WHEN integrity_constraint_violation OR data_exception OR raise_exception OR insufficient_privilege THEN
    IF _half = 0 THEN
        GET STACKED DIAGNOSTICS _why = MESSAGE_TEXT;
        RETURN QUERY SELECT (rescues -> 0 ->> 'id')::uuid,
            CASE WHEN left(SQLSTATE, 2) IN ('23', '42') THEN _why ELSE format('error %s of a type or a trigger', SQLSTATE) END;
        RETURN;
    END IF;
    RETURN QUERY
    SELECT r.* FROM (
        SELECT jsonb_agg(x.each) FROM jsonb_array_elements(rescues) WITH ORDINALITY AS x (each, place) GROUP BY x.place <= _half
    ) AS h (part) CROSS JOIN LATERAL holdfast.rescue_watched(spec, h.part) AS r;
END
$function$;
