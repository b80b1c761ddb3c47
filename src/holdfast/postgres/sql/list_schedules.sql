-- The schedules. One that no worker has declared for a minute does not tick.
-- RPC list_schedules("limit" bigint)
-- RETURNS TABLE (name text, cron text, time_zone text, queue text, kind text, args jsonb, overlap boolean, paused boolean,
-- next_at timestamptz, last_at timestamptz, last_job_id uuid, last_result text, declared_at timestamptz,
-- is_declared boolean, clock timestamptz)
SELECT s.name, s.cron, s.time_zone, s.queue, s.kind, s.args, s.overlap, s.paused, s.next_at, s.last_at, s.last_job_id,
       s.last_result, s.declared_at, s.declared_at > (SELECT holdfast.clock()) - interval '1 minute',
       (SELECT holdfast.clock())
FROM holdfast.schedules s
ORDER BY s.name
LIMIT %(limit)s
