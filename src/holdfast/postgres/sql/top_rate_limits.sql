-- Who is refused most, of those that the pruner has not forgotten.
-- RPC top_rate_limits(policy text, "limit" bigint)
-- RETURNS TABLE (policy_name text, identity uuid, admitted bigint, last_at timestamptz, refused bigint, free_at timestamptz)
SELECT r.policy, r.key,
       CASE WHEN r.expires_at > (SELECT holdfast.clock())
            THEN coalesce(r.sums[cardinality(r.sums)], r.base) - r.base ELSE 0 END,
       to_timestamp(r.stamps[cardinality(r.stamps)] / 1e6), r.refused, r.expires_at
FROM holdfast.rate_limit_requests r
WHERE r.refused > 0 AND (r.policy = %(policy)s::text OR %(policy)s::text IS NULL)
ORDER BY r.refused DESC, r.policy, r.key
LIMIT %(limit)s
