-- What a look at a dead-letter queue came to. facts: {messages, captured, only_counted, error, retention: seconds}; with an error nothing
-- else is known, and what was known before stays. Returns since when nobody could look at it, and in how many seconds SQS deletes the
-- oldest of its messages that is not kept whole here: SQS counts from when a message was first sent.
CREATE OR REPLACE FUNCTION holdfast.end_look(queue text, facts jsonb)
RETURNS TABLE (blind_since timestamptz, lost_in double precision)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    UPDATE holdfast.dead_letter_queues AS q
    SET error = facts ->> 'error',
        blind_since = CASE WHEN facts ->> 'error' IS NOT NULL THEN coalesce(q.blind_since, c.now) END,
        messages = CASE WHEN facts ->> 'error' IS NULL THEN (facts ->> 'messages')::bigint ELSE q.messages END,
        captured = coalesce((facts ->> 'captured')::boolean, q.captured),
        only_counted = CASE WHEN facts ->> 'error' IS NULL THEN facts ->> 'only_counted' ELSE q.only_counted END,
        expires_at = CASE WHEN facts ->> 'error' IS NULL THEN (
            SELECT min(d.sent_at) FROM holdfast.dead_letters d
            WHERE d.source = 'sqs' AND d.queue = end_look.queue AND d.gone_at IS NULL AND d.captured_at IS NULL)
            + make_interval(secs => (facts ->> 'retention')::double precision) ELSE q.expires_at END
    FROM (SELECT holdfast.clock() AS now) c
    WHERE q.name = end_look.queue
    RETURNING q.blind_since, extract(epoch FROM q.expires_at - c.now)::double precision;
$function$;
