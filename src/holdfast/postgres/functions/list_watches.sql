-- The watched tables, for people and health checks: those that somebody looked at within a day, or, with `abandoned`, the others. `unsent`: messages of rescued rows that still wait to be sent, counted to 1,000.
CREATE OR REPLACE FUNCTION holdfast.list_watches(max_rows integer DEFAULT 100, abandoned boolean DEFAULT false)
RETURNS TABLE (name text, table_name text, action text, stale_after interval, every interval, looked_at timestamptz,
    looked_ago interval, stale bigint, rescued bigint, given_up bigint, unsent bigint, problem_since timestamptz, problem text, advice text)
LANGUAGE plpgsql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now timestamptz := holdfast.clock();
BEGIN
    RETURN QUERY
    SELECT k.name, k.table_name, k.action, k.stale_after, k.every, k.looked_at, _now - k.looked_at, k.stale, k.rescued, k.given_up,
           (SELECT count(*) FROM (SELECT FROM holdfast.watch_rescues r
                                  WHERE r.watch = k.name AND r.queue_url IS NOT NULL AND r.sent_at IS NULL LIMIT 1000) u),
           k.problem_since, k.problem, k.advice
    FROM holdfast.watches k
    WHERE (k.looked_at > _now - interval '1 day') <> abandoned
    ORDER BY k.name
    LIMIT max_rows;
END
$function$;
