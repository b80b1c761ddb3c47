-- What became of messages that were to be sent. results: [{letter_id, status: sent | skipped | failed | waiting, detail}]. A letter that
-- was sent is redriven, and its queue is looked at soon: it may come back; one that waits again is tried again. Only whoever holds the redrive may. Returns how many were settled.
CREATE OR REPLACE FUNCTION holdfast.settle_redrive_messages(redrive uuid, owner uuid, results jsonb) RETURNS integer
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    WITH held AS (
        SELECT r.id, r.requested_by, c.now
        FROM (SELECT holdfast.clock() AS now) c, holdfast.redrives r
        WHERE r.id = redrive AND r.owner = settle_redrive_messages.owner
    ), written AS (
        UPDATE holdfast.redrive_letters AS l
        SET status = s.status, detail = left(coalesce(s.detail, ''), 500), at = h.now
        FROM held h, jsonb_to_recordset(results) AS s (letter_id uuid, status text, detail text)
        WHERE l.redrive_id = h.id AND l.letter_id = s.letter_id AND l.status = 'sending'
        RETURNING l.letter_id, l.status
    ), told AS (
        UPDATE holdfast.dead_letters AS d
        SET gone_at = h.now, outcome = 'redriven', outcome_at = h.now, outcome_by = h.requested_by
        FROM held h, written w
        WHERE d.id = w.letter_id AND w.status = 'sent'
        RETURNING 1
    ), sooner AS (
        UPDATE holdfast.dead_letter_queues AS q
        SET looked_at = least(q.looked_at, h.now - q.every + interval '30 seconds')
        FROM held h
        WHERE q.name IN (SELECT d.queue FROM holdfast.dead_letters d JOIN written w ON w.letter_id = d.id AND w.status = 'sent')
        RETURNING 1
    )
    SELECT count(*)::integer FROM written;
$function$;
