-- Running jobs that somebody must take back now, for health checks, by reason, counted to 1,000; and the tables of other programs
-- that are watched, as they were seen last.
CREATE OR REPLACE FUNCTION holdfast.health_stale(stale_after interval DEFAULT '10 minutes')
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $function$
BEGIN
    RETURN jsonb_build_object('stale', (
        SELECT jsonb_build_object('count', coalesce(sum(s.many), 0), 'reasons', coalesce(jsonb_object_agg(s.reason, s.many), '{}'))
        FROM (SELECT f.reason, count(*) AS many
              FROM holdfast.stale_jobs(stale_after, 1000, false, '00000000-0000-0000-0000-000000000000',
                                       '00000000-0000-0000-0000-000000000000') f
              GROUP BY f.reason) s),
        'watches', (
            SELECT coalesce(jsonb_agg(jsonb_build_object(
                'name', w.name, 'table', w.table_name, 'action', w.action, 'every', extract(epoch FROM w.every),
                'looked_ago', extract(epoch FROM w.looked_ago), 'stale', w.stale, 'rescued', w.rescued, 'given_up', w.given_up,
                'unsent', w.unsent, 'problem', w.problem) ORDER BY w.name), '[]')
            FROM holdfast.list_watches(50) w));
END
$function$;
