-- Is it this process's turn to sweep? One process over all wins in each interval, without a leader.
UPDATE holdfast.monitors AS m
SET swept_at = (SELECT holdfast.clock()), every = %(every)s::interval
WHERE m.name = %(name)s
  AND (m.swept_at IS NULL OR m.swept_at <= (SELECT holdfast.clock()) - %(every)s::interval)
RETURNING m.name
