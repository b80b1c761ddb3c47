-- One identity under all policies in use.
-- RPC show_rate_limits(key uuid)
-- RETURNS TABLE (policy_name text, identity uuid, admitted bigint, last_at timestamptz, refused bigint, free_at timestamptz)
SELECT r.policy, r.key,
       CASE WHEN r.expires_at > (SELECT holdfast.clock())
            THEN coalesce(r.sums[cardinality(r.sums)], r.base) - r.base ELSE 0 END,
       to_timestamp(r.stamps[cardinality(r.stamps)] / 1e6), r.refused, r.expires_at
FROM holdfast.rate_limit_requests r
WHERE r.key = %(key)s
ORDER BY r.policy
LIMIT 1000
