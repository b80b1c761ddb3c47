-- Decisions of the rate limiters of all processes, for metrics: the 1,000 totals that grew last.
CREATE OR REPLACE FUNCTION holdfast.health_limits()
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $function$
BEGIN
    RETURN jsonb_build_object('rate_limits', (
            SELECT coalesce(jsonb_agg(jsonb_build_object(
                'policy', t.policy, 'source', t.source, 'outcome', t.outcome, 'decisions', t.decisions)), '[]')
            FROM (SELECT l.policy, l.source, l.outcome, l.decisions FROM holdfast.rate_limit_totals l
                  ORDER BY l.last_at DESC, l.policy, l.source, l.outcome LIMIT 1000) t));
END
$function$;
