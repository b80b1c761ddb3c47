-- Take notifications that are due, to deliver them; for `lease` nobody else takes them. Whoever dies before settling them
-- leaves them to be tried again: a notification is delivered at least once. What is told of one incident goes out in the order
-- in which it was written: an end that comes before its beginning would leave people with the beginning. A channel that asked
-- for a pause has it, whoever was asked (`pause_channel`).
CREATE OR REPLACE FUNCTION holdfast.claim_notifications(channels text[], max_notifications integer, lease interval)
RETURNS TABLE (id uuid, incident_id uuid, channel text, reason text, content jsonb, attempts integer, created_at timestamptz)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    UPDATE holdfast.notifications AS n
    SET due_at = (SELECT holdfast.clock()) + lease, attempts = n.attempts + 1
    WHERE n.id = ANY (ARRAY(
        SELECT d.id FROM holdfast.notifications d
        WHERE d.delivered_at IS NULL AND d.due_at <= (SELECT holdfast.clock()) AND d.channel = ANY (channels)
          AND NOT EXISTS (SELECT FROM holdfast.notifications e
                          WHERE e.incident_id = d.incident_id AND e.channel = d.channel AND e.delivered_at IS NULL
                            AND e.created_at < d.created_at)
          AND NOT EXISTS (SELECT FROM holdfast.monitors m
                          WHERE m.name = 'deliver_notifications'
                            AND (m.last_result -> 'paused' ->> d.channel)::timestamptz > (SELECT holdfast.clock()))
        ORDER BY d.due_at, d.id
        LIMIT max_notifications
        FOR UPDATE SKIP LOCKED))
    RETURNING n.id, n.incident_id, n.channel, n.reason, n.content, n.attempts, n.created_at;
$function$;
