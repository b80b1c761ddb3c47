-- What became of messages that were taken: sent where its error is null, else due again after its delay.
CREATE OR REPLACE FUNCTION holdfast.settle_watch_messages(ids uuid[], errors text[], delays interval[]) RETURNS SETOF uuid
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now timestamptz := holdfast.clock();
BEGIN
    RETURN QUERY
    UPDATE holdfast.watch_rescues AS r
    SET sent_at = CASE WHEN x.error IS NULL THEN _now END, error = x.error, due_at = _now + x.delay
    FROM unnest(ids, errors, delays) AS x (id, error, delay)
    WHERE r.id = x.id AND r.sent_at IS NULL
    RETURNING r.id;
END
$function$;
