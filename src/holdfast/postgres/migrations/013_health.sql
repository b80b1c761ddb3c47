-- Holdfast migration 013_health
-- To apply it by hand: paste the whole file into a SQL editor and run it, or: psql -f 013_health.sql
-- It is one statement and so one transaction, it may be run any number of times, and it records itself in
-- holdfast.schema_migrations: once it is on record, running it again does nothing.
DO $holdfast$
BEGIN
    SET LOCAL lock_timeout = '3s';
    SET LOCAL client_min_messages = warning;
    PERFORM pg_advisory_xact_lock(hashtextextended('holdfast.migrations', 0));
    -- The catalog's tables are read, not asked through to_regclass: its cache may be older than the lock.
    IF EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname = 'holdfast' AND c.relname = 'schema_migrations') THEN
        IF EXISTS (SELECT FROM holdfast.schema_migrations WHERE version = 13) THEN
            RETURN;
        END IF;
    END IF;
    EXECUTE $migration$
-- migration body
-- Add what a worker has counted since it last told: for each minute, queue and kind how many of its runs ended how, how long
-- jobs waited and ran in seconds, and histograms of both. Each worker numbers what it tells, so a repetition after a lost
-- answer adds nothing. Besides the minute there is a row of totals, with 'infinity' for its minute: metrics must only grow.
-- A row that somebody holds locked is waited for half a second: counting must not hold up a worker. False: known already.
CREATE OR REPLACE FUNCTION holdfast.note_job_stats(worker_id uuid, number bigint, counts jsonb) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '500ms'
AS $function$
DECLARE
    _now timestamptz := holdfast.clock();
BEGIN
    IF EXISTS (SELECT FROM holdfast.workers w WHERE w.id = note_job_stats.worker_id AND w.stats_number >= number) THEN
        RETURN false;
    END IF;
    INSERT INTO holdfast.job_stats AS s (minute, queue, kind, succeeded, failed, dead, cancelled, waited, ran, waits, runs, last_at)
    SELECT p.minute, c.queue, c.kind, c.succeeded, c.failed, c.dead, c.cancelled, c.waited, c.ran, c.waits, c.runs, _now
    FROM jsonb_to_recordset(counts) AS c (
        queue text, kind text, succeeded bigint, failed bigint, dead bigint, cancelled bigint,
        waited double precision, ran double precision, waits bigint[], runs bigint[])
    CROSS JOIN (VALUES (date_trunc('minute', _now)), ('infinity'::timestamptz)) AS p (minute)
    ORDER BY p.minute, c.queue, c.kind
    ON CONFLICT (minute, queue, kind) DO UPDATE
    SET succeeded = s.succeeded + EXCLUDED.succeeded,
        failed = s.failed + EXCLUDED.failed,
        dead = s.dead + EXCLUDED.dead,
        cancelled = s.cancelled + EXCLUDED.cancelled,
        waited = s.waited + EXCLUDED.waited,
        ran = s.ran + EXCLUDED.ran,
        waits = ARRAY(SELECT a.n + b.n FROM unnest(s.waits) WITH ORDINALITY AS a (n, i)
                      JOIN unnest(EXCLUDED.waits) WITH ORDINALITY AS b (n, i) USING (i) ORDER BY i),
        runs = ARRAY(SELECT a.n + b.n FROM unnest(s.runs) WITH ORDINALITY AS a (n, i)
                     JOIN unnest(EXCLUDED.runs) WITH ORDINALITY AS b (n, i) USING (i) ORDER BY i),
        last_at = EXCLUDED.last_at;
    UPDATE holdfast.workers AS w SET stats_number = number WHERE w.id = note_job_stats.worker_id;
    RETURN true;
END
$function$;

-- Forget what only served for a while: idempotency keys after a day, canary keys that have expired, services that were not
-- seen for a day; minutes of job_stats after 8 days; totals of kinds that nothing happened to after 90 days. One bounded step;
-- returns how many rows went.
CREATE OR REPLACE FUNCTION holdfast.prune_bookkeeping(max_rows integer DEFAULT 10000) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    WITH keys AS (
        DELETE FROM holdfast.idempotency_keys k
        USING (SELECT o.scope, o.key FROM holdfast.idempotency_keys o
               WHERE o.created_at < (SELECT holdfast.clock()) - interval '1 day'
               ORDER BY o.created_at
               LIMIT max_rows FOR UPDATE SKIP LOCKED) old
        WHERE k.scope = old.scope AND k.key = old.key
        RETURNING 1
    ), canaries AS (
        DELETE FROM holdfast.api_keys a
        WHERE a.role = 'canary' AND a.expires_at < (SELECT holdfast.clock())
        RETURNING 1
    ), services AS (
        DELETE FROM holdfast.services s
        WHERE s.seen_at < (SELECT holdfast.clock()) - interval '1 day'
        RETURNING 1
    ), stats AS (
        DELETE FROM holdfast.job_stats s
        USING (SELECT o.minute, o.queue, o.kind FROM holdfast.job_stats o
               WHERE o.minute < (SELECT holdfast.clock()) - interval '8 days' LIMIT max_rows) old
        WHERE (s.minute, s.queue, s.kind) = (old.minute, old.queue, old.kind)
        RETURNING 1
    ), totals AS (
        DELETE FROM holdfast.job_stats s
        WHERE s.minute = 'infinity' AND s.last_at < (SELECT holdfast.clock()) - interval '90 days'
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM keys) + (SELECT count(*) FROM canaries) + (SELECT count(*) FROM services)
         + (SELECT count(*) FROM stats) + (SELECT count(*) FROM totals);
$function$;

-- The server, for health checks. What other roles' sessions do is seen by members of pg_monitor only; others see less, and
-- never an error. Times in seconds; the lag is that of the slowest standby, or our own where this is one.
CREATE OR REPLACE FUNCTION holdfast.health_server()
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $function$
BEGIN
    RETURN jsonb_build_object('postgres', (
        SELECT jsonb_build_object(
            'version', current_setting('server_version_num')::integer / 10000,
            'connections', count(*) FILTER (WHERE a.backend_type = 'client backend'),
            'max_connections', current_setting('max_connections')::integer,
            'oldest_transaction', coalesce(extract(epoch FROM max(clock_timestamp() - a.xact_start)
                FILTER (WHERE a.backend_type = 'client backend' AND a.pid <> pg_backend_pid())), 0),
            'standbys', (SELECT count(*) FROM pg_catalog.pg_stat_replication),
            'replication_lag', CASE
                WHEN pg_is_in_recovery() AND pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
                WHEN pg_is_in_recovery() THEN extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())
                ELSE (SELECT extract(epoch FROM max(r.replay_lag)) FROM pg_catalog.pg_stat_replication r) END)
        FROM pg_catalog.pg_stat_activity a));
END
$function$;

-- The worker processes that were not declared gone, for health checks. lost: those that died or lapsed within the hour.
CREATE OR REPLACE FUNCTION holdfast.health_workers()
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
    RETURN jsonb_build_object(
        'workers', (
            SELECT jsonb_build_object(
                'live', count(*) FILTER (WHERE w.seen_at + w.lost_after >= _now AND NOT w.quarantine),
                'idle', count(*) FILTER (WHERE w.seen_at + w.lost_after >= _now AND NOT w.quarantine AND w.running = 0),
                'silent', count(*) FILTER (WHERE w.seen_at + w.lost_after < _now),
                'draining', count(*) FILTER (WHERE w.draining),
                'slots', coalesce(sum(w.slots) FILTER (WHERE w.seen_at + w.lost_after >= _now AND NOT w.draining), 0),
                'longest_lag', coalesce(extract(epoch FROM max(w.loop_lag)), 0))
            FROM holdfast.workers w WHERE w.gone_at IS NULL)
        || jsonb_build_object('lost', (
            SELECT count(*) FROM holdfast.workers w
            WHERE w.gone_at > _now - interval '1 hour' AND w.gone_reason IN ('crashed', 'lapsed', 'fenced'))),
        'running', (SELECT count(*) FROM holdfast.jobs j WHERE j.status = 'running'));
END
$function$;

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

-- What became of jobs, for health checks and metrics, from the minutes that workers count (job_stats); no job is looked at. The
-- last hour as one, from its 10,000 latest rows at most; and totals since the first one, of the 200 pairs of queue and kind that
-- something happened to last. Histograms are counts by the bounds of core/histogram.py; a pair's are for metrics.
CREATE OR REPLACE FUNCTION holdfast.health_jobs()
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
    RETURN jsonb_build_object('ended', (
        SELECT jsonb_build_object(
            'since', extract(epoch FROM _now - min(s.minute)),
            'succeeded', coalesce(sum(s.succeeded), 0),
            'failed', coalesce(sum(s.failed), 0),
            'dead', coalesce(sum(s.dead), 0),
            'cancelled', coalesce(sum(s.cancelled), 0),
            'waits', ARRAY[sum(s.waits[1]), sum(s.waits[2]), sum(s.waits[3]), sum(s.waits[4]), sum(s.waits[5]),
                sum(s.waits[6]), sum(s.waits[7]), sum(s.waits[8]), sum(s.waits[9]), sum(s.waits[10]),
                sum(s.waits[11]), sum(s.waits[12]), sum(s.waits[13]), sum(s.waits[14]), sum(s.waits[15]),
                sum(s.waits[16]), sum(s.waits[17]), sum(s.waits[18]), sum(s.waits[19])],
            'runs', ARRAY[sum(s.runs[1]), sum(s.runs[2]), sum(s.runs[3]), sum(s.runs[4]), sum(s.runs[5]),
                sum(s.runs[6]), sum(s.runs[7]), sum(s.runs[8]), sum(s.runs[9]), sum(s.runs[10]), sum(s.runs[11]),
                sum(s.runs[12]), sum(s.runs[13]), sum(s.runs[14]), sum(s.runs[15]), sum(s.runs[16]),
                sum(s.runs[17]), sum(s.runs[18]), sum(s.runs[19])])
        FROM (SELECT m.* FROM holdfast.job_stats m
              WHERE m.minute > _now - interval '1 hour' AND m.minute < 'infinity' ORDER BY m.minute DESC LIMIT 10000) s),
        'totals', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'queue', t.queue, 'kind', t.kind, 'succeeded', t.succeeded, 'failed', t.failed, 'dead', t.dead,
            'cancelled', t.cancelled, 'waited', t.waited, 'ran', t.ran, 'waits', t.waits, 'runs', t.runs)), '[]')
        FROM (SELECT m.* FROM holdfast.job_stats m WHERE m.minute = 'infinity' ORDER BY m.last_at DESC LIMIT 200) t));
END
$function$;

-- Running jobs that somebody must take back now, for health checks, by reason; counted to 1,000.
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
              GROUP BY f.reason) s));
END
$function$;

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

-- Who is still to be told of what, and which incidents are open, for health checks. Notifications are counted to 1,000; the 20
-- oldest incidents.
CREATE OR REPLACE FUNCTION holdfast.health_told()
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
    RETURN jsonb_build_object(
        'notifications', (
            SELECT jsonb_build_object(
                'waiting', count(*), 'failing', count(*) FILTER (WHERE n.error IS NOT NULL),
                'oldest', coalesce(extract(epoch FROM _now - min(n.created_at)), 0),
                'last_error', (SELECT e.error FROM holdfast.notifications e
                               WHERE e.delivered_at IS NULL AND e.error IS NOT NULL ORDER BY e.due_at DESC LIMIT 1))
            FROM (SELECT w.created_at, w.error FROM holdfast.notifications w WHERE w.delivered_at IS NULL LIMIT 1000) n),
        'incidents', (
            SELECT coalesce(jsonb_agg(jsonb_build_object(
                'kind', i.kind, 'title', i.title, 'open_for', extract(epoch FROM _now - i.opened_at)) ORDER BY i.opened_at), '[]')
            FROM (SELECT i.kind, i.title, i.opened_at FROM holdfast.incidents i WHERE i.status = 'open'
                  ORDER BY i.opened_at LIMIT 20) i));
END
$function$;

-- When each monitor swept last, for health checks, and the ledger's clock that this is measured by.
CREATE OR REPLACE FUNCTION holdfast.health_monitors()
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
    RETURN jsonb_build_object(
        'clock', _now,
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

-- Decisions of the rate limiters of all processes, for metrics: the 1,000 totals that grew last.
CREATE OR REPLACE FUNCTION holdfast.health_limits()
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $function$
BEGIN
    RETURN jsonb_build_object('rate_limits', (
            SELECT coalesce(jsonb_agg(jsonb_build_object(
                'policy', t.policy, 'source', t.source, 'outcome', t.outcome, 'decisions', t.decisions)), '[]')
            FROM (SELECT l.policy, l.source, l.outcome, l.decisions FROM holdfast.rate_limit_totals l
                  ORDER BY l.last_at DESC, l.policy, l.source, l.outcome LIMIT 1000) t));
END
$function$;

-- How the ledger is, in one round trip, for health checks: all of the parts that an instance of the API asks for one by one.
-- What is counted in them is bounded, however many jobs there are.
CREATE OR REPLACE FUNCTION holdfast.health_report(stale_after interval DEFAULT '10 minutes', opts jsonb DEFAULT '{}')
RETURNS jsonb
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT holdfast.health_server() || holdfast.health_workers() || holdfast.health_queues() || holdfast.health_jobs()
        || holdfast.health_stale(stale_after) || holdfast.health_dead() || holdfast.health_told()
        || holdfast.health_monitors() || holdfast.health_limits();
$function$;

SELECT holdfast.expose_functions(ARRAY['note_job_stats', 'prune_bookkeeping', 'health_server', 'health_workers', 'health_queues', 'health_jobs', 'health_stale', 'health_dead', 'health_told', 'health_monitors', 'health_limits', 'health_report']);
NOTIFY pgrst, 'reload schema';

SELECT holdfast.secure_schema();
-- end of migration body
    $migration$;
-- The checksum below covers every byte above this line.
    INSERT INTO holdfast.schema_migrations (version, name, checksum)
    VALUES (13, '013_health', '0ea9c1113dac243a44bd5a01bbefefbbe12ca34b363dccbfd65b2ddd611fc581');
END
$holdfast$;
