-- Keep messages of a dead-letter queue whole, so that they can be deleted from it. The caller deletes only when this is
-- committed: whoever dies in between leaves messages that come again, and are the same rows then.
-- letters: [{id, key, job_id, kind, cause, fingerprint, body, attributes, received, sent_at, original, earlier}].
-- `earlier`: the letter that was sent again as this message; without it, one of this queue with its job_id and kind that is gone.
-- Returns how many were not known yet.
CREATE OR REPLACE FUNCTION holdfast.capture_dead_letters(queue text, letters jsonb) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    WITH written AS (
        INSERT INTO holdfast.dead_letters AS d (id, source, queue, key, job_id, kind, cause, fingerprint, body, attributes,
            received, sent_at, first_seen_at, last_seen_at, captured_at, original, earlier_id, returns)
        SELECT l.id, 'sqs', capture_dead_letters.queue, l.key, l.job_id, coalesce(l.kind, ''), coalesce(l.cause, ''),
               l.fingerprint, l.body, coalesce(l.attributes, '{}'), coalesce(l.received, 0), l.sent_at, c.now, c.now, c.now,
               l.original, coalesce(e.id, b.id), coalesce(e.returns + 1, b.returns + 1, 0)
        FROM (SELECT holdfast.clock() AS now) c,
             jsonb_to_recordset(letters) AS l (id uuid, key text, job_id text, kind text, cause text, fingerprint text,
                 body text, attributes jsonb, received integer, sent_at timestamptz, original jsonb, earlier uuid)
             LEFT JOIN holdfast.dead_letters e ON e.id = l.earlier
             LEFT JOIN LATERAL (
                 SELECT p.id, p.returns FROM holdfast.dead_letters p
                 WHERE e.id IS NULL AND p.source = 'sqs' AND p.queue = capture_dead_letters.queue AND p.job_id = l.job_id
                   AND p.kind = l.kind AND p.key <> l.key AND p.gone_at IS NOT NULL
                 ORDER BY p.first_seen_at DESC LIMIT 1) b ON true
        ORDER BY l.key
        ON CONFLICT (source, queue, key) DO UPDATE
        SET last_seen_at = excluded.last_seen_at, received = excluded.received, missed = false, body = excluded.body,
            original = excluded.original, captured_at = coalesce(d.captured_at, excluded.captured_at),
            -- What came back after it was gone is news; what was discarded is nobody's.
            gone_at = CASE WHEN d.outcome = 'discarded' THEN d.gone_at END,
            incident_id = CASE WHEN d.gone_at IS NULL OR d.outcome = 'discarded' THEN d.incident_id END,
            returns = d.returns + CASE WHEN d.gone_at IS NOT NULL AND d.outcome = 'redriven' THEN 1 ELSE 0 END,
            outcome = CASE WHEN d.outcome = 'discarded' THEN d.outcome END
        RETURNING d.id
    )
    SELECT count(*)
    FROM written w
    JOIN jsonb_to_recordset(letters) AS l (id uuid) ON l.id = w.id;
$function$;
