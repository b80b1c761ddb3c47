-- How one identity stands, as it would be answered now; changes nothing. For what the answer holds see rate_limit_hits.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_peek(
    policy_name text, identity uuid, mosts integer[], spans bigint[], kinds text[], bursts integer[], cost integer DEFAULT 1
) RETURNS TABLE (place integer, answer bigint[], verdict text, rule jsonb)
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    WITH now AS MATERIALIZED (
        SELECT n.at, (extract(epoch FROM n.at) * 1000000)::bigint AS micro FROM (SELECT holdfast.clock() AS at) n
    )
    SELECT 1,
           CASE WHEN u.verdict IN ('allow', 'block')
                THEN ARRAY[0, now.micro, (extract(epoch FROM u.until - now.at) * 1000000)::bigint]
                ELSE s.answer END,
           nullif(u.verdict, 'limit'),
           CASE u.verdict WHEN 'limit' THEN jsonb_build_array(u.mosts, u.spans, u.kinds, u.bursts) END
    FROM now
    LEFT JOIN holdfast.rate_limit_requests r ON r.policy = policy_name AND r.key = identity
    LEFT JOIN holdfast.rate_limit_rule(policy_name, identity) u ON true
    CROSS JOIN LATERAL holdfast.rate_limit_step(
        now.micro, coalesce(r.base, 0), coalesce(r.stamps, '{}'), coalesce(r.sums, '{}'), r.marks,
        coalesce(u.mosts, rate_limit_peek.mosts), coalesce(u.spans, rate_limit_peek.spans),
        coalesce(u.kinds, rate_limit_peek.kinds), coalesce(u.bursts, rate_limit_peek.bursts),
        1, cardinality(coalesce(u.mosts, rate_limit_peek.mosts)), cost, 0, 0) s
$function$;
