-- The rule that is in force for one identity under a policy, if any: to block wins over to allow, which wins over other
-- limits; among limits the rule that names both wins over one that names the identity, and that over the policy's.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_rule(policy_name text, identity uuid)
RETURNS SETOF holdfast.rate_limit_rules
LANGUAGE sql STABLE SECURITY INVOKER ROWS 1
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT r.*
    FROM holdfast.rate_limit_rules r
    WHERE r.policy IN (policy_name, '') AND r.key IN (identity, '00000000-0000-0000-0000-000000000000')
      AND (r.until IS NULL OR r.until > (SELECT holdfast.clock()))
    ORDER BY CASE r.verdict WHEN 'block' THEN 1 WHEN 'allow' THEN 2 ELSE 3 END,
             r.key = '00000000-0000-0000-0000-000000000000', r.policy = ''
    LIMIT 1
$function$;
