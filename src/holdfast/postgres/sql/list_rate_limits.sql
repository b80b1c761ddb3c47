-- The policies that were used, the last used first, with what was decided over all processes.
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
