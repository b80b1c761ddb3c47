-- Pause queues, or resume them. Claims read it; a job that runs already goes on.
-- RPC pause_queues(names text[], paused boolean) RETURNS SETOF text
INSERT INTO holdfast.queues AS q (name, paused, created_at)
SELECT DISTINCT n.name, %(paused)s::boolean, (SELECT holdfast.clock()) FROM unnest(%(names)s::text[]) AS n (name) ORDER BY 1
ON CONFLICT (name) DO UPDATE SET paused = EXCLUDED.paused
RETURNING q.name
