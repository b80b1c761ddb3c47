-- The queues, for health checks: what is counted is bounded, however many jobs there are. Waiting jobs are found by walking the
-- claim index, one probe a step: first from one (queue, kind) to the next, 1,000 at most; then within each through its lanes and
-- priorities, another 1,000 shared by all, so that one queue's thousands of groups hide no other queue. That gives the oldest
-- due job of each queue and kind. A hundred queues are told: those whose jobs wait longest, then those that are served. Their
-- depths are counted to 1,000, and to less where they are many: 20,000 rows in all.
CREATE OR REPLACE FUNCTION holdfast.health_queues()
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $function$
DECLARE
    _now     timestamptz := holdfast.clock();
    _most    CONSTANT integer := 1000;
    _queues  jsonb;
    _unknown jsonb;
BEGIN
    WITH RECURSIVE pair AS (
        (SELECT j.queue, j.kind, 1 AS n
         FROM holdfast.jobs j WHERE j.status = 'queued'
         ORDER BY j.queue, j.kind, j.lane, j.priority, j.run_at, j.id LIMIT 1)
        UNION ALL
        SELECT f.queue, f.kind, p.n + 1
        FROM pair p
        CROSS JOIN LATERAL (
            SELECT j.queue, j.kind
            FROM holdfast.jobs j
            WHERE j.status = 'queued' AND (j.queue, j.kind) > (p.queue, p.kind)
            ORDER BY j.queue, j.kind, j.lane, j.priority, j.run_at, j.id LIMIT 1) f
        WHERE p.n < _most
    ), share AS (
        SELECT greatest(_most / greatest(count(*), 1), 1) AS steps FROM pair
    ), waiting AS (
        SELECT p.queue, p.kind, w.due_since
        FROM pair p
        CROSS JOIN share h
        CROSS JOIN LATERAL (
            WITH RECURSIVE step AS (
                (SELECT j.lane, j.priority, j.run_at, 1 AS n
                 FROM holdfast.jobs j WHERE j.status = 'queued' AND j.queue = p.queue AND j.kind = p.kind
                 ORDER BY j.lane, j.priority, j.run_at, j.id LIMIT 1)
                UNION ALL
                SELECT f.lane, f.priority, f.run_at, s.n + 1
                FROM step s
                CROSS JOIN LATERAL (
                    SELECT j.lane, j.priority, j.run_at
                    FROM holdfast.jobs j
                    WHERE j.status = 'queued' AND j.queue = p.queue AND j.kind = p.kind
                      AND (j.lane, j.priority) > (s.lane, s.priority)
                    ORDER BY j.lane, j.priority, j.run_at, j.id LIMIT 1) f
                WHERE s.n < h.steps
            )
            SELECT min(s.run_at) FILTER (WHERE s.run_at <= _now) AS due_since FROM step s) w
    ), known AS (
        SELECT DISTINCT q.name AS queue, k.name AS kind
        FROM holdfast.workers w
        CROSS JOIN LATERAL unnest(w.queues) AS q (name)
        CROSS JOIN LATERAL unnest(w.kinds) AS k (name)
        WHERE w.gone_at IS NULL AND NOT w.quarantine
    ), able AS MATERIALIZED (
        SELECT w.queues, greatest(w.slots - (SELECT count(*) FROM holdfast.jobs j
                                             WHERE j.status = 'running' AND j.worker_id = w.id), 0) AS room
        FROM holdfast.workers w
        WHERE w.gone_at IS NULL AND NOT w.quarantine AND NOT w.draining AND w.seen_at + w.lost_after >= _now
    ), served AS MATERIALIZED (
        SELECT q.name, sum(a.room) AS room FROM able a CROSS JOIN LATERAL unnest(a.queues) AS q (name) GROUP BY q.name
    ), busy AS MATERIALIZED (
        SELECT j.queue, count(*) AS running, extract(epoch FROM _now - min(j.claimed_at)) AS longest_run,
               extract(epoch FROM _now - min(coalesce(j.heartbeat_at, j.claimed_at))) AS longest_silence
        FROM holdfast.jobs j WHERE j.status = 'running' GROUP BY j.queue
    ), named AS (
        SELECT x.name, coalesce(s.room, 0) AS room
        FROM (
            SELECT q.name FROM holdfast.queues q
            UNION SELECT v.queue FROM waiting v
            UNION SELECT b.queue FROM busy b) x
        LEFT JOIN served s ON s.name = x.name
        LEFT JOIN (SELECT v.queue, min(v.due_since) AS due_since FROM waiting v GROUP BY v.queue) d ON d.queue = x.name
        ORDER BY d.due_since NULLS LAST, s.name IS NULL, x.name LIMIT 100
    )
    SELECT jsonb_agg(jsonb_build_object(
               'name', n.name,
               'paused', coalesce(q.paused, false),
               'queued', (SELECT count(*) FROM (SELECT FROM holdfast.jobs j WHERE j.status = 'queued' AND j.queue = n.name
                                                LIMIT c.upto + 1) d),
               'counted_to', c.upto,
               'running', coalesce(b.running, 0),
               'longest_run', b.longest_run,
               'longest_silence', b.longest_silence,
               'workers', (SELECT count(*) FROM holdfast.workers w
                           WHERE w.gone_at IS NULL AND NOT w.quarantine AND n.name = ANY (w.queues)
                             AND w.seen_at + w.lost_after >= _now),
               'room', n.room,
               'due_for', extract(epoch FROM _now - (SELECT min(v.due_since) FROM waiting v WHERE v.queue = n.name)),
               'asked_ago', extract(epoch FROM _now - q.claimed_at),
               'rung_ago', extract(epoch FROM _now - q.rung_at)) ORDER BY n.name),
           (SELECT jsonb_agg(u.found) FROM (
               SELECT jsonb_build_object('queue', v.queue, 'kind', v.kind, 'due_for', extract(epoch FROM _now - v.due_since)) AS found
               FROM waiting v
               WHERE v.due_since IS NOT NULL
                 AND NOT EXISTS (SELECT FROM known k WHERE k.queue = v.queue AND k.kind = v.kind)
               ORDER BY v.due_since LIMIT 20) u)
    INTO _queues, _unknown
    FROM named n
    CROSS JOIN (SELECT least(_most, 20000 / greatest(count(*), 1))::integer AS upto FROM named) c
    LEFT JOIN busy b ON b.queue = n.name
    LEFT JOIN holdfast.queues q ON q.name = n.name;
    RETURN jsonb_build_object('queues', coalesce(_queues, '[]'), 'unknown_kinds', coalesce(_unknown, '[]'));
END
$function$;
