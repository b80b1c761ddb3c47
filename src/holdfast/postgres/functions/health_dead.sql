-- Dead jobs, and the messages of SQS that are in dead-letter queues now, for health checks; all counted to 1,000, the messages
-- of each of a hundred queues as well, with the age of the oldest in seconds. A dead job is a dead letter too, and no message.
CREATE OR REPLACE FUNCTION holdfast.health_dead()
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $function$
DECLARE
    _now timestamptz := holdfast.clock();
BEGIN
    RETURN (
        WITH RECURSIVE named AS (
            (SELECT l.queue, 1 AS n FROM holdfast.dead_letters l
             WHERE l.source = 'sqs' AND l.gone_at IS NULL ORDER BY l.queue LIMIT 1)
            UNION ALL
            SELECT f.queue, p.n + 1
            FROM named p
            CROSS JOIN LATERAL (
                SELECT l.queue FROM holdfast.dead_letters l
                WHERE l.source = 'sqs' AND l.gone_at IS NULL AND l.queue > p.queue ORDER BY l.queue LIMIT 1) f
            WHERE p.n < 100
        )
        SELECT jsonb_build_object(
            'dead', (SELECT count(*) FROM (SELECT FROM holdfast.jobs j WHERE j.status = 'dead' LIMIT 1001) d),
            'letters', coalesce(least(sum(c.many), 1001), 0),
            'letter_queues', coalesce(jsonb_agg(jsonb_build_object(
                'name', p.queue, 'letters', c.many,
                'oldest', coalesce(extract(epoch FROM _now - o.sent_at), 0)) ORDER BY p.queue), '[]'))
        FROM named p
        CROSS JOIN LATERAL (SELECT count(*) AS many FROM (
            SELECT FROM holdfast.dead_letters l
            WHERE l.source = 'sqs' AND l.gone_at IS NULL AND l.queue = p.queue LIMIT 1001) x) c
        LEFT JOIN LATERAL (
            SELECT l.sent_at FROM holdfast.dead_letters l
            WHERE l.source = 'sqs' AND l.gone_at IS NULL AND l.queue = p.queue ORDER BY l.sent_at LIMIT 1) o ON true);
END
$function$;
