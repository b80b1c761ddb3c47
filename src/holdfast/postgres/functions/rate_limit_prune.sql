-- Forget identities whose windows have passed, and rules that have run out, in one bounded step: so many pages of the
-- table from one page on. There is no index on when they pass: it would cost every hit.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_prune(from_page bigint DEFAULT 0, pages integer DEFAULT 2000) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _now  timestamptz := holdfast.clock();
    _gone bigint;
BEGIN
    DELETE FROM holdfast.rate_limit_rules r WHERE from_page = 0 AND r.until < _now;
    WITH old AS (
        SELECT r.policy, r.key FROM holdfast.rate_limit_requests r
        WHERE r.ctid >= format('(%s,0)', from_page)::tid AND r.ctid < format('(%s,0)', from_page + pages)::tid
          AND r.expires_at < _now
        ORDER BY r.policy, r.key FOR UPDATE SKIP LOCKED
    )
    DELETE FROM holdfast.rate_limit_requests r USING old WHERE r.policy = old.policy AND r.key = old.key;
    GET DIAGNOSTICS _gone = ROW_COUNT;
    RETURN _gone;
END
$function$;
