-- Holdfast migration 006_api
-- To apply it by hand: paste the whole file into a SQL editor and run it, or: psql -f 006_api.sql
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
        IF EXISTS (SELECT FROM holdfast.schema_migrations WHERE version = 6) THEN
            RETURN;
        END IF;
    END IF;
    EXECUTE $migration$
-- migration body
-- The keys of the HTTP API. A key is shown once, when it is made; kept is the SHA-256 of its secret, which is 256 bits
-- of chance: there is nothing in it to guess, so no slow hash is needed. `canary` keys are made by `holdfast verify`
-- for a few minutes, and are not counted where it is asked whether there are any keys.
CREATE TABLE IF NOT EXISTS holdfast.api_keys (
    id           text        COLLATE "C" NOT NULL PRIMARY KEY,
    name         text        NOT NULL,
    role         text        COLLATE "C" NOT NULL DEFAULT 'admin',
    secret_hash  text        NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz,
    CONSTRAINT api_keys_role CHECK (role IN ('viewer', 'submitter', 'operator', 'admin', 'canary'))
) WITH (fillfactor = 50);

-- What a caller's Idempotency-Key was answered with, for a day. `scope` is the caller: a key of one means nothing to
-- another. `request_hash` tells the same request from another one under the same key.
CREATE TABLE IF NOT EXISTS holdfast.idempotency_keys (
    scope        text        COLLATE "C" NOT NULL,
    key          text        COLLATE "C" NOT NULL,
    request_hash text        NOT NULL,
    answers      jsonb       NOT NULL DEFAULT '[]',
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (scope, key)
);

CREATE INDEX IF NOT EXISTS idempotency_keys_created ON holdfast.idempotency_keys (created_at);

-- Who is here: one row for each supervisor or single service (worker, API, monitor), written each few seconds, removed at a
-- clean end. Nothing of the protocol depends on it: it tells people what runs where, and with which settings.
-- `settings_hash` stands for what the settings files in `folder` said when the service started.
CREATE TABLE IF NOT EXISTS holdfast.services (
    id            uuid        NOT NULL PRIMARY KEY,
    name          text        COLLATE "C" NOT NULL,
    host          text        NOT NULL,
    pid           integer     NOT NULL,
    version       text        NOT NULL,
    folder        text        NOT NULL,
    settings_hash text        NOT NULL,
    address       text,
    started_at    timestamptz NOT NULL,
    seen_at       timestamptz NOT NULL
) WITH (fillfactor = 50);

-- enqueue_many for a caller that names its request (the header Idempotency-Key): the jobs and the name are written in
-- one transaction, so however often the request comes, also at the same moment, the jobs are written once and each gets
-- the same answer. Who comes while the first is under way waits for it at the primary key.
-- Raises HF002 when the name stands for another request. The other arguments are those of enqueue_many.
CREATE OR REPLACE FUNCTION holdfast.enqueue_once(
    scope text,
    key text,
    request_hash text,
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
) RETURNS TABLE (ord integer, id uuid, created boolean, replayed boolean)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _known   record;
    _answers jsonb;
BEGIN
    INSERT INTO holdfast.idempotency_keys (scope, key, request_hash, created_at)
    VALUES (enqueue_once.scope, enqueue_once.key, enqueue_once.request_hash, holdfast.clock())
    ON CONFLICT (scope, key) DO NOTHING;
    IF NOT FOUND THEN
        SELECT k.request_hash, k.answers INTO _known
        FROM holdfast.idempotency_keys k WHERE k.scope = enqueue_once.scope AND k.key = enqueue_once.key;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the idempotency key was forgotten at this moment' USING ERRCODE = '40001', HINT = 'Try again.';
        END IF;
        IF _known.request_hash <> enqueue_once.request_hash THEN
            RAISE EXCEPTION 'this idempotency key stands for another request' USING ERRCODE = 'HF002';
        END IF;
        RETURN QUERY
        SELECT a.ord::integer, (a.answer ->> 'id')::uuid, (a.answer ->> 'created')::boolean, true
        FROM jsonb_array_elements(_known.answers) WITH ORDINALITY AS a (answer, ord);
        RETURN;
    END IF;

    SELECT jsonb_agg(jsonb_build_object('id', e.id, 'created', e.created) ORDER BY e.ord)
    INTO _answers
    FROM holdfast.enqueue_many(enqueue_once.ids, enqueue_once.queues, enqueue_once.kinds, enqueue_once.args,
        enqueue_once.priorities, enqueue_once.run_ats, enqueue_once.delays, enqueue_once.unique_keys,
        enqueue_once.group_keys, enqueue_once.limit_keys, enqueue_once.policies, enqueue_once.traceparents,
        enqueue_once.opts) e;
    UPDATE holdfast.idempotency_keys AS k
    SET answers = coalesce(_answers, '[]')
    WHERE k.scope = enqueue_once.scope AND k.key = enqueue_once.key;
    RETURN QUERY
    SELECT a.ord::integer, (a.answer ->> 'id')::uuid, (a.answer ->> 'created')::boolean, false
    FROM jsonb_array_elements(_answers) WITH ORDINALITY AS a (answer, ord);
END
$function$;

-- Forget what only served for a while: idempotency keys after a day, canary keys that have expired, services that were not
-- seen for a day. One bounded step; returns how many rows went.
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
    )
    SELECT (SELECT count(*) FROM keys) + (SELECT count(*) FROM canaries) + (SELECT count(*) FROM services);
$function$;

-- How the ledger is, in one round trip, for health checks: what is counted here is bounded, however many jobs there are.
-- Depths and dead jobs are counted to 1,000 and no further. Waiting jobs are found by walking the claim index from one
-- (queue, kind, lane, priority) to the next, one probe each and 1,000 at most, which gives the oldest due job of each queue and
-- kind. Times and outcomes come from the last 1,000 jobs that ended within the hour. What is running is as much as there
-- are slots.
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

    WITH RECURSIVE step AS (
        (SELECT j.queue, j.kind, j.lane, j.priority, j.run_at, 1 AS n
         FROM holdfast.jobs j WHERE j.status = 'queued'
         ORDER BY j.queue, j.kind, j.lane, j.priority, j.run_at, j.id LIMIT 1)
        UNION ALL
        SELECT f.queue, f.kind, f.lane, f.priority, f.run_at, s.n + 1
        FROM step s
        CROSS JOIN LATERAL (
            SELECT j.queue, j.kind, j.lane, j.priority, j.run_at
            FROM holdfast.jobs j
            WHERE j.status = 'queued'
              AND (j.queue, j.kind, j.lane, j.priority) > (s.queue, s.kind, s.lane, s.priority)
            ORDER BY j.queue, j.kind, j.lane, j.priority, j.run_at, j.id LIMIT 1) f
        WHERE s.n < _most
    ), waiting AS (
        SELECT s.queue, s.kind, min(s.run_at) FILTER (WHERE s.run_at <= _now) AS due_since
        FROM step s GROUP BY s.queue, s.kind
    ), known AS (
        SELECT DISTINCT q.name AS queue, k.name AS kind
        FROM holdfast.workers w
        CROSS JOIN LATERAL unnest(w.queues) AS q (name)
        CROSS JOIN LATERAL unnest(w.kinds) AS k (name)
        WHERE w.gone_at IS NULL AND NOT w.quarantine
    ), named AS (
        SELECT x.name FROM (
            SELECT q.name FROM holdfast.queues q
            UNION SELECT v.queue FROM waiting v
            UNION SELECT j.queue FROM holdfast.jobs j WHERE j.status = 'running') x
        ORDER BY x.name LIMIT 100
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

REVOKE ALL ON SCHEMA holdfast FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA holdfast FROM PUBLIC;
-- end of migration body
    $migration$;
-- The checksum below covers every byte above this line.
    INSERT INTO holdfast.schema_migrations (version, name, checksum)
    VALUES (6, '006_api', 'e9124194596e0d44da38deaa545d2bc63358e0d9620fc9a25c8011c60a57abd1');
END
$holdfast$;
