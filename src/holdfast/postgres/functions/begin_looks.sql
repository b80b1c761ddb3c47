-- Which of these dead-letter queues is it this process's turn to look at? Of all processes one wins in each interval, for each queue
-- by itself: processes with other queues do not stand in each other's way. A stamp from the future is one of a clock that was set
-- back.
CREATE OR REPLACE FUNCTION holdfast.begin_looks(queues text[], every interval) RETURNS SETOF text
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now timestamptz := holdfast.clock();
BEGIN
    INSERT INTO holdfast.dead_letter_queues (name, every)
    SELECT q.name, begin_looks.every FROM unnest(queues) AS q (name)
    WHERE NOT EXISTS (SELECT FROM holdfast.dead_letter_queues k WHERE k.name = q.name)
    ORDER BY q.name
    ON CONFLICT (name) DO NOTHING;
    RETURN QUERY
    UPDATE holdfast.dead_letter_queues AS q
    SET looked_at = _now, every = begin_looks.every
    WHERE q.name = ANY (ARRAY(
        SELECT d.name FROM holdfast.dead_letter_queues d
        WHERE d.name = ANY (queues)
          AND (d.looked_at IS NULL OR d.looked_at <= _now - begin_looks.every * 0.95 OR d.looked_at > _now + begin_looks.every)
        ORDER BY d.name
        FOR UPDATE SKIP LOCKED))
    RETURNING q.name;
END
$function$;
