-- Forget identities whose windows have passed: one bounded step.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_prune(max_rows integer DEFAULT 10000) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    WITH gone AS (
        DELETE FROM holdfast.rate_limit_requests r
        USING (SELECT o.policy, o.key FROM holdfast.rate_limit_requests o
               WHERE o.expires_at < (SELECT holdfast.clock())
               LIMIT max_rows FOR UPDATE SKIP LOCKED) old
        WHERE r.policy = old.policy AND r.key = old.key
        RETURNING 1
    )
    SELECT count(*) FROM gone;
$function$;
