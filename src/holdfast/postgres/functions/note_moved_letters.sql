-- SQS has moved all messages of a dead-letter queue itself: the letters that were seen there before it began, and are not kept whole
-- here, are redriven. Returns how many.
CREATE OR REPLACE FUNCTION holdfast.note_moved_letters(queue text, began timestamptz, by text, detail text) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    WITH moved AS (
        UPDATE holdfast.dead_letters AS d
        SET gone_at = c.now, outcome = 'redriven', outcome_at = c.now, outcome_by = left(note_moved_letters.by, 200),
            outcome_reason = left(detail, 2000)
        FROM (SELECT holdfast.clock() AS now) c
        WHERE d.source = 'sqs' AND d.queue = note_moved_letters.queue AND d.gone_at IS NULL AND d.captured_at IS NULL
          AND d.last_seen_at <= began
        RETURNING 1
    )
    SELECT count(*) FROM moved;
$function$;
