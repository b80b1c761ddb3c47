-- What a look at a dead-letter queue came to. facts: {messages, captured, only_counted, error, retention: seconds}; with an error nothing
-- else is known, and what was known before stays. Returns since when nobody could look at it, and in how many seconds SQS deletes the
-- oldest of its messages that is not kept whole here: SQS counts from when a message was first sent. Of a queue that is only counted
-- nobody knows that; the oldest is taken to be there since messages were first counted, until a look counts none.
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
        counted_since = CASE WHEN facts ->> 'error' IS NULL THEN c.counted_since ELSE q.counted_since END,
        expires_at = CASE WHEN facts ->> 'error' IS NULL THEN
            CASE WHEN facts ->> 'only_counted' IS NOT NULL THEN c.counted_since ELSE (
                SELECT min(d.sent_at) FROM holdfast.dead_letters d
                WHERE d.source = 'sqs' AND d.queue = end_look.queue AND d.gone_at IS NULL AND d.captured_at IS NULL) END
            + make_interval(secs => (facts ->> 'retention')::double precision) ELSE q.expires_at END
    FROM (SELECT n.now, CASE WHEN facts ->> 'only_counted' IS NOT NULL AND (facts ->> 'messages')::bigint > 0
                             THEN coalesce(k.counted_since, n.now) END AS counted_since
          FROM (SELECT holdfast.clock() AS now) n
          LEFT JOIN holdfast.dead_letter_queues k ON k.name = end_look.queue) c
    WHERE q.name = end_look.queue
    RETURNING q.blind_since, extract(epoch FROM q.expires_at - c.now)::double precision;
$function$;
