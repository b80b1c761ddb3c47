-- An alerter tells that it delivers to these channels; also the turn of the alerters, for others to see that they are alive.
-- RPC announce_channels(channels text[], every interval) RETURNS SETOF text
UPDATE holdfast.monitors AS m
SET swept_at = (SELECT holdfast.clock()),
    every = %(every)s::interval,
    last_result = coalesce(m.last_result, '{}') || jsonb_build_object('channels',
        coalesce(m.last_result -> 'channels', '{}')
        || (SELECT jsonb_object_agg(c.name, (SELECT holdfast.clock())) FROM unnest(%(channels)s::text[]) AS c (name)))
WHERE m.name = 'deliver_notifications'
RETURNING m.name
