-- The dead-letter queues that anybody looks at. `is_abandoned`: nobody has looked for an hour longer than it should be looked at three
-- times; what is open about it is over then, since nobody watches it any more.
CREATE OR REPLACE FUNCTION holdfast.list_dead_letter_queues(max_queues integer DEFAULT 1000)
RETURNS TABLE (
    name text, looked_at timestamptz, every interval, messages bigint, captured boolean, only_counted text, blind_since timestamptz,
    error text, expires_at timestamptz, is_abandoned boolean)
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT q.name, q.looked_at, q.every, q.messages, q.captured, q.only_counted, q.blind_since, q.error, q.expires_at,
           coalesce(q.looked_at < (SELECT holdfast.clock()) - 3 * q.every - interval '1 hour', false)
    FROM holdfast.dead_letter_queues q
    ORDER BY q.name
    LIMIT max_queues;
$function$;
