-- The policies that were used, the last used first, with what was decided over all processes.
-- RPC list_rate_limits("limit" bigint)
-- RETURNS TABLE (policy text, admitted bigint, refused bigint, shadowed bigint, alone bigint, last_at timestamptz)
SELECT policy,
       coalesce(sum(decisions) FILTER (WHERE outcome = 'admitted'), 0)::bigint,
       coalesce(sum(decisions) FILTER (WHERE outcome = 'refused'), 0)::bigint,
       coalesce(sum(decisions) FILTER (WHERE outcome = 'shadowed'), 0)::bigint,
       coalesce(sum(decisions) FILTER (WHERE source = 'memory'), 0)::bigint,
       max(last_at)
FROM holdfast.rate_limit_totals
GROUP BY policy
ORDER BY max(last_at) DESC, policy
LIMIT %(limit)s
