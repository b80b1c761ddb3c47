-- What a look at a watched table came to. `result`: {stale, rescued, given_up}; {problem} where it could not be looked at, or where
-- it refused that rows be taken back; {advice}. What was done is forgotten after 7 days, some of it each time, unless its message is still to be sent.
-- Returns what people are told by: since when nobody could look, what was rescued and given up within the hour, and the messages
-- that could not be sent, since when.
CREATE OR REPLACE FUNCTION holdfast.end_watch(name text, result jsonb)
RETURNS TABLE (blind_since timestamptz, rescued bigint, given_up bigint, unsent bigint, unsent_since timestamptz, unsent_why text)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now timestamptz := holdfast.clock();
BEGIN
    UPDATE holdfast.watches AS k
    SET stale = coalesce((result ->> 'stale')::bigint, k.stale),
        rescued = k.rescued + coalesce((result ->> 'rescued')::bigint, 0),
        given_up = k.given_up + coalesce((result ->> 'given_up')::bigint, 0),
        problem_since = CASE WHEN result ? 'problem' THEN coalesce(k.problem_since, _now) END,
        problem = result ->> 'problem',
        advice = result ->> 'advice'
    WHERE k.name = end_watch.name;
    DELETE FROM holdfast.watch_rescues AS r
    WHERE r.id = ANY (ARRAY(
        SELECT o.id FROM holdfast.watch_rescues o
        WHERE o.rescued_at < _now - interval '7 days' AND (o.queue_url IS NULL OR o.sent_at IS NOT NULL)
        ORDER BY o.rescued_at LIMIT 1000
        FOR UPDATE SKIP LOCKED));
    RETURN QUERY
    SELECT k.problem_since, count(r.id) FILTER (WHERE NOT r.is_final), count(r.id) FILTER (WHERE r.is_final),
           u.many, u.since, u.why
    FROM holdfast.watches k
    LEFT JOIN LATERAL (
        SELECT o.id, o.is_final FROM holdfast.watch_rescues o
        WHERE o.watch = k.name AND o.rescued_at > _now - interval '1 hour' LIMIT 1000) r ON true
    CROSS JOIN LATERAL (
        SELECT count(*) AS many, min(o.rescued_at) AS since, max(o.error) AS why
        FROM (SELECT s.rescued_at, s.error FROM holdfast.watch_rescues s
              WHERE s.queue_url IS NOT NULL AND s.sent_at IS NULL AND s.error IS NOT NULL AND s.watch = k.name LIMIT 1000) o) u
    WHERE k.name = end_watch.name
    GROUP BY k.name, k.problem_since, u.many, u.since, u.why;
END
$function$;
