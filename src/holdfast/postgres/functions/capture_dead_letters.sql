-- Keep messages of a dead-letter queue whole, so that they can be deleted from it. The caller deletes only when this is
-- committed: whoever dies in between leaves messages that come again, and are the same rows then.
-- letters: [{id, key, job_id, kind, cause, fingerprint, body, attributes, received, sent_at, original}]. Returns how many
-- were not known yet.
CREATE OR REPLACE FUNCTION holdfast.capture_dead_letters(queue text, letters jsonb) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    WITH written AS (
        INSERT INTO holdfast.dead_letters AS d (id, source, queue, key, job_id, kind, cause, fingerprint, body, attributes,
            received, sent_at, first_seen_at, last_seen_at, captured_at, original)
        SELECT l.id, 'sqs', capture_dead_letters.queue, l.key, l.job_id, coalesce(l.kind, ''), coalesce(l.cause, ''),
               l.fingerprint, l.body, coalesce(l.attributes, '{}'), coalesce(l.received, 0), l.sent_at, c.now, c.now, c.now,
               l.original
        FROM (SELECT holdfast.clock() AS now) c,
             jsonb_to_recordset(letters) AS l (id uuid, key text, job_id text, kind text, cause text, fingerprint text,
                 body text, attributes jsonb, received integer, sent_at timestamptz, original jsonb)
        ORDER BY l.key
        ON CONFLICT (source, queue, key) DO UPDATE
        SET last_seen_at = excluded.last_seen_at, received = excluded.received, gone_at = NULL, body = excluded.body,
            original = excluded.original, captured_at = coalesce(d.captured_at, excluded.captured_at),
            -- What came back after it was gone is news.
            incident_id = CASE WHEN d.gone_at IS NULL THEN d.incident_id END
        RETURNING d.id
    )
    SELECT count(*)
    FROM written w
    JOIN jsonb_to_recordset(letters) AS l (id uuid) ON l.id = w.id;
$function$;
