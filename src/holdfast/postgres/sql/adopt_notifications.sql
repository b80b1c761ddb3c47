-- What waits for a channel that no alerter has announced for a day (its webhook was taken away, or the log was replaced by
-- one) would wait for ever, and be warned of for ever: it goes to a channel that there is.
-- RPC adopt_notifications(channel text) RETURNS SETOF uuid
UPDATE holdfast.notifications AS n
SET channel = %(channel)s
WHERE n.id = ANY (ARRAY(
    SELECT w.id FROM holdfast.notifications w
    WHERE w.delivered_at IS NULL AND w.due_at < (SELECT holdfast.clock()) AND w.channel <> %(channel)s
      AND NOT EXISTS (
          SELECT FROM holdfast.monitors m
          WHERE m.name = 'deliver_notifications'
            AND (m.last_result -> 'channels' ->> w.channel)::timestamptz > (SELECT holdfast.clock()) - interval '1 day')
      AND w.created_at < (SELECT holdfast.clock()) - interval '1 day'
    ORDER BY w.due_at
    LIMIT 1000
    FOR UPDATE SKIP LOCKED))
RETURNING n.id
