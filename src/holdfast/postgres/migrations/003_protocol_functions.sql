-- Holdfast migration 003_protocol_functions
-- To apply it by hand: paste the whole file into a SQL editor and run it, or: psql -f 003_protocol_functions.sql
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
        IF EXISTS (SELECT FROM holdfast.schema_migrations WHERE version = 3) THEN
            RETURN;
        END IF;
    END IF;
    EXECUTE $migration$
-- migration body
-- Write many jobs, exactly once each.
--
-- The caller makes the ids (uuid version 7), so a call that is repeated because its answer was lost inserts
-- nothing twice. ON CONFLICT has no target, since two indexes can object: the id (that same job, already written:
-- `created` is true, for it is the caller's own) and the unique key (somebody else's job, still queued or running:
-- its id comes back with `created` false). A batch is sorted by kind and unique key, so that two batches which
-- meet the same keys wait for each other in one order and cannot deadlock.
--
-- Per job: ids, queues, kinds, args, and optionally the other arrays, padded with NULL. A policy is an object
-- {max_attempts, max_crashes, retry, rescue, timeout, silent_after, limit_max}, times in seconds; opts.policies
-- holds the distinct ones, and `policies` names one for each job by its position from 0 (0 when not given).
-- No `timeout` means one hour; an explicit null means none.
CREATE OR REPLACE FUNCTION holdfast.enqueue_many(
    ids uuid[],
    queues text[],
    kinds text[],
    args jsonb[],
    priorities smallint[] DEFAULT NULL,
    run_ats timestamptz[] DEFAULT NULL,
    delays interval[] DEFAULT NULL,
    unique_keys text[] DEFAULT NULL,
    group_keys text[] DEFAULT NULL,
    limit_keys text[] DEFAULT NULL,
    policies integer[] DEFAULT NULL,
    traceparents text[] DEFAULT NULL,
    opts jsonb DEFAULT '{}'
) RETURNS TABLE (ord integer, id uuid, created boolean)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now      timestamptz := holdfast.clock();
    _count    integer := cardinality(enqueue_many.ids);
    _inserted uuid[];
    _policies integer := greatest(jsonb_array_length(enqueue_many.opts -> 'policies'), 1);
    _bad      text;
BEGIN
    IF _count IS NULL OR _count = 0 THEN
        RETURN;
    END IF;
    IF cardinality(enqueue_many.queues) IS DISTINCT FROM _count
        OR cardinality(enqueue_many.kinds) IS DISTINCT FROM _count
        OR cardinality(enqueue_many.args) IS DISTINCT FROM _count THEN
        RAISE EXCEPTION 'ids, queues, kinds and args must have the same length'
            USING ERRCODE = '22023', HINT = 'Give one element of each for every job.';
    END IF;
    SELECT format('job %s: %s', i.ord, CASE
            WHEN i.id IS NULL THEN 'id is null'
            WHEN i.args IS NULL THEN 'args is null'
            WHEN jsonb_typeof(i.args) <> 'object' THEN 'args must be a JSON object'
            WHEN pg_column_size(i.args) > 262144 AND octet_length(i.args::text) > 2097152 THEN 'args has more than 2 MiB as text'
            WHEN coalesce(i.queue, '') = '' OR length(i.queue) > 200 THEN 'queue must have 1 to 200 characters'
            WHEN coalesce(i.kind, '') = '' OR length(i.kind) > 200 THEN 'kind must have 1 to 200 characters'
            WHEN length(i.unique_key) > 500 OR length(i.group_key) > 500 OR length(i.limit_key) > 500
                THEN 'unique_key, group_key and limit_key must have at most 500 characters'
            -- Drivers read no time beyond these years, in whatever time zone: one such row would break every claim.
            ELSE 'run_at must lie in the years 2 to 9998'
        END)
    INTO _bad
    FROM unnest(enqueue_many.ids, enqueue_many.queues, enqueue_many.kinds, enqueue_many.args,
                enqueue_many.unique_keys, enqueue_many.group_keys, enqueue_many.limit_keys,
                enqueue_many.run_ats, enqueue_many.delays)
        WITH ORDINALITY AS i (id, queue, kind, args, unique_key, group_key, limit_key, run_at, delay, ord)
    WHERE i.ord <= _count
      AND (i.id IS NULL OR i.args IS NULL OR jsonb_typeof(i.args) <> 'object' OR (pg_column_size(i.args) > 262144 AND octet_length(i.args::text) > 2097152)
        OR coalesce(i.queue, '') = '' OR length(i.queue) > 200 OR coalesce(i.kind, '') = '' OR length(i.kind) > 200
        OR length(i.unique_key) > 500 OR length(i.group_key) > 500 OR length(i.limit_key) > 500
        OR coalesce(i.run_at, _now + i.delay) NOT BETWEEN '0002-01-01 00:00+00' AND '9998-12-31 24:00+00')
    LIMIT 1;
    IF _bad IS NULL THEN
        -- A number that no clock can add would make the row unreadable for every claim.
        SELECT format('policy %s: %s is out of range', p, v.key)
        INTO _bad
        FROM jsonb_array_elements(coalesce(enqueue_many.opts -> 'policies', '[]')) AS p
        CROSS JOIN LATERAL jsonb_each(p) AS v
        WHERE jsonb_typeof(v.value) = 'number'
          AND NOT CASE WHEN v.key IN ('timeout', 'silent_after') THEN v.value::numeric > 0 AND v.value::numeric <= 31622400
                       WHEN v.key IN ('max_attempts', 'max_crashes', 'limit_max') THEN v.value::numeric BETWEEN 1 AND 1000000
                       ELSE true END
        LIMIT 1;
    END IF;
    IF _bad IS NULL THEN
        SELECT format('policy number %s is out of range: opts.policies has %s', p, _policies)
        INTO _bad
        FROM unnest(enqueue_many.policies) AS p
        WHERE p NOT BETWEEN 0 AND _policies - 1
        LIMIT 1;
    END IF;
    IF _bad IS NOT NULL THEN
        RAISE EXCEPTION '%', _bad USING ERRCODE = '22023';
    END IF;

    FOR _try IN 1..10 LOOP
        WITH policy AS MATERIALIZED (
            SELECT e.n - 1 AS n,
                   coalesce((e.p ->> 'max_attempts')::integer, 5) AS max_attempts,
                   coalesce((e.p ->> 'max_crashes')::integer, 3) AS max_crashes,
                   e.p -> 'retry' AS retry_policy,
                   coalesce(e.p ->> 'rescue', 'requeue') AS rescue_policy,
                   CASE WHEN e.p ? 'timeout' THEN make_interval(secs => (e.p ->> 'timeout')::double precision)
                        ELSE interval '1 hour' END AS timeout,
                   make_interval(secs => (e.p ->> 'silent_after')::double precision) AS silent_after,
                   (e.p ->> 'limit_max')::integer AS limit_max
            FROM jsonb_array_elements(coalesce(enqueue_many.opts -> 'policies', '[{}]'))
                WITH ORDINALITY AS e (p, n)
        ), written AS (
            INSERT INTO holdfast.jobs (id, queue, kind, args, priority, run_at, group_key, unique_key, limit_key,
                limit_max, max_attempts, max_crashes, retry_policy, rescue_policy, timeout, silent_after,
                traceparent, created_at)
            SELECT i.id, i.queue, i.kind, i.args, coalesce(i.priority, 0),
                   coalesce(i.run_at, _now + greatest(i.delay, interval '0'), _now),
                   i.group_key, i.unique_key, i.limit_key,
                   CASE WHEN i.limit_key IS NOT NULL THEN coalesce(p.limit_max, 1) END,
                   p.max_attempts, p.max_crashes, p.retry_policy, p.rescue_policy, p.timeout, p.silent_after,
                   i.traceparent, _now
            FROM unnest(enqueue_many.ids, enqueue_many.queues, enqueue_many.kinds, enqueue_many.args,
                        enqueue_many.priorities, enqueue_many.run_ats, enqueue_many.delays,
                        enqueue_many.unique_keys, enqueue_many.group_keys, enqueue_many.limit_keys,
                        enqueue_many.policies, enqueue_many.traceparents)
                WITH ORDINALITY AS i (id, queue, kind, args, priority, run_at, delay, unique_key, group_key,
                    limit_key, policy, traceparent, ord)
            JOIN policy p ON p.n = coalesce(i.policy, 0)
            WHERE i.ord <= _count
            ORDER BY i.kind, i.unique_key, i.id
            ON CONFLICT DO NOTHING
            RETURNING id
        )
        SELECT array_agg(w.id) INTO _inserted FROM written w;

        IF cardinality(_inserted) = _count THEN
            RETURN QUERY
            SELECT i.ord::integer, i.id, true
            FROM unnest(enqueue_many.ids) WITH ORDINALITY AS i (id, ord);
            RETURN;
        END IF;

        -- Some were there already. A unique key that has become free in between goes round once more.
        RETURN QUERY
        SELECT i.ord::integer, coalesce(same.id, other.id), same.id IS NOT NULL
        FROM unnest(enqueue_many.ids, enqueue_many.kinds, enqueue_many.unique_keys)
            WITH ORDINALITY AS i (id, kind, unique_key, ord)
        LEFT JOIN holdfast.jobs same ON same.id = i.id
        LEFT JOIN holdfast.jobs other ON same.id IS NULL AND other.kind = i.kind
            AND other.unique_key = i.unique_key AND other.status IN ('queued', 'running')
        WHERE i.ord <= _count AND coalesce(same.id, other.id) IS NOT NULL
          AND NOT EXISTS (
            SELECT FROM unnest(enqueue_many.ids, enqueue_many.kinds, enqueue_many.unique_keys)
                WITH ORDINALITY AS r (id, kind, unique_key, ord)
            LEFT JOIN holdfast.jobs s ON s.id = r.id
            LEFT JOIN holdfast.jobs o ON s.id IS NULL AND o.kind = r.kind
                AND o.unique_key = r.unique_key AND o.status IN ('queued', 'running')
            WHERE r.ord <= _count AND s.id IS NULL AND o.id IS NULL);
        IF FOUND THEN
            RETURN;
        END IF;
    END LOOP;
    RAISE EXCEPTION 'jobs could not be written: their unique keys change hands too quickly'
        USING ERRCODE = '40001', HINT = 'Try again.';
END
$function$;

-- Write many jobs that are due now, have no keys, and share one policy: enqueue_many at two thirds of the time.
-- jobs: an array of {id, queue, kind, args}; expected: how many they are; policy: see enqueue_many.
--
-- The jobs are read once and written as they are read: then one row comes back, without an id, for all of them. Whatever
-- is not quite like that, or was written already, sends all of them the way of many, which knows every rule and says what
-- is wrong; then each has a row with its place, `ord`. All come back as created: without keys, what has the caller's id is
-- his.
CREATE OR REPLACE FUNCTION holdfast.enqueue_plain(
    jobs json, expected integer, policy jsonb DEFAULT '{}'
) RETURNS TABLE (ord integer, id uuid, created boolean)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now      timestamptz := holdfast.clock();
    _timeout  double precision := CASE WHEN policy ? 'timeout' THEN (policy ->> 'timeout')::double precision ELSE 3600 END;
    _attempts numeric := coalesce((policy ->> 'max_attempts')::numeric, 5);
    _crashes  numeric := coalesce((policy ->> 'max_crashes')::numeric, 3);
    _written  bigint;
BEGIN
    IF json_array_length(jobs) = expected AND policy - ARRAY['timeout', 'max_attempts', 'max_crashes', 'retry'] = '{}'
        AND (_timeout IS NULL OR (_timeout > 0 AND _timeout <= 31622400))
        AND _attempts BETWEEN 1 AND 1000000 AND _crashes BETWEEN 1 AND 1000000 AND scale(_attempts) + scale(_crashes) = 0 THEN
        INSERT INTO holdfast.jobs (id, queue, kind, args, run_at, max_attempts, max_crashes, retry_policy, timeout,
            created_at)
        SELECT j.id, j.queue, j.kind, j.args, _now, _attempts, _crashes, policy -> 'retry',
               make_interval(secs => _timeout), _now
        FROM json_to_recordset(enqueue_plain.jobs) AS j (id uuid, queue text, kind text, args jsonb)
        WHERE j.id IS NOT NULL AND length(j.queue) BETWEEN 1 AND 200 AND length(j.kind) BETWEEN 1 AND 200
          AND jsonb_typeof(j.args) = 'object' AND pg_column_size(j.args) <= 262144
        ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS _written = ROW_COUNT;
    END IF;
    IF _written = expected THEN
        ord := 1;
        created := true;
        RETURN NEXT;
        RETURN;
    END IF;
    RETURN QUERY
    SELECT e.ord, e.id, e.created
    FROM (
        SELECT array_agg(j.id) AS ids, array_agg(j.queue) AS queues, array_agg(j.kind) AS kinds,
               array_agg(j.args) AS args
        FROM json_to_recordset(enqueue_plain.jobs) AS j (id uuid, queue text, kind text, args jsonb)
    ) AS a
    CROSS JOIN LATERAL holdfast.enqueue_many(
        a.ids, a.queues, a.kinds, a.args,
        opts => jsonb_build_object('policies', jsonb_build_array(enqueue_plain.policy))) AS e;
END
$function$;

-- Write one job: the short form of enqueue_many, for callers in any language.
-- opts: {priority, run_at, delay (seconds), unique_key, group_key, limit_key, traceparent} and the fields of a
-- policy (see enqueue_many).
--
-- A plain job, due now, without keys, is written at once: a third of the time. Whatever needs a closer look, or was
-- written already, goes the way of many.
CREATE OR REPLACE FUNCTION holdfast.enqueue(
    id uuid, queue text, kind text, args jsonb, opts jsonb DEFAULT '{}'
) RETURNS TABLE (job_id uuid, created boolean)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now      timestamptz;
    _timeout  double precision := CASE WHEN opts ? 'timeout' THEN (opts ->> 'timeout')::double precision ELSE 3600 END;
    _attempts numeric := coalesce((opts ->> 'max_attempts')::numeric, 5);
    _crashes  numeric := coalesce((opts ->> 'max_crashes')::numeric, 3);
BEGIN
    IF opts - ARRAY['timeout', 'max_attempts', 'max_crashes', 'retry', 'traceparent'] = '{}'
        AND (_timeout IS NULL OR (_timeout > 0 AND _timeout <= 31622400))
        AND _attempts BETWEEN 1 AND 1000000 AND _crashes BETWEEN 1 AND 1000000 AND scale(_attempts) + scale(_crashes) = 0
        AND id IS NOT NULL AND length(queue) BETWEEN 1 AND 200 AND length(kind) BETWEEN 1 AND 200
        AND jsonb_typeof(args) = 'object' AND pg_column_size(args) <= 262144 THEN
        _now := holdfast.clock();
        INSERT INTO holdfast.jobs (id, queue, kind, args, run_at, max_attempts, max_crashes, retry_policy, timeout,
            traceparent, created_at)
        VALUES (enqueue.id, enqueue.queue, enqueue.kind, enqueue.args, _now, _attempts, _crashes, opts -> 'retry',
                make_interval(secs => _timeout), opts ->> 'traceparent', _now)
        ON CONFLICT DO NOTHING;
        IF FOUND THEN
            job_id := enqueue.id;
            created := true;
            RETURN NEXT;
            RETURN;
        END IF;
    END IF;
    RETURN QUERY
    SELECT e.id, e.created
    FROM holdfast.enqueue_many(
        ARRAY[enqueue.id], ARRAY[enqueue.queue], ARRAY[enqueue.kind], ARRAY[enqueue.args],
        ARRAY[(enqueue.opts ->> 'priority')::smallint],
        ARRAY[(enqueue.opts ->> 'run_at')::timestamptz],
        ARRAY[make_interval(secs => (enqueue.opts ->> 'delay')::double precision)],
        ARRAY[enqueue.opts ->> 'unique_key'],
        ARRAY[enqueue.opts ->> 'group_key'],
        ARRAY[enqueue.opts ->> 'limit_key'],
        NULL,
        ARRAY[enqueue.opts ->> 'traceparent'],
        jsonb_build_object('policies', jsonb_build_array(enqueue.opts))
    ) AS e;
END
$function$;

-- A worker process presents itself, under an id that is new at each start.
-- False: that id was declared gone before. Gone is final, so the caller needs a new id.
-- opts: {supervisor_id, host, pid, parent_pid, version, queues, kinds, slots, quarantine, lost_after (seconds)}.
CREATE OR REPLACE FUNCTION holdfast.register_worker(worker_id uuid, opts jsonb DEFAULT '{}') RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _now    timestamptz := holdfast.clock();
    _queues text[] := ARRAY(SELECT jsonb_array_elements_text(coalesce(opts -> 'queues', '["default"]')) ORDER BY 1);
BEGIN
    INSERT INTO holdfast.workers (id, supervisor_id, host, pid, parent_pid, version, queues, kinds, slots, quarantine,
        lost_after, started_at, seen_at)
    VALUES (
        worker_id,
        (opts ->> 'supervisor_id')::uuid,
        coalesce(opts ->> 'host', ''),
        coalesce((opts ->> 'pid')::integer, 0),
        coalesce((opts ->> 'parent_pid')::integer, 0),
        coalesce(opts ->> 'version', ''),
        _queues,
        ARRAY(SELECT jsonb_array_elements_text(coalesce(opts -> 'kinds', '[]')) ORDER BY 1),
        coalesce((opts ->> 'slots')::integer, 1),
        coalesce((opts ->> 'quarantine')::boolean, false),
        make_interval(secs => coalesce((opts ->> 'lost_after')::double precision, 25)),
        _now, _now)
    ON CONFLICT (id) DO NOTHING;
    INSERT INTO holdfast.queues (name, created_at)
    SELECT q, _now FROM unnest(_queues) AS q
    ON CONFLICT (name) DO NOTHING;
    RETURN EXISTS (SELECT FROM holdfast.workers w WHERE w.id = worker_id AND w.gone_at IS NULL);
END
$function$;

-- The worker's sign of life: one update of its own row, which no job's lock can block.
-- False: this worker was declared gone (or never registered). That is final: exit, and start with a new id.
-- opts: {loop_lag (seconds), running, draining}.
CREATE OR REPLACE FUNCTION holdfast.beat(worker_id uuid, opts jsonb DEFAULT '{}') RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $function$
BEGIN
    UPDATE holdfast.workers AS w
    SET seen_at = (SELECT holdfast.clock()),
        loop_lag = make_interval(secs => (opts ->> 'loop_lag')::double precision),
        running = coalesce((opts ->> 'running')::integer, w.running),
        draining = coalesce((opts ->> 'draining')::boolean, w.draining)
    WHERE w.id = beat.worker_id AND w.gone_at IS NULL;
    RETURN FOUND;
END
$function$;

-- The reading half of a beat: what a worker must know about the leases it holds, and about those it does not
-- know it holds. It locks nothing and changes nothing.
--   lost     the caller named this (id, lease), and it is no longer its own: stop the handler, write nothing
--   cancel   somebody asked for this job to be cancelled
--   unknown  the row says that this worker runs it, the worker does not know it: the answer of a claim was lost
--            (only when claimed longer ago than `unknown_after`: a younger answer may still be under way)
-- A lease with a settle under way must not be named: that settle's own answer decides.
CREATE OR REPLACE FUNCTION holdfast.check_leases(
    worker_id uuid, ids uuid[], leases bigint[], unknown_after interval DEFAULT '15 seconds'
) RETURNS TABLE (id uuid, lease bigint, verdict text)
LANGUAGE plpgsql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_mergejoin = off
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH known AS MATERIALIZED (
        SELECT k.id, k.lease FROM unnest(check_leases.ids, check_leases.leases) AS k (id, lease)
    ), mine AS MATERIALIZED (
        SELECT j.id, j.lease, j.claimed_at, j.cancel_requested_at
        FROM holdfast.jobs j
        WHERE j.worker_id = check_leases.worker_id AND j.status = 'running'
    )
    SELECT k.id, k.lease, 'lost'
    FROM known k
    WHERE NOT EXISTS (SELECT FROM mine m WHERE m.id = k.id AND m.lease = k.lease)
    UNION ALL
    SELECT m.id, m.lease, 'cancel'
    FROM mine m
    WHERE m.cancel_requested_at IS NOT NULL AND EXISTS (SELECT FROM known k WHERE k.id = m.id AND k.lease = m.lease)
    UNION ALL
    SELECT m.id, m.lease, 'unknown'
    FROM mine m
    WHERE m.claimed_at < (SELECT holdfast.clock()) - check_leases.unknown_after
      AND NOT EXISTS (SELECT FROM known k WHERE k.id = m.id AND k.lease = m.lease);
END
$function$;

-- Which jobs a claim should try, in the ledger's order (priority, run_at, id). Reads only, locks nothing.
--
-- The index is (queue, kind, lane, priority, run_at, id). For each lane we walk from one priority that has jobs to
-- the next (a loose index scan: one probe each), and read no more than `wanted` due rows of each. So the cost
-- depends neither on jobs of kinds that this worker does not know, nor on jobs scheduled for later, nor on how
-- many jobs a busy group has queued: none of them is read.
--
-- The floor (priority, run_at, id) is what the worker claimed last. Starting behind it spares the dead index
-- entries of jobs that have left the queue, which nobody can remove while an old snapshot is held open somewhere.
-- Within the floor's own priority it is compared as (run_at, id): beside an equality on priority, a comparison that
-- begins with priority would not be where the scan starts, and it would walk over all of them (no run_at is -infinity,
-- so that floor_id is without effect in the other priorities). It applies to the plain lane only. Without a floor the claim starts at the front: the worker does that about
-- each second, so that urgent newcomers and rescued jobs are seen.
--
-- Groups and limits: at most 1,000 lanes of each queue and kind are looked at. Where there are more, the walk starts at a
-- random lane (`dice`, 0 to 1), so that no lane starves behind a thousand busy ones. Lanes that are busy now are
-- left out here; claim_admit decides under a lock. Suspects share one lane, whatever their group or limit: those that are
-- busy now are passed over row by row.
CREATE OR REPLACE FUNCTION holdfast.claim_candidates(
    queues text[], kinds text[], wanted integer, suspects boolean, due_at timestamptz,
    floor_priority smallint, floor_run_at timestamptz, floor_id uuid, dice double precision
) RETURNS TABLE (id uuid, priority smallint, run_at timestamptz, laned boolean)
LANGUAGE plpgsql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_sort = off
SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    _max_lanes CONSTANT integer := 1000;
    _plain     text := CASE WHEN suspects THEN '!' ELSE '' END;
    _from      text := '!';
    _laned     boolean;
BEGIN
    SELECT EXISTS (
        SELECT FROM unnest(claim_candidates.queues) AS q (name)
        CROSS JOIN unnest(claim_candidates.kinds) AS k (name)
        CROSS JOIN LATERAL (
            SELECT FROM holdfast.jobs j
            WHERE j.status = 'queued' AND j.queue = q.name AND j.kind = k.name AND j.lane > '!'
            LIMIT 1) probe
    ) AND NOT suspects INTO _laned;

    IF NOT _laned THEN
        RETURN QUERY
        WITH RECURSIVE streams AS (
            SELECT h.queue, h.kind, h.priority, h.run_at,
                   CASE WHEN h.priority = floor_priority THEN floor_run_at ELSE '-infinity' END AS from_run_at
            FROM unnest(claim_candidates.queues) AS q (name)
            CROSS JOIN unnest(claim_candidates.kinds) AS k (name)
            CROSS JOIN LATERAL (
                SELECT j.queue, j.kind, j.priority, j.run_at
                FROM holdfast.jobs j
                WHERE j.status = 'queued' AND j.queue = q.name AND j.kind = k.name AND j.lane = _plain
                  AND (j.priority, j.run_at, j.id) > (floor_priority, floor_run_at, floor_id)
                ORDER BY j.priority, j.run_at, j.id
                LIMIT 1) h
            UNION ALL
            SELECT n.queue, n.kind, n.priority, n.run_at, '-infinity'
            FROM streams s
            CROSS JOIN LATERAL (
                SELECT j.queue, j.kind, j.priority, j.run_at
                FROM holdfast.jobs j
                WHERE j.status = 'queued' AND j.queue = s.queue AND j.kind = s.kind AND j.lane = _plain
                  AND j.priority > s.priority
                ORDER BY j.priority, j.run_at, j.id
                LIMIT 1) n
        ), busy AS MATERIALIZED (
            SELECT r.limit_key, count(*) AS running
            FROM holdfast.jobs r
            WHERE r.status = 'running' AND r.limit_key IS NOT NULL
            GROUP BY r.limit_key
        )
        SELECT c.id, c.priority, c.run_at, c.limited
        FROM streams s
        CROSS JOIN LATERAL (
            SELECT j.id, j.priority, j.run_at, (j.group_key IS NOT NULL OR j.limit_key IS NOT NULL) AS limited
            FROM holdfast.jobs j
            WHERE j.status = 'queued' AND j.queue = s.queue AND j.kind = s.kind AND j.lane = _plain
              AND j.priority = s.priority AND j.run_at <= due_at
              AND (j.run_at, j.id) > (s.from_run_at, floor_id)
              AND (j.group_key IS NULL OR NOT EXISTS (
                SELECT FROM holdfast.jobs r
                WHERE r.status = 'running' AND r.queue = j.queue AND r.group_key = j.group_key))
              AND (j.limit_key IS NULL OR j.limit_max > coalesce(
                (SELECT b.running FROM busy b WHERE b.limit_key = j.limit_key), 0))
            ORDER BY j.run_at, j.id
            LIMIT wanted) c
        WHERE s.run_at <= due_at
        ORDER BY c.priority, c.run_at, c.id
        LIMIT wanted;
        RETURN;
    END IF;

    -- More lanes than we look at? Then begin at a random one.
    IF (SELECT count(*) FROM (
            WITH RECURSIVE lanes AS (
                SELECT h.queue, h.kind, h.lane
                FROM unnest(claim_candidates.queues) AS q (name)
                CROSS JOIN unnest(claim_candidates.kinds) AS k (name)
                CROSS JOIN LATERAL (
                    SELECT j.queue, j.kind, j.lane FROM holdfast.jobs j
                    WHERE j.status = 'queued' AND j.queue = q.name AND j.kind = k.name AND j.lane > '!'
                    ORDER BY j.lane LIMIT 1) h
                UNION ALL
                SELECT n.queue, n.kind, n.lane
                FROM lanes s
                CROSS JOIN LATERAL (
                    SELECT j.queue, j.kind, j.lane FROM holdfast.jobs j
                    WHERE j.status = 'queued' AND j.queue = s.queue AND j.kind = s.kind AND j.lane > s.lane
                    ORDER BY j.lane LIMIT 1) n)
            SELECT FROM lanes LIMIT _max_lanes) bounded) = _max_lanes THEN
        _from := CASE WHEN dice < 0.5 THEN 'g' ELSE 'l' END
            || substr('0123456789abcdef', 1 + (floor(dice * 32))::integer % 16, 1)
            || lpad(to_hex((floor(dice * 32 * 65536))::bigint % 65536), 4, '0');
    END IF;

    RETURN QUERY
    WITH RECURSIVE plain_streams AS (
        SELECT h.queue, h.kind, h.priority, h.run_at,
               CASE WHEN h.priority = floor_priority THEN floor_run_at ELSE '-infinity' END AS from_run_at
        FROM unnest(claim_candidates.queues) AS q (name)
        CROSS JOIN unnest(claim_candidates.kinds) AS k (name)
        CROSS JOIN LATERAL (
            SELECT j.queue, j.kind, j.priority, j.run_at
            FROM holdfast.jobs j
            WHERE j.status = 'queued' AND j.queue = q.name AND j.kind = k.name AND j.lane = _plain
              AND (j.priority, j.run_at, j.id) > (floor_priority, floor_run_at, floor_id)
            ORDER BY j.priority, j.run_at, j.id
            LIMIT 1) h
        UNION ALL
        SELECT n.queue, n.kind, n.priority, n.run_at, '-infinity'
        FROM plain_streams s
        CROSS JOIN LATERAL (
            SELECT j.queue, j.kind, j.priority, j.run_at
            FROM holdfast.jobs j
            WHERE j.status = 'queued' AND j.queue = s.queue AND j.kind = s.kind AND j.lane = _plain
              AND j.priority > s.priority
            ORDER BY j.priority, j.run_at, j.id
            LIMIT 1) n
    ), lane_streams AS (
        SELECT h.queue, h.kind, h.lane, h.priority, h.run_at
        FROM unnest(claim_candidates.queues) AS q (name)
        CROSS JOIN unnest(claim_candidates.kinds) AS k (name)
        CROSS JOIN unnest(ARRAY[_from, CASE WHEN _from > '!' THEN '!' END]) AS f (lane)
        CROSS JOIN LATERAL (
            SELECT j.queue, j.kind, j.lane, j.priority, j.run_at
            FROM holdfast.jobs j
            WHERE j.status = 'queued' AND j.queue = q.name AND j.kind = k.name AND j.lane > f.lane
            ORDER BY j.lane, j.priority, j.run_at, j.id
            LIMIT 1) h
        UNION ALL
        SELECT n.queue, n.kind, n.lane, n.priority, n.run_at
        FROM lane_streams s
        CROSS JOIN LATERAL (
            SELECT j.queue, j.kind, j.lane, j.priority, j.run_at
            FROM holdfast.jobs j
            WHERE j.status = 'queued' AND j.queue = s.queue AND j.kind = s.kind
              AND (j.lane, j.priority) > (s.lane, s.priority)
            ORDER BY j.lane, j.priority, j.run_at, j.id
            LIMIT 1) n
    ), lanes AS MATERIALIZED (
        SELECT DISTINCT b.queue, b.kind, b.lane, b.priority
        FROM (SELECT * FROM lane_streams LIMIT 2 * _max_lanes) b
        WHERE b.run_at <= due_at
    ), busy AS MATERIALIZED (
        SELECT r.limit_key, count(*) AS running
        FROM holdfast.jobs r
        WHERE r.status = 'running' AND r.limit_key IS NOT NULL
        GROUP BY r.limit_key
    ), every AS (
        SELECT c.id, c.priority, c.run_at, false AS laned
        FROM plain_streams s
        CROSS JOIN LATERAL (
            SELECT j.id, j.priority, j.run_at
            FROM holdfast.jobs j
            WHERE j.status = 'queued' AND j.queue = s.queue AND j.kind = s.kind AND j.lane = _plain
              AND j.priority = s.priority AND j.run_at <= due_at
              AND (j.run_at, j.id) > (s.from_run_at, floor_id)
            ORDER BY j.run_at, j.id
            LIMIT wanted) c
        WHERE s.run_at <= due_at
        UNION ALL
        SELECT c.id, c.priority, c.run_at, true
        FROM lanes s
        CROSS JOIN LATERAL (
            SELECT j.id, j.priority, j.run_at, j.queue, j.group_key, j.limit_key, j.limit_max
            FROM holdfast.jobs j
            WHERE j.status = 'queued' AND j.queue = s.queue AND j.kind = s.kind AND j.lane = s.lane
              AND j.priority = s.priority AND j.run_at <= due_at
            ORDER BY j.run_at, j.id
            LIMIT CASE WHEN s.lane >= 'l' THEN wanted ELSE 1 END) c
        WHERE (c.limit_key IS NULL OR c.limit_max > coalesce(
            (SELECT b.running FROM busy b WHERE b.limit_key = c.limit_key), 0))
          AND (c.group_key IS NULL OR NOT EXISTS (
            SELECT FROM holdfast.jobs r
            WHERE r.status = 'running' AND r.queue = c.queue AND r.group_key = c.group_key))
    )
    SELECT e.id, e.priority, e.run_at, e.laned
    FROM every e
    ORDER BY e.priority, e.run_at, e.id
    LIMIT wanted;
END
$function$;

-- Which of these candidates may run now, where groups, concurrency limits or a limit of the queue are concerned.
--
-- A count that was read before somebody else's commit is worth nothing, so: first one try-lock on each group,
-- limit and limited queue (whoever holds it is claiming there at this moment: leave those jobs to them), then a
-- count in a fresh statement, which sees all that the last holder committed. The locks end with the claim's
-- transaction. The unique index jobs_group_running is the guard behind this.
CREATE OR REPLACE FUNCTION holdfast.claim_admit(ids uuid[]) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    _key    text;
    _locked text[] := '{}';
    _result uuid[];
BEGIN
    FOR _key IN
        SELECT DISTINCT k.key
        FROM holdfast.jobs j
        LEFT JOIN holdfast.queues q ON q.name = j.queue
        CROSS JOIN LATERAL (VALUES
            ('group:' || j.queue || ':' || j.group_key),
            ('limit:' || j.limit_key),
            (CASE WHEN q.limits ? 'running' THEN 'queue:' || j.queue END)) AS k (key)
        WHERE j.id = ANY (claim_admit.ids) AND k.key IS NOT NULL
    LOOP
        IF pg_try_advisory_xact_lock(hashtextextended('holdfast.' || _key, 0)) THEN
            _locked := _locked || _key;
        END IF;
    END LOOP;

    WITH candidate AS MATERIALIZED (
        SELECT j.id, j.queue, j.group_key, j.limit_key, j.limit_max,
               (q.limits ->> 'running')::integer AS queue_max,
               row_number() OVER (PARTITION BY j.queue, j.group_key ORDER BY j.priority, j.run_at, j.id) AS group_place,
               row_number() OVER (PARTITION BY j.limit_key ORDER BY j.priority, j.run_at, j.id) AS limit_place,
               row_number() OVER (PARTITION BY j.queue ORDER BY j.priority, j.run_at, j.id) AS queue_place
        FROM holdfast.jobs j
        LEFT JOIN holdfast.queues q ON q.name = j.queue
        WHERE j.id = ANY (claim_admit.ids) AND j.status IS NOT DISTINCT FROM 'queued'
          AND (j.group_key IS NULL OR 'group:' || j.queue || ':' || j.group_key = ANY (_locked))
          AND (j.limit_key IS NULL OR 'limit:' || j.limit_key = ANY (_locked))
          AND (NOT coalesce(q.limits ? 'running', false) OR 'queue:' || j.queue = ANY (_locked))
    ), running AS MATERIALIZED (
        SELECT r.queue, r.group_key, r.limit_key FROM holdfast.jobs r WHERE r.status = 'running'
    )
    SELECT array_agg(c.id)
    INTO _result
    FROM candidate c
    WHERE (c.group_key IS NULL OR (c.group_place = 1 AND NOT EXISTS (
            SELECT FROM running r WHERE r.queue = c.queue AND r.group_key = c.group_key)))
      AND (c.limit_key IS NULL
           OR c.limit_place + (SELECT count(*) FROM running r WHERE r.limit_key = c.limit_key) <= c.limit_max)
      AND (c.queue_max IS NULL
           OR c.queue_place + (SELECT count(*) FROM running r WHERE r.queue = c.queue) <= c.queue_max);
    RETURN coalesce(_result, '{}');
END
$function$;

-- Take up to max_jobs due jobs for this worker, each under a new lease. The only way a job begins to run.
--
-- 1. Before the first job is taken, the worker's own row is locked FOR KEY SHARE and must not be gone. mark_workers_gone
--    takes FOR UPDATE on it, so it waits for a claim under way and sees its rows; a claim that comes later finds the
--    worker gone. (A plain UPDATE of that row would pass a KEY SHARE lock: the gap through which a job could stay with a
--    gone worker.) A claim that finds no job only reads that row: a lock is a write, which costs a flush of the log.
-- 2. Candidates are read in order, then locked with SKIP LOCKED and checked again. Where another claim was quicker we
--    go on behind the last candidate, so that two workers at the head of one queue do not starve each other.
-- 3. A claim never waits for a job's lock.
-- 4. The rows are looked up by their ids. The predicate on status is written so that the index of the claim order cannot
--    be used for that: a plan cached on an empty table walked all of it (1,700 pages a claim at 200,000 jobs).
--
-- `suspect = j.suspect` changes nothing, and spares a fifth of the time: where an UPDATE touches no column that a stored
-- generated one (lane) depends on, Postgres reads its expression anew for every row.
--
-- A quarantine worker gets suspects only, and one at a time, since only a crash while alone counts against a job. A
-- queue at its limit is left out whole, so that its jobs do not stand before those of other queues.
--
-- opts: {floor: {priority, run_at, id}, dice}.
-- Raises HF001 when the worker is gone or unknown.
CREATE OR REPLACE FUNCTION holdfast.claim(
    worker_id uuid, queues text[], kinds text[], max_jobs integer, opts jsonb DEFAULT '{}'
) RETURNS TABLE (
    id uuid, lease bigint, queue text, kind text, args jsonb, priority smallint, run_at timestamptz,
    group_key text, limit_key text, attempts integer, max_attempts integer, crashes integer, suspect boolean,
    retry_policy jsonb, timeout interval, silent_after interval, deadline_at timestamptz, progress jsonb,
    traceparent text, created_at timestamptz, claimed_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    _now        timestamptz;
    _quarantine boolean;
    _lives      boolean;
    _open       text[];
    _limited    boolean;
    _wanted     integer := coalesce(max_jobs, 0);
    _floor_p    smallint := coalesce((opts #>> '{floor,priority}')::smallint, -32768);
    _floor_r    timestamptz := coalesce((opts #>> '{floor,run_at}')::timestamptz, '-infinity');
    _floor_i    uuid := coalesce((opts #>> '{floor,id}')::uuid, '00000000-0000-0000-0000-000000000000');
    _ids        uuid[];
    _seen       integer;
    _laned      boolean;
    _got        integer;
BEGIN
    SELECT w.quarantine, w.gone_at IS NULL INTO _quarantine, _lives FROM holdfast.workers w WHERE w.id = claim.worker_id;
    _now := holdfast.clock();
    IF _quarantine THEN
        _wanted := least(_wanted, 1 - (SELECT count(*)::integer FROM holdfast.jobs j
                                       WHERE j.worker_id = claim.worker_id AND j.status = 'running'));
    END IF;

    SELECT array_agg(n.name ORDER BY n.name), coalesce(bool_or(q.limits ? 'running'), false)
    INTO _open, _limited
    FROM unnest(claim.queues) AS n (name)
    LEFT JOIN holdfast.queues q ON q.name = n.name
    WHERE NOT coalesce(q.paused, false)
      AND (q.limits -> 'running' IS NULL OR (q.limits ->> 'running')::integer > (
        SELECT count(*) FROM holdfast.jobs r WHERE r.status = 'running' AND r.queue = q.name));

    FOR _round IN 1..8 LOOP
        EXIT WHEN _open IS NULL OR _wanted <= 0 OR _lives IS NOT TRUE;
        SELECT array_agg(c.id), count(*), bool_or(c.laned)
        INTO _ids, _seen, _laned
        FROM holdfast.claim_candidates(_open, claim.kinds, _wanted, _quarantine, _now, _floor_p, _floor_r, _floor_i,
                                       coalesce((opts ->> 'dice')::double precision, random())) c;
        EXIT WHEN _seen = 0;
        IF _round = 1 THEN
            SELECT true INTO _lives
            FROM holdfast.workers w
            WHERE w.id = claim.worker_id AND w.gone_at IS NULL
            FOR KEY SHARE;
            EXIT WHEN NOT FOUND;
        END IF;
        IF _round < 8 AND _seen = _wanted THEN
            SELECT j.priority, j.run_at, j.id INTO _floor_p, _floor_r, _floor_i
            FROM holdfast.jobs j WHERE j.id = _ids[_seen];
        END IF;
        IF _laned OR _limited THEN
            _ids := holdfast.claim_admit(_ids);
        END IF;

        RETURN QUERY
        UPDATE holdfast.jobs AS j
        SET status = 'running',
            lease = j.lease + 1,
            worker_id = claim.worker_id,
            claimed_at = _now,
            heartbeat_at = _now,
            deadline_at = _now + j.timeout + interval '30 seconds',
            settled_as = NULL,
            suspect = j.suspect
        WHERE j.id = ANY (ARRAY(
            SELECT f.id FROM holdfast.jobs f
            WHERE f.id = ANY (_ids) AND f.status IS NOT DISTINCT FROM 'queued' AND f.run_at <= _now
              AND f.suspect = _quarantine
            FOR UPDATE SKIP LOCKED))
        RETURNING j.id, j.lease, j.queue, j.kind, j.args, j.priority, j.run_at, j.group_key, j.limit_key, j.attempts,
            j.max_attempts, j.crashes, j.suspect, j.retry_policy, j.timeout, j.silent_after, j.deadline_at,
            j.progress, j.traceparent, j.created_at, j.claimed_at;
        GET DIAGNOSTICS _got = ROW_COUNT;
        EXIT WHEN _seen < _wanted;
        _wanted := _wanted - _got;
    END LOOP;
    IF _lives IS NOT TRUE THEN
        RAISE EXCEPTION 'worker % is gone, or was never registered', claim.worker_id
            USING ERRCODE = 'HF001', HINT = 'This is final: end the process and start a new one, which has a new id.';
    END IF;

    UPDATE holdfast.queues AS q
    SET claimed_at = _now
    WHERE q.name = ANY (ARRAY(
        SELECT l.name FROM holdfast.queues l
        WHERE l.name = ANY (claim.queues) AND NOT l.paused AND (l.claimed_at IS NULL OR l.claimed_at < _now - interval '1 second')
        FOR UPDATE SKIP LOCKED));
END
$function$;

-- A job's own sign of life, and what it has to tell; many in one statement, each under its lease.
-- An element of `progress` that is NULL is a heartbeat alone. A row that somebody holds locked is skipped ('locked'),
-- so that one handler's open transaction never delays the others' heartbeats.
-- Verdict: applied | lost | locked.
CREATE OR REPLACE FUNCTION holdfast.progress(
    worker_id uuid, ids uuid[], leases bigint[], progress jsonb[] DEFAULT NULL
) RETURNS TABLE (id uuid, lease bigint, verdict text)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    _now     timestamptz := holdfast.clock();
    _applied uuid[];
BEGIN
    WITH touched AS (
        UPDATE holdfast.jobs AS j
        SET heartbeat_at = greatest(j.heartbeat_at, _now), progress = coalesce(p.progress, j.progress),
            suspect = j.suspect  -- no change; see claim.sql
        FROM (
            SELECT f.id, n.progress
            FROM (
                SELECT u.id, u.lease, u.progress
                FROM unnest(progress.ids, progress.leases, progress.progress) AS u (id, lease, progress)
                ORDER BY u.id) n
            JOIN holdfast.jobs f ON f.id = n.id AND f.lease = n.lease
            WHERE f.worker_id = progress.worker_id AND f.status IS NOT DISTINCT FROM 'running'
            FOR UPDATE OF f SKIP LOCKED) p
        WHERE j.id = p.id
        RETURNING j.id)
    SELECT coalesce(array_agg(t.id), '{}') INTO _applied FROM touched t;

    RETURN QUERY
    SELECT n.id, n.lease, CASE
        WHEN NOT EXISTS (SELECT FROM holdfast.jobs j WHERE j.id = n.id AND j.lease = n.lease
                         AND j.worker_id = progress.worker_id AND j.status IS NOT DISTINCT FROM 'running') THEN 'lost'
        WHEN n.id = ANY (_applied) THEN 'applied'
        ELSE 'locked' END
    FROM unnest(progress.ids, progress.leases) AS n (id, lease);
END
$function$;

-- The end of runs: one statement for all that finished in a short window, each judged by its own lease.
--
-- outcomes: complete | fail | release | snooze.
--   complete   results[i] is stored                                          -> succeeded
--   fail       errors[i], fingerprints[i]; one attempt. delays[i] until the next; NULL means no further attempt
--                                                                            -> queued, or dead
--   release    given back unharmed (drain, outage): costs nothing            -> queued, in its old place
--   snooze     not now: delays[i] until the next look; costs nothing          -> queued
-- Where a cancel was asked for: complete stays succeeded (it has happened), all others end cancelled.
--
-- Verdict for each row:
--   applied    written now
--   already    the same worker, lease and outcome are on record: an answer was lost, and this is the repetition
--   lost       the lease is no longer the caller's, and nothing was written. A finished run that comes too late
--              leaves an event, so that fenced late writes can be counted.
--   locked     only with opts.skip_locked: somebody else holds the row locked, and it was not waited for. Nothing was
--              written; ask again. Without it one row that a person keeps locked would hold up all others of a batch.
-- One call may name two leases of a job (a late result, and a release of the claim that came back): each gets its own
-- verdict.
-- Lease and worker stay on the row, for `already`. The predicate on status is written so that the partial index
-- on running rows cannot be used: walking it collapses while an old snapshot keeps its dead entries alive.
-- opts: {skip_locked}.
CREATE OR REPLACE FUNCTION holdfast.settle(
    worker_id uuid,
    ids uuid[],
    leases bigint[],
    outcomes text[],
    results jsonb[] DEFAULT NULL,
    errors jsonb[] DEFAULT NULL,
    delays interval[] DEFAULT NULL,
    fingerprints text[] DEFAULT NULL,
    opts jsonb DEFAULT '{}'
) RETURNS TABLE (id uuid, lease bigint, verdict text, status text)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    _now      timestamptz := holdfast.clock();
    _count    integer := cardinality(settle.ids);
    _ids      uuid[];
    _leases   bigint[];
    _outcomes text[];
    _statuses text[];
    _locked   uuid[];
BEGIN
    IF _count IS NULL OR _count = 0 THEN
        RETURN;
    END IF;
    IF cardinality(settle.leases) IS DISTINCT FROM _count OR cardinality(settle.outcomes) IS DISTINCT FROM _count
        OR NOT settle.outcomes <@ ARRAY['complete', 'fail', 'release', 'snooze'] THEN
        RAISE EXCEPTION 'ids, leases and outcomes must have the same length, outcomes be complete, fail, release or snooze'
            USING ERRCODE = '22023';
    END IF;

    IF (opts ->> 'skip_locked')::boolean THEN
        -- What we could lock stays ours until the end, so that the call below waits for nothing.
        WITH free AS MATERIALIZED (
            SELECT j.id FROM holdfast.jobs j WHERE j.id = ANY (settle.ids) ORDER BY j.id FOR UPDATE SKIP LOCKED)
        SELECT array_agg(j.id) INTO _locked
        FROM holdfast.jobs j
        WHERE j.id = ANY (settle.ids) AND NOT EXISTS (SELECT FROM free f WHERE f.id = j.id);
        RETURN QUERY
        SELECT l.id, l.lease, 'locked', j.status
        FROM unnest(settle.ids, settle.leases) AS l (id, lease)
        JOIN holdfast.jobs j ON j.id = l.id
        WHERE l.id = ANY (_locked);
        RETURN QUERY
        SELECT r.*
        FROM (SELECT array_agg(u.id ORDER BY u.place) AS ids, array_agg(u.lease ORDER BY u.place) AS leases,
                     array_agg(u.outcome ORDER BY u.place) AS outcomes, array_agg(u.result ORDER BY u.place) AS results,
                     array_agg(u.error ORDER BY u.place) AS errors, array_agg(u.delay ORDER BY u.place) AS delays,
                     array_agg(u.fingerprint ORDER BY u.place) AS fingerprints
              FROM unnest(settle.ids, settle.leases, settle.outcomes, settle.results, settle.errors, settle.delays,
                          settle.fingerprints) WITH ORDINALITY
                  AS u (id, lease, outcome, result, error, delay, fingerprint, place)
              WHERE u.place <= _count AND NOT u.id = ANY (coalesce(_locked, '{}'))) f
        CROSS JOIN LATERAL holdfast.settle(settle.worker_id, f.ids, f.leases, f.outcomes, f.results, f.errors, f.delays,
                                           f.fingerprints) AS r;
        RETURN;
    END IF;

    WITH settled AS (
        UPDATE holdfast.jobs AS j
        SET status = CASE
                WHEN s.outcome = 'complete' THEN 'succeeded'
                WHEN j.cancel_requested_at IS NOT NULL THEN 'cancelled'
                WHEN s.outcome = 'fail' AND (s.delay IS NULL OR j.attempts + 1 >= j.max_attempts) THEN 'dead'
                ELSE 'queued' END,
            attempts = j.attempts + (s.outcome = 'fail')::integer,
            run_at = CASE
                WHEN s.outcome IN ('fail', 'snooze') AND j.cancel_requested_at IS NULL
                    THEN _now + greatest(coalesce(s.delay, '0'), interval '0')
                ELSE j.run_at END,
            finished_at = CASE
                WHEN s.outcome = 'complete' OR j.cancel_requested_at IS NOT NULL
                    OR (s.outcome = 'fail' AND (s.delay IS NULL OR j.attempts + 1 >= j.max_attempts)) THEN _now END,
            result = CASE WHEN s.outcome = 'complete' THEN s.result ELSE j.result END,
            error = CASE WHEN s.outcome = 'fail' THEN s.error WHEN s.outcome = 'complete' THEN NULL ELSE j.error END,
            fingerprint = CASE WHEN s.outcome = 'fail' THEN s.fingerprint
                               WHEN s.outcome = 'complete' THEN NULL ELSE j.fingerprint END,
            suspect = j.suspect AND s.outcome NOT IN ('complete', 'snooze'),
            shared_crashes = CASE WHEN s.outcome IN ('complete', 'snooze') THEN 0 ELSE j.shared_crashes END,
            deadline_at = NULL,
            settled_as = s.outcome
        FROM (
            SELECT * FROM unnest(settle.ids, settle.leases, settle.outcomes, settle.results, settle.errors,
                                 settle.delays, settle.fingerprints)
                AS u (id, lease, outcome, result, error, delay, fingerprint)
            ORDER BY u.id) s
        WHERE j.id = s.id AND j.lease = s.lease AND j.worker_id = settle.worker_id
          AND j.status IS NOT DISTINCT FROM 'running'
        RETURNING j.id, j.status, j.lease, j.attempts, j.error, j.run_at, j.claimed_at, j.fingerprint, s.outcome
    ), noted AS (
        INSERT INTO holdfast.job_events (job_id, at, event, reason, lease, worker_id, details)
        SELECT t.id, _now, CASE t.outcome WHEN 'fail' THEN 'failure' ELSE 'snooze' END, t.outcome, t.lease,
               settle.worker_id,
               jsonb_strip_nulls(jsonb_build_object('status', t.status, 'attempt', t.attempts, 'fingerprint', t.fingerprint,
                   'claimed_at', t.claimed_at,
                   'error', CASE WHEN t.outcome = 'fail' THEN t.error END,
                   'run_at', CASE WHEN t.status = 'queued' THEN t.run_at END))
        FROM settled t
        WHERE t.outcome IN ('fail', 'snooze')
    )
    SELECT coalesce(array_agg(t.id), '{}'), array_agg(t.lease), array_agg(t.outcome), array_agg(t.status)
    INTO _ids, _leases, _outcomes, _statuses
    FROM settled t;

    RETURN QUERY
    SELECT a.id, a.lease, 'applied', a.status
    FROM unnest(_ids, _leases, _statuses) AS a (id, lease, status);
    IF cardinality(_ids) = _count THEN
        RETURN;
    END IF;

    RETURN QUERY
    WITH rest AS MATERIALIZED (
        SELECT s.id, s.lease, s.outcome, j.id IS NOT NULL AS found, j.status,
               coalesce(j.lease = s.lease AND j.worker_id = settle.worker_id AND j.settled_as = s.outcome, false)
               OR EXISTS (
                   SELECT FROM holdfast.job_events e
                   WHERE e.job_id = s.id AND e.lease = s.lease AND e.worker_id = settle.worker_id
                     AND e.event IN ('failure', 'snooze') AND e.reason = s.outcome) AS repeated
        FROM unnest(settle.ids, settle.leases, settle.outcomes) AS s (id, lease, outcome)
        CROSS JOIN LATERAL (SELECT array_position(_ids, s.id) AS place) a
        LEFT JOIN holdfast.jobs j ON j.id = s.id
        WHERE NOT coalesce(_leases[a.place] = s.lease AND _outcomes[a.place] = s.outcome, false)
    ), fenced AS (
        INSERT INTO holdfast.job_events (job_id, at, event, reason, lease, worker_id, details)
        SELECT r.id, _now, 'fenced_late_write', r.outcome, r.lease, settle.worker_id, jsonb_build_object('status', r.status)
        FROM rest r
        WHERE r.found AND NOT r.repeated AND r.outcome <> 'release'
    )
    SELECT r.id, r.lease, CASE WHEN r.repeated THEN 'already' ELSE 'lost' END, r.status
    FROM rest r;
END
$function$;

-- Ask for jobs to be cancelled. A queued job ends at once; a running one is told through its worker's next beat, and
-- whatever its handler does then decides (complete still counts). Locks in id order.
-- Verdict: cancelled | requested | finished | not_found.
CREATE OR REPLACE FUNCTION holdfast.cancel_jobs(ids uuid[], opts jsonb DEFAULT '{}')
RETURNS TABLE (id uuid, verdict text, status text)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $function$
#variable_conflict use_column
DECLARE
    _now timestamptz := holdfast.clock();
BEGIN
    PERFORM FROM holdfast.jobs j WHERE j.id = ANY (cancel_jobs.ids) ORDER BY j.id FOR UPDATE;
    RETURN QUERY
    WITH asked AS (
        SELECT DISTINCT u.id FROM unnest(cancel_jobs.ids) AS u (id)
    ), changed AS (
        UPDATE holdfast.jobs AS j
        SET status = CASE j.status WHEN 'queued' THEN 'cancelled' ELSE j.status END,
            finished_at = CASE j.status WHEN 'queued' THEN _now END,
            cancel_requested_at = coalesce(j.cancel_requested_at, _now)
        FROM asked a
        WHERE j.id = a.id AND j.status IN ('queued', 'running')
        RETURNING j.id, j.status
    )
    SELECT a.id,
           CASE WHEN c.status = 'cancelled' THEN 'cancelled'
                WHEN c.status IS NOT NULL THEN 'requested'
                WHEN j.id IS NULL THEN 'not_found'
                ELSE 'finished' END,
           coalesce(c.status, j.status)
    FROM asked a
    LEFT JOIN changed c ON c.id = a.id
    LEFT JOIN holdfast.jobs j ON j.id = a.id;
END
$function$;

-- Give ended jobs another life (dead and cancelled ones), and wake queued ones that wait for a later time.
-- All budgets start anew; the lease grows, so that a zombie of an earlier life stays fenced. A job whose unique key
-- another job has taken meanwhile is skipped. Locks in id order.
-- Verdict: queued | unique_taken | running | succeeded | not_found.
CREATE OR REPLACE FUNCTION holdfast.retry_jobs(ids uuid[], opts jsonb DEFAULT '{}')
RETURNS TABLE (id uuid, verdict text, status text)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $function$
#variable_conflict use_column
DECLARE
    _now timestamptz := holdfast.clock();
    _job record;
    _old text;
BEGIN
    FOR _job IN
        SELECT DISTINCT a.id AS asked, j.id, j.status
        FROM unnest(retry_jobs.ids) AS a (id)
        LEFT JOIN holdfast.jobs j ON j.id = a.id
        ORDER BY a.id
    LOOP
        IF _job.id IS NULL THEN
            RETURN QUERY SELECT _job.asked, 'not_found', NULL::text;
            CONTINUE;
        END IF;
        SELECT j.status INTO _old FROM holdfast.jobs j WHERE j.id = _job.id FOR UPDATE;
        IF _old IN ('running', 'succeeded') THEN
            RETURN QUERY SELECT _job.id, _old, _old;
            CONTINUE;
        END IF;
        BEGIN
            UPDATE holdfast.jobs AS j
            SET status = 'queued', lease = j.lease + 1, run_at = least(j.run_at, _now), worker_id = NULL, settled_as = NULL,
                attempts = 0, crashes = 0, shared_crashes = 0, suspect = false, rescues = 0,
                cancel_requested_at = NULL, finished_at = NULL, fingerprint = NULL, progress = NULL
            WHERE j.id = _job.id AND _old IN ('dead', 'cancelled');
            IF FOUND THEN
                INSERT INTO holdfast.job_events (job_id, at, event, reason, lease, details)
                SELECT j.id, _now, 'redrive', coalesce(opts ->> 'reason', 'retry'), j.lease, jsonb_build_object('was', _old)
                FROM holdfast.jobs j WHERE j.id = _job.id;
            ELSE
                UPDATE holdfast.jobs AS j SET run_at = least(j.run_at, _now) WHERE j.id = _job.id;
            END IF;
            RETURN QUERY SELECT _job.id, 'queued', 'queued';
        EXCEPTION WHEN unique_violation THEN
            RETURN QUERY SELECT _job.id, 'unique_taken', _old;
        END;
    END LOOP;
END
$function$;

-- Declare workers gone: final, and the only step through which a job can be taken from a worker for its silence.
--
-- Two uses.
--   worker_ids given   somebody saw these processes end (their supervisor, or the worker itself at a clean stop). No
--                      brake: a death that was seen never waits. `reason`: stopped | crashed | fenced | replaced.
--   worker_ids NULL    the sweep: every worker whose last beat is older than its own `lost_after` (kept on its row, so
--                      that monitors with other settings agree) is marked `lapsed`, unless the brake holds.
--
-- Each mark is a compare-and-set: the row is locked FOR UPDATE, then judged by what it says under that lock. That
-- lock conflicts with the KEY SHARE of a claim under way, whose rows are therefore visible to every later rescue.
-- A sweep skips a locked row (a worker whose row is locked is beating or claiming at this moment) and comes back; a
-- seen death waits for the last claim of the dead, up to its lock_timeout.
--
-- The brake. Beats can stop everywhere at once for a reason that is not the workers': Postgres was away, or nobody
-- swept. Three holds, all of which end:
--   postgres_restarted  the server has been up for less than the worker's lost_after
--   sweep_resumed       sweeps paused for longer than 15 s and came back less than lost_after ago (`resumed_at`)
--   mass_lapse          4 or more workers live, over half lapsed: at first sight the set is counted and frozen, held for
--                       5 s, then a quarter of it is marked in each 5 s; all of it 25 s after first sight. Who lapses
--                       during the hold waits for its end, also in the place of one that came back. No new hold
--                       before half of the workers were seen alive.
-- Who sweeps less often than each 15 s (a cron job, each minute) is held at every second sweep only: two pauses in a
-- row are a habit, no outage. Without that such a sweep would hold for ever.
-- A clock of the database that was set back leaves stamps in the future, by which nobody would ever lapse. That counts
-- as a pause: live workers beat by the new clock during its hold; whose beat is still to come after it has lapsed.
-- A lapse that the brake held is no crash: a silence that began before Postgres or the sweeps came back proves nothing.
-- Verdict: gone | held | already | unknown.
CREATE OR REPLACE FUNCTION holdfast.mark_workers_gone(
    worker_ids uuid[] DEFAULT NULL, reason text DEFAULT 'lapsed', opts jsonb DEFAULT '{}'
) RETURNS TABLE (worker_id uuid, verdict text, cause text, seen_at timestamptz, is_crash boolean)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '2s'
SET enable_seqscan = off
AS $function$
#variable_conflict use_column
DECLARE
    _now      timestamptz;
    _monitor  record;
    _resumed  timestamptz;
    _set_back boolean;
    _hold     jsonb;
    _age      interval;
    _live     integer;
    _lapsed   integer;
    _quota    integer;
    _marked   integer := 0;
    _worker   record;
    _cause    text;
BEGIN
    IF mark_workers_gone.worker_ids IS NOT NULL THEN
        IF mark_workers_gone.reason NOT IN ('stopped', 'crashed', 'fenced', 'replaced') THEN
            RAISE EXCEPTION 'reason % is not one of stopped, crashed, fenced, replaced', mark_workers_gone.reason
                USING ERRCODE = '22023';
        END IF;
        PERFORM FROM holdfast.workers w WHERE w.id = ANY (mark_workers_gone.worker_ids) ORDER BY w.id FOR UPDATE;
        _now := holdfast.clock();
        RETURN QUERY
        WITH marked AS (
            UPDATE holdfast.workers AS w
            SET gone_at = _now, gone_reason = mark_workers_gone.reason,
                gone_is_crash = mark_workers_gone.reason = 'crashed'
            WHERE w.id = ANY (mark_workers_gone.worker_ids) AND w.gone_at IS NULL
            RETURNING w.id, w.seen_at, w.gone_is_crash
        )
        SELECT a.id,
               CASE WHEN m.id IS NOT NULL THEN 'gone' WHEN w.id IS NOT NULL THEN 'already' ELSE 'unknown' END,
               CASE WHEN m.id IS NOT NULL THEN mark_workers_gone.reason ELSE w.gone_reason END,
               w.seen_at,
               coalesce(m.gone_is_crash, w.gone_is_crash)
        FROM unnest(mark_workers_gone.worker_ids) AS a (id)
        LEFT JOIN marked m ON m.id = a.id
        LEFT JOIN holdfast.workers w ON w.id = a.id;
        RETURN;
    END IF;

    -- One sweep at a time over all processes; who comes second has nothing to do.
    SELECT m.swept_at, m.resumed_at, m.hold INTO _monitor
    FROM holdfast.monitors m WHERE m.name = 'mark_workers_gone' FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    _now := holdfast.clock();
    _set_back := coalesce(_monitor.swept_at > _now + interval '15 seconds', false);
    _resumed := CASE
        WHEN _monitor.swept_at IS NULL OR _set_back THEN _now
        WHEN _monitor.swept_at < _now - interval '15 seconds' AND _monitor.resumed_at IS DISTINCT FROM _monitor.swept_at
            THEN _now
        ELSE _monitor.resumed_at END;
    _hold := CASE WHEN NOT _set_back THEN _monitor.hold END;

    SELECT count(*), count(*) FILTER (WHERE _now NOT BETWEEN w.seen_at - w.lost_after AND w.seen_at + w.lost_after)
    INTO _live, _lapsed
    FROM holdfast.workers w WHERE w.gone_at IS NULL;

    IF _hold IS NULL AND _live >= 4 AND _lapsed * 2 > _live THEN
        _hold := jsonb_build_object('since', _now, 'size', _lapsed, 'marked', 0);
    ELSIF _hold IS NOT NULL AND _lapsed * 2 <= _live AND (_lapsed = 0 OR _hold ? 'ended') THEN
        _hold := NULL;
    END IF;
    _age := _now - (_hold ->> 'since')::timestamptz;
    IF _age >= interval '25 seconds' AND NOT _hold ? 'ended' THEN
        _hold := _hold || jsonb_build_object('ended', _now);
    END IF;
    _quota := CASE
        WHEN _hold IS NULL OR _hold ? 'ended' THEN NULL
        ELSE least(4, floor(extract(epoch FROM _age) / 5)::integer) * ceil((_hold ->> 'size')::numeric / 4)::integer
            - (_hold ->> 'marked')::integer END;

    FOR _worker IN
        SELECT w.id, w.seen_at, w.lost_after
        FROM holdfast.workers w
        WHERE w.gone_at IS NULL AND _now NOT BETWEEN w.seen_at - w.lost_after AND w.seen_at + w.lost_after
        ORDER BY w.seen_at, w.id
        LIMIT 1000
    LOOP
        _cause := CASE
            WHEN (SELECT holdfast.postgres_started_at()) BETWEEN _now - _worker.lost_after AND _now
                THEN 'postgres_restarted'
            WHEN _resumed > _now - _worker.lost_after THEN 'sweep_resumed'
            WHEN _quota IS NOT NULL AND (_marked >= _quota
                OR _worker.seen_at + _worker.lost_after >= (_hold ->> 'since')::timestamptz) THEN 'mass_lapse'
        END;
        is_crash := _cause IS NULL AND _hold IS NULL AND _worker.seen_at BETWEEN coalesce(_resumed, '-infinity') AND _now
            AND _worker.seen_at > (SELECT holdfast.postgres_started_at());
        IF _cause IS NULL THEN
            PERFORM FROM holdfast.workers w
            WHERE w.id = _worker.id AND w.gone_at IS NULL AND w.seen_at = _worker.seen_at
            FOR UPDATE SKIP LOCKED;
            CONTINUE WHEN NOT FOUND;
            UPDATE holdfast.workers AS w
            SET gone_at = _now, gone_reason = 'lapsed', gone_is_crash = is_crash
            WHERE w.id = _worker.id;
            _marked := _marked + 1;
        END IF;
        worker_id := _worker.id;
        verdict := CASE WHEN _cause IS NULL THEN 'gone' ELSE 'held' END;
        cause := coalesce(_cause, 'lapsed');
        seen_at := _worker.seen_at;
        RETURN NEXT;
    END LOOP;

    UPDATE holdfast.monitors AS m
    SET swept_at = _now,
        resumed_at = _resumed,
        hold = CASE WHEN _hold IS NULL THEN NULL
                    ELSE _hold || jsonb_build_object('marked', (_hold ->> 'marked')::integer + _marked) END
    WHERE m.name = 'mark_workers_gone';
END
$function$;

-- Take jobs back from runs that will not end: what a rescue does to a row, for every reason. The caller has decided
-- the reason and read the lease; a row that has moved on since is left alone, a locked one is skipped. Where `seen` is
-- given, its last sign of life must still be that one too.
--
-- What a reason costs:
--   claim_lost                       nothing: no handler ever started
--   worker_gone, a clean stop, an outage or our own fencing: nothing
--   worker_gone by a crash           shared with others: the first requeues at once, the second makes the job
--                                    suspect. Alone in quarantine, and seen: one crash of max_crashes, then dead.
--   deadline_passed, no_heartbeat    one attempt of max_attempts, then dead
-- Whatever the reason: the lease grows; a wanted cancel ends it cancelled; rescue_policy 'dead' ends it dead unless no
-- handler started; the twentieth rescue ends it dead. The first rescue requeues at once and keeps the job's place,
-- later ones back off: 1 s doubled each time, at most 60 s, with jitter.
CREATE OR REPLACE FUNCTION holdfast.rescue_jobs(
    ids uuid[], leases bigint[], reasons text[], opts jsonb DEFAULT '{}', seen timestamptz[] DEFAULT NULL
) RETURNS TABLE (
    id uuid, queue text, kind text, reason text, lease bigint, worker_id uuid, status text, is_crash boolean,
    last_sign_of_life timestamptz, claimed_at timestamptz, rescued_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    _now  timestamptz := holdfast.clock();
    _dice double precision := coalesce((opts ->> 'dice')::double precision, random());
    _max_rescues CONSTANT integer := 20;
BEGIN
    RETURN QUERY
    WITH held AS MATERIALIZED (
        SELECT j.id, s.reason, j.lease, j.worker_id, j.claimed_at, w.gone_reason,
               j.attempts, j.crashes, j.shared_crashes, j.max_attempts, j.max_crashes, j.rescues, j.rescue_policy,
               j.cancel_requested_at,
               CASE s.reason WHEN 'worker_gone' THEN greatest(j.heartbeat_at, w.seen_at) ELSE j.heartbeat_at END AS seen,
               s.reason = 'worker_gone' AND coalesce(w.gone_is_crash, false) AS is_crash,
               s.reason = 'worker_gone'
                   AND coalesce(w.gone_is_crash AND w.quarantine AND w.gone_reason = 'crashed', false) AS alone
        FROM (SELECT * FROM unnest(rescue_jobs.ids, rescue_jobs.leases, rescue_jobs.reasons, rescue_jobs.seen)
                  AS u (id, lease, reason, seen)
              ORDER BY u.id) s
        JOIN holdfast.jobs j ON j.id = s.id AND j.lease = s.lease AND j.status IS NOT DISTINCT FROM 'running'
            AND (rescue_jobs.seen IS NULL OR j.heartbeat_at IS NOT DISTINCT FROM s.seen)
        LEFT JOIN holdfast.workers w ON w.id = j.worker_id
        FOR UPDATE OF j SKIP LOCKED
    ), rescued AS (
        UPDATE holdfast.jobs AS j
        SET lease = j.lease + 1,
            worker_id = NULL,
            settled_as = NULL,
            deadline_at = NULL,
            heartbeat_at = NULL,
            rescues = j.rescues + 1,
            attempts = n.attempts,
            crashes = n.crashes,
            shared_crashes = n.shared_crashes,
            suspect = j.suspect OR n.shared_crashes >= 2,
            status = n.status,
            run_at = CASE WHEN n.status = 'queued' AND j.rescues > 0 AND h.reason <> 'claim_lost'
                          THEN _now + make_interval(secs => least(60, 2 ^ (j.rescues - 1)) * (0.75 + 0.5 * _dice))
                          ELSE j.run_at END,
            finished_at = CASE WHEN n.status <> 'queued' THEN _now END,
            error = CASE WHEN n.status = 'dead' THEN jsonb_build_object('type', h.reason, 'message', n.message)
                         ELSE j.error END,
            fingerprint = CASE WHEN n.status = 'dead' THEN 'rescue:' || h.reason || ':' || j.kind ELSE j.fingerprint END
        FROM held h
        CROSS JOIN LATERAL (
            SELECT h.attempts + (h.reason IN ('deadline_passed', 'no_heartbeat'))::integer AS attempts,
                   h.crashes + h.alone::integer AS crashes,
                   h.shared_crashes + (h.is_crash AND NOT h.alone)::integer AS shared_crashes,
                   h.max_attempts, h.max_crashes, h.rescues, h.rescue_policy, h.cancel_requested_at) c
        CROSS JOIN LATERAL (
            SELECT CASE
                WHEN c.rescue_policy = 'dead' AND h.reason <> 'claim_lost'
                    THEN 'this job must not run twice (rescue="dead"), and its run did not end'
                WHEN c.crashes >= c.max_crashes AND h.alone
                    THEN format('crashed its process %s times while it ran alone', c.crashes)
                WHEN c.attempts >= c.max_attempts AND h.reason IN ('deadline_passed', 'no_heartbeat')
                    THEN format('no attempt left after %s of %s', c.attempts, c.max_attempts)
                WHEN c.rescues + 1 >= _max_rescues THEN format('rescued %s times', c.rescues + 1)
                END AS message) m
        CROSS JOIN LATERAL (
            SELECT c.attempts, c.crashes, c.shared_crashes, m.message,
                   CASE WHEN c.cancel_requested_at IS NOT NULL THEN 'cancelled'
                        WHEN m.message IS NOT NULL THEN 'dead'
                        ELSE 'queued' END AS status) n
        WHERE j.id = h.id
        RETURNING j.id, j.queue, j.kind, h.reason, h.lease, h.worker_id, j.status, h.is_crash, h.alone, h.seen,
            h.claimed_at, h.gone_reason, j.suspect, j.run_at
    ), noted AS (
        INSERT INTO holdfast.job_events (job_id, at, event, reason, lease, worker_id, details)
        SELECT r.id, _now, CASE WHEN r.is_crash THEN 'crash' ELSE 'rescue' END, r.reason, r.lease, r.worker_id,
               jsonb_strip_nulls(jsonb_build_object(
                   'status', r.status, 'last_sign_of_life', r.seen, 'silent_seconds', extract(epoch FROM _now - r.seen),
                   'claimed_at', r.claimed_at, 'gone_reason', r.gone_reason,
                   'alone', CASE WHEN r.is_crash THEN r.alone END,
                   'suspect', CASE WHEN r.suspect THEN true END,
                   'run_at', CASE WHEN r.status = 'queued' THEN r.run_at END))
        FROM rescued r
    )
    SELECT r.id, r.queue, r.kind, r.reason, r.lease, r.worker_id, r.status, r.is_crash, r.seen, r.claimed_at, _now
    FROM rescued r;
END
$function$;

-- A worker gives back what it never received: rows that say it runs them, under leases that it does not know
-- (check_leases called them `unknown`). No handler started, so it costs the job nothing.
CREATE OR REPLACE FUNCTION holdfast.release_lost_claims(worker_id uuid, ids uuid[], leases bigint[])
RETURNS TABLE (id uuid, lease bigint, status text)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT r.id, r.lease, r.status
    FROM (
        SELECT array_agg(j.id ORDER BY j.id) AS ids, array_agg(j.lease ORDER BY j.id) AS leases
        FROM unnest(release_lost_claims.ids, release_lost_claims.leases) AS u (id, lease)
        JOIN holdfast.jobs j ON j.id = u.id AND j.lease = u.lease AND j.worker_id = release_lost_claims.worker_id
    ) mine
    CROSS JOIN LATERAL holdfast.rescue_jobs(mine.ids, mine.leases,
        array_fill('claim_lost'::text, ARRAY[cardinality(mine.ids)])) AS r
    WHERE mine.ids IS NOT NULL
$function$;

-- Remove what retention no longer keeps: one bounded step, to be repeated while it removes as much as it may.
-- Succeeded and cancelled jobs go after keep_finished, dead ones after keep_dead, each with its events; workers that have been
-- gone for a day and hold nothing go too. A locked row waits for the next time. Walks the index on finished_at from the
-- oldest on; (after, after_id) is the keyset, the last row looked at, since dead jobs that are kept stand in
-- between.
CREATE OR REPLACE FUNCTION holdfast.prune(
    keep_finished interval DEFAULT '7 days', keep_dead interval DEFAULT '90 days', max_jobs integer DEFAULT 1000,
    after timestamptz DEFAULT '-infinity', after_id uuid DEFAULT '00000000-0000-0000-0000-000000000000'
) RETURNS TABLE (finished integer, dead integer, workers integer, looked_at integer, last_at timestamptz, last_id uuid)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_sort = off
SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    _now timestamptz := holdfast.clock();
    _old uuid[];
BEGIN
    SELECT count(*), max(o.finished_at), (array_agg(o.id ORDER BY o.finished_at DESC, o.id DESC))[1],
           array_agg(o.id) FILTER (WHERE o.finished_at < _now - CASE o.status WHEN 'dead' THEN keep_dead ELSE keep_finished END)
    INTO looked_at, last_at, last_id, _old
    FROM (
        SELECT j.id, j.status, j.finished_at
        FROM holdfast.jobs j
        WHERE j.status IN ('succeeded', 'dead', 'cancelled')
          AND (j.finished_at, j.id) > (prune.after, prune.after_id) AND j.finished_at < _now - least(keep_finished, keep_dead)
        ORDER BY j.finished_at, j.id
        LIMIT max_jobs
        FOR UPDATE SKIP LOCKED) o;

    WITH removed AS (
        DELETE FROM holdfast.jobs j WHERE j.id = ANY (_old) RETURNING j.status
    )
    SELECT count(*) FILTER (WHERE r.status <> 'dead'), count(*) FILTER (WHERE r.status = 'dead')
    INTO finished, dead
    FROM removed r;
    DELETE FROM holdfast.job_events e WHERE e.job_id = ANY (_old);

    WITH removed AS (
        DELETE FROM holdfast.workers w
        WHERE w.gone_at < _now - interval '1 day'
          AND NOT EXISTS (SELECT FROM holdfast.jobs j WHERE j.status = 'running' AND j.worker_id = w.id)
        RETURNING w.id
    )
    SELECT count(*) INTO workers FROM removed;
    RETURN NEXT;
END
$function$;

-- Whether a rescue took a job from a run that was still to be trusted, by the ledger's own timestamps (promise P4): its
-- worker was neither seen to end nor silent for its lost_after, or the job was not past its limits. Null stands for
-- what nobody knows any more (a worker that was pruned), and is not false.
CREATE OR REPLACE FUNCTION holdfast.is_false_rescue(
    reason text, at timestamptz, details jsonb, gone_at timestamptz, gone_reason text, seen_at timestamptz,
    lost_after interval, timeout interval, silent_after interval, stale_after interval
) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT CASE reason
        WHEN 'worker_gone' THEN seen_at IS NOT NULL
            AND (gone_at IS NULL OR gone_at > at OR (gone_reason = 'lapsed' AND gone_at < seen_at + lost_after AND gone_at >= seen_at))
        WHEN 'deadline_passed' THEN
            coalesce(at < (details ->> 'claimed_at')::timestamptz + timeout + interval '30 seconds', false)
        WHEN 'no_heartbeat' THEN
            coalesce(at < (details ->> 'last_sign_of_life')::timestamptz + least(silent_after, stale_after), false)
        ELSE false END
$function$;

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

REVOKE ALL ON SCHEMA holdfast FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA holdfast FROM PUBLIC;
-- end of migration body
    $migration$;
-- The checksum below covers every byte above this line.
    INSERT INTO holdfast.schema_migrations (version, name, checksum)
    VALUES (3, '003_protocol_functions', '8aba05ca5dec412f5efea075a930ae65e973b06c9f85934edbe98a8cd6fa038b');
END
$holdfast$;
