-- How the ledger is, in one round trip, for health checks: what is counted here is bounded, however many jobs there are.
-- Depths and dead jobs are counted to 1,000 and no further. Waiting jobs are found by walking the claim index, one probe a
-- step: first from one (queue, kind) to the next, 1,000 at most; then within each through its lanes and priorities, another
-- 1,000 shared by all, so that one queue's thousands of groups hide no other queue. That gives the oldest due job of each
-- queue and kind. A hundred queues are told: those whose jobs wait longest, then those that are served. Times and outcomes
-- come from the last 1,000 jobs that ended within the hour. What is running is as much as there are slots.
CREATE OR REPLACE FUNCTION holdfast.health_report(stale_after interval DEFAULT '10 minutes', opts jsonb DEFAULT '{}')
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $function$
DECLARE
    _now     timestamptz := holdfast.clock();
    _zero    CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    _most    CONSTANT integer := 1000;
    _workers jsonb;
    _queues  jsonb;
    _unknown jsonb;
    _ended   jsonb;
    _stale   jsonb;
BEGIN
    SELECT jsonb_build_object(
        'live', count(*) FILTER (WHERE w.seen_at + w.lost_after >= _now AND NOT w.quarantine),
        'silent', count(*) FILTER (WHERE w.seen_at + w.lost_after < _now),
        'draining', count(*) FILTER (WHERE w.draining),
        'slots', coalesce(sum(w.slots) FILTER (WHERE w.seen_at + w.lost_after >= _now AND NOT w.draining), 0),
        'longest_lag', coalesce(extract(epoch FROM max(w.loop_lag)), 0))
    INTO _workers
    FROM holdfast.workers w WHERE w.gone_at IS NULL;

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
    ), named AS (
        SELECT x.name, coalesce(s.room, 0) AS room
        FROM (
            SELECT q.name FROM holdfast.queues q
            UNION SELECT v.queue FROM waiting v
            UNION SELECT j.queue FROM holdfast.jobs j WHERE j.status = 'running') x
        LEFT JOIN served s ON s.name = x.name
        LEFT JOIN (SELECT v.queue, min(v.due_since) AS due_since FROM waiting v GROUP BY v.queue) d ON d.queue = x.name
        ORDER BY d.due_since NULLS LAST, s.name IS NULL, x.name LIMIT 100
    )
    SELECT jsonb_agg(jsonb_build_object(
               'name', n.name,
               'paused', coalesce(q.paused, false),
               'queued', (SELECT count(*) FROM (SELECT FROM holdfast.jobs j WHERE j.status = 'queued' AND j.queue = n.name
                                                LIMIT _most + 1) c),
               'running', (SELECT count(*) FROM holdfast.jobs j WHERE j.status = 'running' AND j.queue = n.name),
               'workers', (SELECT count(*) FROM holdfast.workers w
                           WHERE w.gone_at IS NULL AND NOT w.quarantine AND n.name = ANY (w.queues)
                             AND w.seen_at + w.lost_after >= _now),
               'room', n.room,
               'due_for', extract(epoch FROM _now - (SELECT min(v.due_since) FROM waiting v WHERE v.queue = n.name)),
               'asked_ago', extract(epoch FROM _now - q.claimed_at)) ORDER BY n.name),
           (SELECT jsonb_agg(u.found) FROM (
               SELECT jsonb_build_object('queue', v.queue, 'kind', v.kind, 'due_for', extract(epoch FROM _now - v.due_since)) AS found
               FROM waiting v
               WHERE v.due_since IS NOT NULL
                 AND NOT EXISTS (SELECT FROM known k WHERE k.queue = v.queue AND k.kind = v.kind)
               ORDER BY v.due_since LIMIT 20) u)
    INTO _queues, _unknown
    FROM named n
    LEFT JOIN holdfast.queues q ON q.name = n.name;

    SELECT jsonb_build_object(
        'of', count(*),
        'succeeded', count(*) FILTER (WHERE e.status = 'succeeded'),
        'dead', count(*) FILTER (WHERE e.status = 'dead'),
        'cancelled', count(*) FILTER (WHERE e.status = 'cancelled'),
        'since', extract(epoch FROM _now - min(e.finished_at)),
        'wait', to_jsonb(percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (
            ORDER BY greatest(extract(epoch FROM e.claimed_at - e.run_at), 0)::double precision)
            FILTER (WHERE e.status <> 'cancelled')),
        'run', to_jsonb(percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (
            ORDER BY extract(epoch FROM e.finished_at - e.claimed_at)::double precision)
            FILTER (WHERE e.status <> 'cancelled')))
    INTO _ended
    FROM (SELECT j.status, j.run_at, j.claimed_at, j.finished_at
          FROM holdfast.jobs j
          WHERE j.status IN ('succeeded', 'dead', 'cancelled') AND j.finished_at > _now - interval '1 hour'
          ORDER BY j.finished_at DESC, j.id DESC LIMIT _most) e;

    SELECT jsonb_build_object('count', count(*), 'reasons', coalesce(jsonb_object_agg(s.reason, s.many), '{}'))
    INTO _stale
    FROM (SELECT f.reason, count(*) AS many FROM holdfast.stale_jobs(stale_after, _most, false, _zero, _zero) f
          GROUP BY f.reason) s;

    RETURN jsonb_build_object(
        'clock', _now,
        'postgres', jsonb_build_object(
            'version', current_setting('server_version_num')::integer / 10000,
            'connections', (SELECT count(*) FROM pg_catalog.pg_stat_activity a WHERE a.backend_type = 'client backend'),
            'max_connections', current_setting('max_connections')::integer,
            'oldest_transaction', coalesce((
                SELECT extract(epoch FROM max(clock_timestamp() - a.xact_start))
                FROM pg_catalog.pg_stat_activity a
                WHERE a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()), 0)),
        'workers', _workers,
        'queues', coalesce(_queues, '[]'),
        'unknown_kinds', coalesce(_unknown, '[]'),
        'running', (SELECT count(*) FROM holdfast.jobs j WHERE j.status = 'running'),
        'ended', _ended,
        'stale', _stale,
        'notifications', (
            SELECT jsonb_build_object(
                'waiting', count(*), 'failing', count(*) FILTER (WHERE n.error IS NOT NULL),
                'oldest', coalesce(extract(epoch FROM _now - min(n.created_at)), 0),
                'last_error', (SELECT e.error FROM holdfast.notifications e
                               WHERE e.delivered_at IS NULL AND e.error IS NOT NULL ORDER BY e.due_at DESC LIMIT 1))
            FROM (SELECT w.created_at, w.error FROM holdfast.notifications w WHERE w.delivered_at IS NULL LIMIT _most) n),
        'incidents', (
            SELECT coalesce(jsonb_agg(jsonb_build_object(
                'kind', i.kind, 'title', i.title, 'open_for', extract(epoch FROM _now - i.opened_at)) ORDER BY i.opened_at), '[]')
            FROM (SELECT i.kind, i.title, i.opened_at FROM holdfast.incidents i WHERE i.status = 'open'
                  ORDER BY i.opened_at LIMIT 20) i),
        'rate_limits', (
            SELECT coalesce(jsonb_agg(jsonb_build_object(
                'policy', t.policy, 'source', t.source, 'outcome', t.outcome, 'decisions', t.decisions)), '[]')
            FROM (SELECT l.policy, l.source, l.outcome, l.decisions FROM holdfast.rate_limit_totals l
                  ORDER BY l.last_at DESC, l.policy, l.source, l.outcome LIMIT _most) t),
        'dead', (SELECT count(*) FROM (SELECT FROM holdfast.jobs j WHERE j.status = 'dead' LIMIT _most + 1) d),
        'monitors', (
            SELECT coalesce(jsonb_agg(jsonb_build_object(
                'name', m.name,
                'every', extract(epoch FROM m.every),
                'swept_ago', extract(epoch FROM _now - m.swept_at),
                'is_held', m.hold IS NOT NULL AND NOT m.hold ? 'ended',
                'last_result', coalesce(m.last_result, '{}')) ORDER BY m.name), '[]')
            FROM holdfast.monitors m));
END
$function$;
