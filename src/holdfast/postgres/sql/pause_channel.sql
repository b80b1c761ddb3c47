-- A channel asked for a pause: nobody delivers anything to it until then.
-- RPC pause_channel(channel text, pause interval) RETURNS SETOF text
UPDATE holdfast.monitors AS m
SET last_result = coalesce(m.last_result, '{}') || jsonb_build_object('paused',
        coalesce(m.last_result -> 'paused', '{}')
        || jsonb_build_object(%(channel)s::text, (SELECT holdfast.clock()) + %(pause)s::interval))
WHERE m.name = 'deliver_notifications'
RETURNING m.name
