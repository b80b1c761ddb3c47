-- Keep what a look at a dead-letter queue brought. A message that was seen before is seen again; what was there before and is
-- not found by two complete looks in a row is gone (one may be wrong: SQS's counts are approximate), unless it was captured: that
-- is kept here alone. `earlier`: the letter that was sent again as this message; it came back. Without it the same job is the same
-- letter: one of this queue with its job_id and kind that is gone, or that this complete look no longer found, is its earlier life.
-- letters: [{id, key, job_id, kind, cause, fingerprint, body, attributes, received, sent_at, earlier}]. Returns how many were new.
CREATE OR REPLACE FUNCTION holdfast.note_dead_letters(queue text, letters jsonb, complete boolean) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now timestamptz := holdfast.clock();
    _new bigint;
    _keys text[] := ARRAY(SELECT l.key FROM jsonb_to_recordset(letters) AS l (key text));
BEGIN
    WITH written AS (
        INSERT INTO holdfast.dead_letters AS d (id, source, queue, key, job_id, kind, cause, fingerprint, body, attributes,
            received, sent_at, first_seen_at, last_seen_at, earlier_id, returns)
        SELECT l.id, 'sqs', note_dead_letters.queue, l.key, l.job_id, coalesce(l.kind, ''), coalesce(l.cause, ''),
               l.fingerprint, l.body, coalesce(l.attributes, '{}'), coalesce(l.received, 0), l.sent_at, _now, _now,
               coalesce(e.id, b.id), coalesce(e.returns + 1, b.returns + 1, 0)
        FROM jsonb_to_recordset(letters) AS l (id uuid, key text, job_id text, kind text, cause text, fingerprint text,
            body text, attributes jsonb, received integer, sent_at timestamptz, earlier uuid)
        LEFT JOIN holdfast.dead_letters e ON e.id = l.earlier
        LEFT JOIN LATERAL (
            SELECT p.id, p.returns FROM holdfast.dead_letters p
            WHERE e.id IS NULL AND p.source = 'sqs' AND p.queue = note_dead_letters.queue AND p.job_id = l.job_id
              AND p.kind = l.kind AND p.key <> ALL (_keys)
              AND (p.gone_at IS NOT NULL OR complete AND p.captured_at IS NULL)
            ORDER BY p.first_seen_at DESC LIMIT 1) b ON true
        ORDER BY l.key
        ON CONFLICT (source, queue, key) DO UPDATE
        SET last_seen_at = _now, received = excluded.received, missed = false,
            -- What came back after it was gone is news; what was discarded is nobody's, wherever it still lies.
            gone_at = CASE WHEN d.outcome = 'discarded' THEN d.gone_at END,
            incident_id = CASE WHEN d.gone_at IS NULL OR d.outcome = 'discarded' THEN d.incident_id END,
            returns = d.returns + CASE WHEN d.gone_at IS NOT NULL AND d.outcome = 'redriven' THEN 1 ELSE 0 END,
            outcome = CASE WHEN d.outcome = 'discarded' THEN d.outcome END
        RETURNING d.first_seen_at = _now AS is_new
    )
    SELECT count(*) FILTER (WHERE w.is_new) INTO _new FROM written w;
    IF complete THEN
        UPDATE holdfast.dead_letters AS d
        SET gone_at = CASE WHEN d.missed THEN _now END, missed = true
        WHERE d.source = 'sqs' AND d.queue = note_dead_letters.queue AND d.gone_at IS NULL AND d.last_seen_at < _now
          AND d.captured_at IS NULL;
    END IF;
    RETURN _new;
END
$function$;
