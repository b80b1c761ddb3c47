-- Is it this process's turn to sweep? One process over all wins in each interval, without a leader, and gets what the last
-- sweep left. A stamp from the future is one of a clock that was set back: nobody must wait for that time to come again.
-- RPC begin_sweep(name text, every interval) RETURNS SETOF jsonb
UPDATE holdfast.monitors AS m
SET swept_at = (SELECT holdfast.clock()), every = %(every)s::interval
WHERE m.name = %(name)s
  AND (m.swept_at IS NULL OR m.swept_at <= (SELECT holdfast.clock()) - %(every)s::interval
       OR m.swept_at > (SELECT holdfast.clock()) + %(every)s::interval)
RETURNING coalesce(m.last_result, '{}')
