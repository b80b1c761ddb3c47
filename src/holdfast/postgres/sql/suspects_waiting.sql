-- Is a suspect due in one of these queues? Then a quarantine process must be started for it.
-- RPC suspects_waiting(queues text[], kinds text[]) RETURNS SETOF boolean
SELECT EXISTS (
    SELECT FROM unnest(%(queues)s::text[]) AS q (name)
    CROSS JOIN unnest(%(kinds)s::text[]) AS k (name)
    CROSS JOIN LATERAL (
        SELECT FROM holdfast.jobs j
        WHERE j.status = 'queued' AND j.queue = q.name AND j.kind = k.name AND j.lane = '!'
          AND j.run_at <= (SELECT holdfast.clock())
        LIMIT 1) probe)
