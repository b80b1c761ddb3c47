-- Messages of rescued rows that are to be sent now, the oldest first; whoever takes them has `lease` to send them, then they are
-- due again. `attempts` counts this one.
CREATE OR REPLACE FUNCTION holdfast.take_watch_messages(max_rows integer, lease interval)
RETURNS TABLE (id uuid, watch text, row_id text, queue_url text, entry jsonb, attempts integer)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now timestamptz := holdfast.clock();
BEGIN
    RETURN QUERY
    UPDATE holdfast.watch_rescues AS r
    SET due_at = _now + lease, attempts = r.attempts + 1
    WHERE r.id = ANY (ARRAY(
        SELECT o.id FROM holdfast.watch_rescues o
        WHERE o.queue_url IS NOT NULL AND o.sent_at IS NULL AND o.due_at <= _now
        ORDER BY o.due_at
        LIMIT max_rows
        FOR UPDATE SKIP LOCKED))
    RETURNING r.id, r.watch, r.row_id, r.queue_url, r.entry, r.attempts;
END
$function$;
