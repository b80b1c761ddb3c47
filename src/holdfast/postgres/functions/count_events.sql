-- Add up the events that have happened since the last call: totals that only grow, over all processes, kept in monitors
-- while the events themselves are pruned. Keys are the event, with its reason where it is a rescue or a crash
-- (rescue/worker_gone), and false_rescue: the rescues that is_false_rescue finds (promise P4; it should stay at 0).
-- An id is drawn before its row is committed, so the last 15 s wait for the next call: no call takes longer than 10.
-- One caller counts at a time; whoever comes second gets what is counted so far. Returns the totals.
CREATE OR REPLACE FUNCTION holdfast.count_events(
    stale_after interval DEFAULT '10 minutes', max_events integer DEFAULT 10000
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _now    timestamptz := holdfast.clock();
    _from   bigint;
    _upto   bigint;
    _totals jsonb;
    _new    jsonb;
BEGIN
    SELECT coalesce((m.last_result ->> 'event_id')::bigint, 0), coalesce(m.last_result -> 'totals', '{}')
    INTO _from, _totals
    FROM holdfast.monitors m WHERE m.name = 'count_events'
    FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN (SELECT coalesce(m.last_result -> 'totals', '{}') FROM holdfast.monitors m WHERE m.name = 'count_events');
    END IF;

    SELECT coalesce(min(e.id) FILTER (WHERE e.at > _now - interval '15 seconds') - 1, max(e.id))
    INTO _upto
    FROM (SELECT e.id, e.at FROM holdfast.job_events e WHERE e.id > _from ORDER BY e.id LIMIT max_events) e;

    SELECT jsonb_object_agg(c.key, coalesce((_totals ->> c.key)::bigint, 0) + c.many)
    INTO _new
    FROM (
        SELECT k.key, count(*) AS many
        FROM holdfast.job_events e
        LEFT JOIN holdfast.jobs j ON j.id = e.job_id
        LEFT JOIN holdfast.workers w ON w.id = e.worker_id
        CROSS JOIN LATERAL (
            SELECT CASE WHEN e.event IN ('rescue', 'crash') THEN e.event || '/' || e.reason ELSE e.event END AS key
            UNION ALL
            SELECT 'false_rescue'
            WHERE e.event IN ('rescue', 'crash')
              AND holdfast.is_false_rescue(e.reason, e.at, e.details, w.gone_at, w.gone_reason, w.seen_at,
                                           w.lost_after, j.timeout, j.silent_after, count_events.stale_after)) k
        WHERE e.id > _from AND e.id <= _upto
        GROUP BY k.key) c;

    -- A death by rescue is settled by no worker, so it is counted here, among those that workers count (job_stats).
    INSERT INTO holdfast.job_stats AS s (minute, queue, kind, dead, waits, runs, last_at)
    SELECT p.minute, d.queue, d.kind, d.many, array_fill(0, ARRAY[19]), array_fill(0, ARRAY[19]), _now
    FROM (SELECT j.queue, j.kind, count(*) AS many
          FROM holdfast.job_events e JOIN holdfast.jobs j ON j.id = e.job_id
          WHERE e.id > _from AND e.id <= _upto AND e.event IN ('rescue', 'crash') AND e.details ->> 'status' = 'dead'
          GROUP BY j.queue, j.kind) d
    CROSS JOIN (VALUES (date_trunc('minute', _now)), ('infinity'::timestamptz)) AS p (minute)
    ORDER BY p.minute, d.queue, d.kind
    ON CONFLICT (minute, queue, kind) DO UPDATE SET dead = s.dead + EXCLUDED.dead, last_at = EXCLUDED.last_at;

    _totals := _totals || coalesce(_new, '{}');
    UPDATE holdfast.monitors AS m
    SET swept_at = _now,
        last_result = jsonb_build_object('event_id', greatest(_from, coalesce(_upto, 0)), 'totals', _totals)
    WHERE m.name = 'count_events';
    RETURN _totals;
END
$function$;
