-- Holdfast migration 010_functions_over_https
-- To apply it by hand: paste the whole file into a SQL editor and run it, or: psql -f 010_functions_over_https.sql
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
        IF EXISTS (SELECT FROM holdfast.schema_migrations WHERE version = 10) THEN
            RETURN;
        END IF;
    END IF;
    EXECUTE $migration$
-- migration body
-- What waits for a channel that no alerter has announced for a day (its webhook was taken away, or the log was replaced by
-- one) would wait for ever, and be warned of for ever: it goes to a channel that there is.
CREATE OR REPLACE FUNCTION holdfast.adopt_notifications(channel text) RETURNS SETOF uuid
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
UPDATE holdfast.notifications AS n
SET channel = $1
WHERE n.id = ANY (ARRAY(
    SELECT w.id FROM holdfast.notifications w
    WHERE w.delivered_at IS NULL AND w.due_at < (SELECT holdfast.clock()) AND w.channel <> $1
      AND NOT EXISTS (
          SELECT FROM holdfast.monitors m
          WHERE m.name = 'deliver_notifications'
            AND (m.last_result -> 'channels' ->> w.channel)::timestamptz > (SELECT holdfast.clock()) - interval '1 day')
      AND w.created_at < (SELECT holdfast.clock()) - interval '1 day'
    ORDER BY w.due_at
    LIMIT 1000
    FOR UPDATE SKIP LOCKED))
RETURNING n.id
$function$;

-- An alerter tells that it delivers to these channels; also the turn of the alerters, for others to see that they are alive.
CREATE OR REPLACE FUNCTION holdfast.announce_channels(channels text[], every interval) RETURNS SETOF text
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
UPDATE holdfast.monitors AS m
SET swept_at = (SELECT holdfast.clock()),
    every = $2::interval,
    last_result = coalesce(m.last_result, '{}') || jsonb_build_object('channels',
        coalesce(m.last_result -> 'channels', '{}')
        || (SELECT jsonb_object_agg(c.name, (SELECT holdfast.clock())) FROM unnest($1::text[]) AS c (name)))
WHERE m.name = 'deliver_notifications'
RETURNING m.name
$function$;

-- A service tells that it is here, with what it was started.
CREATE OR REPLACE FUNCTION holdfast.announce_service(id uuid, name text, host text, pid integer, version text, folder text, settings_hash text,
    address text, bell_url text) RETURNS SETOF uuid
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
INSERT INTO holdfast.services AS s (id, name, host, pid, version, folder, settings_hash, address, bell_url, started_at,
    seen_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9,
        (SELECT holdfast.clock()), (SELECT holdfast.clock()))
ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at
RETURNING s.id
$function$;

-- Is it this process's turn to sweep? One process over all wins in each interval, without a leader, and gets what the last
-- sweep left. A stamp from the future is one of a clock that was set back: nobody must wait for that time to come again.
CREATE OR REPLACE FUNCTION holdfast.begin_sweep(name text, every interval) RETURNS SETOF jsonb
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
UPDATE holdfast.monitors AS m
SET swept_at = (SELECT holdfast.clock()), every = $2::interval
WHERE m.name = $1
  AND (m.swept_at IS NULL OR m.swept_at <= (SELECT holdfast.clock()) - $2::interval
       OR m.swept_at > (SELECT holdfast.clock()) + $2::interval)
RETURNING coalesce(m.last_result, '{}')
$function$;

-- Keep a new key, unless there are 1,000 valid ones already: every instance of the API holds them all in memory.
CREATE OR REPLACE FUNCTION holdfast.create_api_key(id text, name text, role text, secret_hash text, valid_for interval)
    RETURNS TABLE (key_id text, key_name text, key_role text, created_at timestamptz, expires_at timestamptz,
    revoked_at timestamptz, last_used_at timestamptz)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
INSERT INTO holdfast.api_keys (id, name, role, secret_hash, created_at, expires_at)
SELECT $1, $2, $3, $4, (SELECT holdfast.clock()),
       (SELECT holdfast.clock()) + $5::interval
WHERE (SELECT count(*) FROM holdfast.api_keys k
       WHERE k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > (SELECT holdfast.clock()))) < 1000
RETURNING id, name, role, created_at, expires_at, revoked_at, last_used_at
$function$;

-- What a sweep came to, for people and health checks.
CREATE OR REPLACE FUNCTION holdfast.end_sweep(name text, result jsonb) RETURNS SETOF text
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
UPDATE holdfast.monitors AS m SET last_result = $2::jsonb WHERE m.name = $1 RETURNING m.name
$function$;

-- Write jobs: the one statement for all connections, Holdfast's own and those of its callers. Both parameters are text,
-- so that every driver sends them alike; one parse of `jobs` makes the arrays that enqueue_many takes. (Measured against
-- arrays as parameters, in batches of 100 and 1,000: a fifth more jobs a second.)
-- jobs: an array of objects; policies: {"policies": [...]}, which a job's `policy` is a position in.
CREATE OR REPLACE FUNCTION holdfast.enqueue_jobs(jobs text, policies text) RETURNS TABLE (ord integer, id uuid, created boolean)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT e.ord, e.id, e.created
FROM (
    SELECT array_agg(j.id) AS ids, array_agg(j.queue) AS queues, array_agg(j.kind) AS kinds, array_agg(j.args) AS args,
           array_agg(j.priority) AS priorities, array_agg(j.run_at) AS run_ats,
           array_agg(make_interval(secs => j.delay)) AS delays, array_agg(j.unique_key) AS unique_keys,
           array_agg(j.group_key) AS group_keys, array_agg(j.limit_key) AS limit_keys,
           array_agg(j.policy) AS policies, array_agg(j.traceparent) AS traceparents
    FROM json_to_recordset(CAST($1 AS text)::json) AS j (
        id uuid, queue text, kind text, args jsonb, priority smallint, run_at timestamptz, delay double precision,
        unique_key text, group_key text, limit_key text, policy integer, traceparent text)) AS a
CROSS JOIN LATERAL holdfast.enqueue_many(
    a.ids, a.queues, a.kinds, a.args, a.priorities, a.run_ats, a.delays, a.unique_keys, a.group_keys, a.limit_keys,
    a.policies, a.traceparents, CAST($2 AS text)::jsonb) AS e
$function$;

-- The same as enqueue, for a request that its caller has named (see the function enqueue_once).
CREATE OR REPLACE FUNCTION holdfast.enqueue_request(scope text, key text, request_hash text, jobs text, policies text)
    RETURNS TABLE (ord integer, id uuid, created boolean, replayed boolean)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT e.ord, e.id, e.created, e.replayed
FROM (
    SELECT array_agg(j.id) AS ids, array_agg(j.queue) AS queues, array_agg(j.kind) AS kinds, array_agg(j.args) AS args,
           array_agg(j.priority) AS priorities, array_agg(j.run_at) AS run_ats,
           array_agg(make_interval(secs => j.delay)) AS delays, array_agg(j.unique_key) AS unique_keys,
           array_agg(j.group_key) AS group_keys, array_agg(j.limit_key) AS limit_keys,
           array_agg(j.policy) AS policies, array_agg(j.traceparent) AS traceparents
    FROM json_to_recordset(CAST($4 AS text)::json) AS j (
        id uuid, queue text, kind text, args jsonb, priority smallint, run_at timestamptz, delay double precision,
        unique_key text, group_key text, limit_key text, policy integer, traceparent text)) AS a
CROSS JOIN LATERAL holdfast.enqueue_once(
    $1, $2, $3, a.ids, a.queues, a.kinds, a.args, a.priorities, a.run_ats, a.delays,
    a.unique_keys, a.group_keys, a.limit_keys, a.policies, a.traceparents, CAST($5 AS text)::jsonb) AS e
$function$;

-- Write one job that is due now and has no keys; all parameters are text, like those of enqueue.sql.
CREATE OR REPLACE FUNCTION holdfast.enqueue_one(id text, queue text, kind text, args text, policy text)
    RETURNS TABLE (ord integer, job_id uuid, created boolean)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT 1 AS ord, e.job_id AS id, e.created
FROM holdfast.enqueue(
    CAST($1 AS text)::uuid, CAST($2 AS text), CAST($3 AS text), CAST($4 AS text)::jsonb,
    CAST($5 AS text)::jsonb) AS e
$function$;

-- Write many jobs that are due now, have no keys, and share one policy; all parameters are text, like those of enqueue.sql.
CREATE OR REPLACE FUNCTION holdfast.enqueue_plain_jobs(jobs text, expected text, policy text)
    RETURNS TABLE (ord integer, id uuid, created boolean)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT e.ord, e.id, e.created
FROM holdfast.enqueue_plain(
    CAST($1 AS text)::json, CAST($2 AS text)::integer, CAST($3 AS text)::jsonb) AS e
$function$;

-- One job, whole.
CREATE OR REPLACE FUNCTION holdfast.job(job_id uuid) RETURNS TABLE (id uuid, queue text, kind text, args jsonb, status text, priority smallint, run_at timestamptz, group_key text,
    unique_key text, limit_key text, limit_max integer, lease bigint, worker_id uuid, attempts integer,
    max_attempts integer, crashes integer, max_crashes integer, shared_crashes integer, suspect boolean,
    rescues integer, retry_policy jsonb, rescue_policy text, timeout interval, silent_after interval,
    deadline_at timestamptz, heartbeat_at timestamptz, claimed_at timestamptz, finished_at timestamptz,
    settled_as text, cancel_requested_at timestamptz, progress jsonb, result jsonb, error jsonb, fingerprint text,
    traceparent text, created_at timestamptz)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT j.id, j.queue, j.kind, j.args, j.status, j.priority, j.run_at, j.group_key, j.unique_key, j.limit_key,
       j.limit_max, j.lease, j.worker_id, j.attempts, j.max_attempts, j.crashes, j.max_crashes, j.shared_crashes,
       j.suspect, j.rescues, j.retry_policy, j.rescue_policy, j.timeout, j.silent_after, j.deadline_at,
       j.heartbeat_at, j.claimed_at, j.finished_at, j.settled_as, j.cancel_requested_at, j.progress, j.result,
       j.error, j.fingerprint, j.traceparent, j.created_at
FROM holdfast.jobs j
WHERE j.id = $1
$function$;

-- What happened to a job besides its happy path, oldest first; the last 200.
CREATE OR REPLACE FUNCTION holdfast.job_events(job_id uuid)
    RETURNS TABLE (at timestamptz, event text, reason text, lease bigint, worker_id uuid, details jsonb)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT e.at, e.event, e.reason, e.lease, e.worker_id, e.details
FROM (SELECT * FROM holdfast.job_events n WHERE n.job_id = $1 ORDER BY n.id DESC LIMIT 200) e
ORDER BY e.id
$function$;

-- Those of the given jobs that have ended, and those that are not in the ledger (missing).
CREATE OR REPLACE FUNCTION holdfast.job_outcomes(ids uuid[]) RETURNS TABLE (id uuid, status text, result jsonb, error jsonb)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT g.id, coalesce(j.status, 'missing'), j.result, j.error
FROM unnest($1::uuid[]) AS g (id)
LEFT JOIN holdfast.jobs j ON j.id = g.id
WHERE j.id IS NULL OR j.status IN ('succeeded', 'dead', 'cancelled')
$function$;

-- What an instance of the API must know to check keys by itself: the valid ones with their hashes and, without a row of its
-- own, whether anybody ever made a key.
CREATE OR REPLACE FUNCTION holdfast.key_ring() RETURNS TABLE (id text, name text, role text, secret_hash text, valid_for numeric)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT k.id, k.name, k.role, k.secret_hash, extract(epoch FROM k.expires_at - (SELECT holdfast.clock())) AS valid_for
FROM holdfast.api_keys k
WHERE k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > (SELECT holdfast.clock()))
UNION ALL
SELECT '', '', '', '', NULL
WHERE EXISTS (SELECT FROM holdfast.api_keys k WHERE k.role <> 'canary')
LIMIT 2000
$function$;

-- The keys that people made, the newest first; with `all` also those that are no longer valid.
CREATE OR REPLACE FUNCTION holdfast.list_api_keys("all" boolean, "limit" bigint)
    RETURNS TABLE (id text, name text, role text, created_at timestamptz, expires_at timestamptz, revoked_at timestamptz,
    last_used_at timestamptz)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT k.id, k.name, k.role, k.created_at, k.expires_at, k.revoked_at, k.last_used_at
FROM holdfast.api_keys k
WHERE k.role <> 'canary'
  AND ($1 OR (k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > (SELECT holdfast.clock()))))
ORDER BY k.created_at DESC, k.id
LIMIT $2
$function$;

-- Jobs by filter, newest first, one keyset page. Ids are of version 7, so their order is that of creation.
-- `known` tells of a queued job whether any live worker knows its kind: a kind that nobody knows stays queued.
CREATE OR REPLACE FUNCTION holdfast.list_jobs(status text, queue text, kind text, error text, key text, newer interval, older interval, before uuid,
    "limit" bigint) RETURNS TABLE (id uuid, queue_name text, job_kind text, job_status text, attempts integer,
    max_attempts integer, lease bigint, run_at timestamptz, claimed_at timestamptz, finished_at timestamptz,
    created_at timestamptz, message text, known boolean)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT j.id, j.queue, j.kind, j.status, j.attempts, j.max_attempts, j.lease, j.run_at, j.claimed_at, j.finished_at,
       j.created_at, j.error ->> 'message' AS error,
       CASE WHEN j.status = 'queued' THEN EXISTS (
           SELECT FROM holdfast.workers w WHERE w.gone_at IS NULL AND j.kind = ANY (w.kinds)) END AS known
FROM holdfast.jobs j
WHERE ($1::text IS NULL OR j.status = $1)
  AND ($2::text IS NULL OR j.queue = $2)
  AND ($3::text IS NULL OR j.kind = $3)
  AND ($4::text IS NULL OR position(lower($4) IN lower(concat_ws(': ', j.error ->> 'type', j.error ->> 'message'))) > 0)
  AND ($5::text IS NULL OR $5 IN (j.unique_key, j.group_key, j.limit_key))
  AND ($6::interval IS NULL OR j.created_at >= (SELECT holdfast.clock()) - $6)
  AND ($7::interval IS NULL OR j.created_at < (SELECT holdfast.clock()) - $7)
  AND ($8::uuid IS NULL OR j.id < $8)
ORDER BY j.id DESC
LIMIT $9
$function$;

-- Queues: those with queued or running jobs, those that live workers serve, those that were paused. Names come from the
-- claim's index by one probe each. At most `most` queued jobs of each queue are counted; `is_more` says that there are more.
CREATE OR REPLACE FUNCTION holdfast.list_queues("limit" bigint, most bigint)
    RETURNS TABLE (name text, paused boolean, due bigint, later bigint, is_more boolean, running bigint, workers bigint,
    oldest_due timestamptz)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
WITH RECURSIVE queued AS (
    (SELECT j.queue FROM holdfast.jobs j WHERE j.status = 'queued' ORDER BY j.queue LIMIT 1)
    UNION ALL
    SELECT n.queue
    FROM queued q
    CROSS JOIN LATERAL (
        SELECT j.queue FROM holdfast.jobs j WHERE j.status = 'queued' AND j.queue > q.queue ORDER BY j.queue LIMIT 1) n
), running AS MATERIALIZED (
    SELECT j.queue, count(*) AS jobs FROM holdfast.jobs j WHERE j.status = 'running' GROUP BY j.queue
), serving AS MATERIALIZED (
    SELECT s.queue, count(*) AS workers
    FROM holdfast.workers w CROSS JOIN LATERAL unnest(w.queues) AS s (queue)
    WHERE w.gone_at IS NULL AND NOT w.quarantine
    GROUP BY s.queue
), names AS (
    SELECT queue FROM queued
    UNION SELECT queue FROM running
    UNION SELECT queue FROM serving
    UNION SELECT name FROM holdfast.queues
    ORDER BY queue LIMIT $1
)
SELECT n.queue, coalesce(q.paused, false), c.due, c.later, c.due + c.later >= $2, coalesce(r.jobs, 0),
       coalesce(s.workers, 0), c.oldest_due
FROM names n
LEFT JOIN holdfast.queues q ON q.name = n.queue
LEFT JOIN running r ON r.queue = n.queue
LEFT JOIN serving s ON s.queue = n.queue
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE b.run_at <= b.now) AS due, count(*) FILTER (WHERE b.run_at > b.now) AS later,
           min(b.run_at) FILTER (WHERE b.run_at <= b.now) AS oldest_due
    FROM (SELECT j.run_at, (SELECT holdfast.clock()) AS now FROM holdfast.jobs j
          WHERE j.status = 'queued' AND j.queue = n.queue LIMIT $2) b) c
ORDER BY n.queue
$function$;

-- The policies that were used, the last used first, with what was decided over all processes.
CREATE OR REPLACE FUNCTION holdfast.list_rate_limits("limit" bigint)
    RETURNS TABLE (policy text, admitted bigint, refused bigint, shadowed bigint, alone bigint, last_at timestamptz)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT policy,
       coalesce(sum(decisions) FILTER (WHERE outcome = 'admitted'), 0)::bigint,
       coalesce(sum(decisions) FILTER (WHERE outcome = 'refused'), 0)::bigint,
       coalesce(sum(decisions) FILTER (WHERE outcome = 'shadowed'), 0)::bigint,
       coalesce(sum(decisions) FILTER (WHERE source = 'memory'), 0)::bigint,
       max(last_at)
FROM holdfast.rate_limit_totals
GROUP BY policy
ORDER BY max(last_at) DESC, policy
LIMIT $1
$function$;

-- The schedules. One that no worker has declared for a minute does not tick.
CREATE OR REPLACE FUNCTION holdfast.list_schedules("limit" bigint)
    RETURNS TABLE (name text, cron text, time_zone text, queue text, kind text, args jsonb, overlap boolean, paused boolean,
    next_at timestamptz, last_at timestamptz, last_job_id uuid, last_result text, declared_at timestamptz,
    is_declared boolean, clock timestamptz)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT s.name, s.cron, s.time_zone, s.queue, s.kind, s.args, s.overlap, s.paused, s.next_at, s.last_at, s.last_job_id,
       s.last_result, s.declared_at, s.declared_at > (SELECT holdfast.clock()) - interval '1 minute',
       (SELECT holdfast.clock())
FROM holdfast.schedules s
ORDER BY s.name
LIMIT $1
$function$;

-- The services that were seen within the last minute.
CREATE OR REPLACE FUNCTION holdfast.list_services()
    RETURNS TABLE (id uuid, name text, host text, pid integer, version text, folder text, settings_hash text, address text,
    bell_url text, started_at timestamptz, seen_at timestamptz)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT s.id, s.name, s.host, s.pid, s.version, s.folder, s.settings_hash, s.address, s.bell_url, s.started_at, s.seen_at
FROM holdfast.services s
WHERE s.seen_at > (SELECT holdfast.clock()) - interval '1 minute'
ORDER BY s.host, s.name, s.started_at
LIMIT 500
$function$;

-- Worker processes, live ones first, then the most recently gone; with what the live ones hold.
CREATE OR REPLACE FUNCTION holdfast.list_workers(gone boolean, "limit" bigint)
    RETURNS TABLE (id uuid, host text, pid integer, version text, queues text[], kinds text[], slots integer,
    quarantine boolean, started_at timestamptz, seen_at timestamptz, lost_after interval, loop_lag interval,
    draining boolean, gone_at timestamptz, gone_reason text, gone_is_crash boolean, running bigint)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT w.id, w.host, w.pid, w.version, w.queues, w.kinds, w.slots, w.quarantine, w.started_at, w.seen_at, w.lost_after,
       w.loop_lag, w.draining, w.gone_at, w.gone_reason, w.gone_is_crash,
       (SELECT count(*) FROM holdfast.jobs j WHERE j.status = 'running' AND j.worker_id = w.id) AS running
FROM holdfast.workers w
WHERE w.gone_at IS NULL OR $1
ORDER BY w.gone_at DESC NULLS FIRST, w.started_at, w.id
LIMIT $2
$function$;

-- The kinds that live workers know.
CREATE OR REPLACE FUNCTION holdfast.live_kinds() RETURNS SETOF text
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT DISTINCT k.name
FROM holdfast.workers w
CROSS JOIN LATERAL unnest(w.kinds) AS k (name)
WHERE w.gone_at IS NULL
ORDER BY k.name
LIMIT 1000
$function$;

-- Jobs that have been due for rescue for over a minute and that no sweep could take, since somebody holds their row locked:
-- who that is. The holder's transaction id stands in the row's xmax; where several hold it, it is not resolved (null).
CREATE OR REPLACE FUNCTION holdfast.locked_stale_jobs(stale_after interval)
    RETURNS TABLE (id uuid, reason text, pid integer, application_name text, state text, since timestamptz)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT s.id, s.reason, a.pid, a.application_name, a.state, a.xact_start
FROM holdfast.stale_jobs($1::interval, 1000, false, '00000000-0000-0000-0000-000000000000',
                         '00000000-0000-0000-0000-000000000000') AS s
JOIN holdfast.jobs j ON j.id = s.id
LEFT JOIN holdfast.workers w ON w.id = s.worker_id
LEFT JOIN pg_catalog.pg_locks l ON l.locktype = 'transactionid' AND l.granted AND l.transactionid = j.xmax
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE j.xmax <> '0'::xid
  AND (SELECT holdfast.clock()) - interval '1 minute' > CASE s.reason
      WHEN 'worker_gone' THEN w.gone_at
      WHEN 'deadline_passed' THEN s.deadline_at
      ELSE s.heartbeat_at + least(j.silent_after, $1::interval) END
LIMIT 100
$function$;

-- The next ids that a filter matches, in their order, behind `after` and up to `last`: one bounded step of acting on all.
CREATE OR REPLACE FUNCTION holdfast.matching_ids(statuses text[], queue text, kind text, error text, key text, newer interval, older interval,
    "after" uuid, last uuid, "limit" bigint) RETURNS SETOF uuid
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT j.id
FROM holdfast.jobs j
WHERE j.status = ANY ($1::text[])
  AND ($2::text IS NULL OR j.queue = $2)
  AND ($3::text IS NULL OR j.kind = $3)
  AND ($4::text IS NULL OR position(lower($4) IN lower(concat_ws(': ', j.error ->> 'type', j.error ->> 'message'))) > 0)
  AND ($5::text IS NULL OR $5 IN (j.unique_key, j.group_key, j.limit_key))
  AND ($6::interval IS NULL OR j.created_at >= (SELECT holdfast.clock()) - $6)
  AND ($7::interval IS NULL OR j.created_at < (SELECT holdfast.clock()) - $7)
  AND j.id > $8 AND j.id <= $9
ORDER BY j.id
LIMIT $10
$function$;

-- What a filter matches, for somebody who is about to act on it: at most `most` jobs are counted, by kind, queue and
-- status, with the age of the oldest and the newest id, behind which nothing is touched that comes later.
CREATE OR REPLACE FUNCTION holdfast.matching_jobs(statuses text[], queue text, kind text, error text, key text, newer interval, older interval,
    most bigint) RETURNS TABLE (job_kind text, job_queue text, status text, jobs bigint, oldest timestamptz, last_id uuid)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT m.kind, m.queue, m.status, count(*), min(m.created_at), max(m.id::text)::uuid
FROM (
    SELECT j.id, j.kind, j.queue, j.status, j.created_at
    FROM holdfast.jobs j
    WHERE j.status = ANY ($1::text[])
      AND ($2::text IS NULL OR j.queue = $2)
      AND ($3::text IS NULL OR j.kind = $3)
      AND ($4::text IS NULL OR position(lower($4) IN lower(concat_ws(': ', j.error ->> 'type', j.error ->> 'message'))) > 0)
      AND ($5::text IS NULL OR $5 IN (j.unique_key, j.group_key, j.limit_key))
      AND ($6::interval IS NULL OR j.created_at >= (SELECT holdfast.clock()) - $6)
      AND ($7::interval IS NULL OR j.created_at < (SELECT holdfast.clock()) - $7)
    ORDER BY j.id
    LIMIT $8) AS m
GROUP BY m.kind, m.queue, m.status
ORDER BY count(*) DESC, m.kind, m.queue, m.status
$function$;

-- The migrations on record. Only asked where the table exists.
CREATE OR REPLACE FUNCTION holdfast.migration_records() RETURNS TABLE (version integer, name text, checksum text, applied_at text)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT m.version, m.name, m.checksum, m.applied_at::text AS applied_at
FROM holdfast.schema_migrations m
ORDER BY m.version
$function$;

-- When keys were used last, to the minute: who else notes the same one at this moment does it for both.
CREATE OR REPLACE FUNCTION holdfast.note_api_key_use(ids text[]) RETURNS SETOF text
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
UPDATE holdfast.api_keys AS k
SET last_used_at = (SELECT holdfast.clock())
WHERE k.id = ANY (ARRAY(
    SELECT u.id FROM holdfast.api_keys u
    WHERE u.id = ANY ($1::text[])
      AND (u.last_used_at IS NULL OR u.last_used_at < (SELECT holdfast.clock()) - interval '1 minute')
    FOR UPDATE SKIP LOCKED))
RETURNING k.id
$function$;

-- The incidents of some kinds that are open, the oldest first, as `dead_letter_groups` has them; and those that were resolved
-- within the last hour: what comes back soon is the same incident again.
CREATE OR REPLACE FUNCTION holdfast.open_incidents(kinds text[])
    RETURNS TABLE (kind text, key text, title text, arrivals bigint, open_for numeric, id uuid, version bigint, status text,
    level integer, untold bigint, told_ago numeric, repeats integer, clean integer, clean_for numeric, reopened integer,
    acknowledged boolean, silenced boolean)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT i.kind, i.key, i.title, i.arrivals, extract(epoch FROM c.now - coalesce(i.reopened_at, i.opened_at)), i.id, i.version, i.status,
       i.level, i.untold, extract(epoch FROM c.now - i.told_at), i.repeats, i.clean, extract(epoch FROM c.now - i.clean_since),
       i.reopened, i.acknowledged_at IS NOT NULL, coalesce(i.silenced_until > c.now, false)
FROM (SELECT holdfast.clock() AS now) c
CROSS JOIN LATERAL (
    (SELECT o.* FROM holdfast.incidents o
     WHERE o.status = 'open' AND o.kind = ANY ($1::text[])
     ORDER BY o.opened_at, o.key
     LIMIT 1000)
    UNION ALL
    (SELECT r.* FROM holdfast.incidents r
     WHERE r.status = 'resolved' AND r.kind = ANY ($1::text[]) AND r.changed_at > c.now - interval '1 hour'
       AND NOT EXISTS (SELECT FROM holdfast.incidents o WHERE o.kind = r.kind AND o.key = r.key AND o.status = 'open')
     ORDER BY r.changed_at DESC
     LIMIT 1000)) i
ORDER BY i.status, i.changed_at DESC
$function$;

-- A channel asked for a pause: nobody delivers anything to it until then.
CREATE OR REPLACE FUNCTION holdfast.pause_channel(channel text, pause interval) RETURNS SETOF text
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
UPDATE holdfast.monitors AS m
SET last_result = coalesce(m.last_result, '{}') || jsonb_build_object('paused',
        coalesce(m.last_result -> 'paused', '{}')
        || jsonb_build_object($1::text, (SELECT holdfast.clock()) + $2::interval))
WHERE m.name = 'deliver_notifications'
RETURNING m.name
$function$;

-- Pause queues, or resume them. Claims read it; a job that runs already goes on.
CREATE OR REPLACE FUNCTION holdfast.pause_queues(names text[], paused boolean) RETURNS SETOF text
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
INSERT INTO holdfast.queues AS q (name, paused, created_at)
SELECT DISTINCT n.name, $2::boolean, (SELECT holdfast.clock()) FROM unnest($1::text[]) AS n (name) ORDER BY 1
ON CONFLICT (name) DO UPDATE SET paused = EXCLUDED.paused
RETURNING q.name
$function$;

-- Pause a schedule, or resume it: then it goes on with the next tick, and what it missed in between stays missed.
CREATE OR REPLACE FUNCTION holdfast.pause_schedule(name text, paused boolean, next_at timestamptz) RETURNS SETOF text
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
UPDATE holdfast.schedules AS s
SET paused = $2, next_at = coalesce($3::timestamptz, s.next_at)
WHERE s.name = $1
RETURNING s.name
$function$;

-- Does the ledger answer? Its clock, and the newest migration on record.
CREATE OR REPLACE FUNCTION holdfast.ping() RETURNS TABLE (clock timestamptz, schema_version integer)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT holdfast.clock(), (SELECT max(m.version) FROM holdfast.schema_migrations m)
$function$;

-- Does find_stale_jobs() work?
CREATE OR REPLACE FUNCTION holdfast.probe_find_stale_jobs() RETURNS SETOF bigint
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT count(*) FROM holdfast.find_stale_jobs()
$function$;

-- Is the rate limiter's table there, and may we read it? Counted to 1,000.
CREATE OR REPLACE FUNCTION holdfast.probe_rate_limit_requests() RETURNS SETOF bigint
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT count(*) FROM (SELECT FROM holdfast.rate_limit_requests LIMIT 1000) r
$function$;

-- Does the view of stuck jobs work?
CREATE OR REPLACE FUNCTION holdfast.probe_stale_jobs_view() RETURNS SETOF bigint
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT count(*) FROM holdfast.stale_jobs_view
$function$;

-- Who is always admitted, who never, and who has other limits.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_rules(key uuid, "limit" bigint)
    RETURNS TABLE (policy text, identity uuid, verdict text, limits text[], until timestamptz, note text)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT r.policy, r.key, r.verdict,
       ARRAY(SELECT l.most || ';w=' || trim_scale(round(l.span / 1e6, 6)) || CASE l.kind WHEN 'log' THEN '' ELSE ';' || l.kind END
             FROM unnest(r.mosts, r.spans, r.kinds) WITH ORDINALITY AS l (most, span, kind, n) ORDER BY l.n),
       r.until, r.note
FROM holdfast.rate_limit_rules r
WHERE (r.key = $1::uuid OR $1::uuid IS NULL) AND (r.until IS NULL OR r.until > (SELECT holdfast.clock()))
ORDER BY r.created_at DESC, r.policy, r.key
LIMIT $2
$function$;

-- How the table of the counts is. An old transaction anywhere in its database keeps dead versions of hot rows alive, and
-- slows them; those of other databases and of vacuums do not.
CREATE OR REPLACE FUNCTION holdfast.rate_limit_table()
    RETURNS TABLE (identities bigint, table_bytes bigint, index_bytes bigint, hot_ratio double precision, dead_rows bigint,
    oldest_transaction interval, oldest_pid integer, instances integer, is_full boolean)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT s.n_live_tup, pg_relation_size(s.relid), pg_indexes_size(s.relid),
       s.n_tup_hot_upd::double precision / nullif(s.n_tup_upd, 0), s.n_dead_tup, t.age, t.pid,
       (SELECT count(*)::integer FROM holdfast.rate_limit_instances i
        WHERE i.seen_at > (SELECT holdfast.clock()) - interval '10 s'),
       (SELECT st.is_full FROM holdfast.rate_limit_state st)
FROM pg_stat_user_tables s
LEFT JOIN LATERAL (
    SELECT clock_timestamp() - a.xact_start AS age, a.pid FROM pg_stat_activity a
    WHERE a.backend_xmin IS NOT NULL AND a.xact_start IS NOT NULL AND a.pid <> pg_backend_pid()
      AND a.datname = current_database() AND a.backend_type <> 'autovacuum worker'
    ORDER BY age(a.backend_xmin) DESC, a.xact_start LIMIT 1) t ON true
WHERE s.relid = 'holdfast.rate_limit_requests'::regclass
$function$;

-- Forget a schedule.
CREATE OR REPLACE FUNCTION holdfast.remove_schedule(name text) RETURNS SETOF text
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DELETE FROM holdfast.schedules AS s WHERE s.name = $1 RETURNING s.name
$function$;

-- From now on this key opens nothing. The row stays: it says who had it, and that keys are in use here.
CREATE OR REPLACE FUNCTION holdfast.revoke_api_key(id text)
    RETURNS TABLE (key_id text, key_name text, key_role text, created_at timestamptz, expires_at timestamptz,
    revoked_at timestamptz, last_used_at timestamptz)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
UPDATE holdfast.api_keys AS k
SET revoked_at = coalesce(k.revoked_at, (SELECT holdfast.clock()))
WHERE k.id = $1
RETURNING k.id, k.name, k.role, k.created_at, k.expires_at, k.revoked_at, k.last_used_at
$function$;

-- Ring: tell whoever listens that these queues have work.
CREATE OR REPLACE FUNCTION holdfast.ring(queues text[]) RETURNS SETOF text
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT q FROM unnest($1::text[]) AS q CROSS JOIN LATERAL pg_notify('holdfast_bell', q) AS n
$function$;

-- Where the job of a run stands, while its lease is still the newest.
CREATE OR REPLACE FUNCTION holdfast.run_status(worker_id uuid, id uuid, lease bigint) RETURNS SETOF text
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT j.status
FROM holdfast.jobs j
WHERE j.id = $2 AND j.lease = $3 AND j.worker_id = $1
$function$;

-- Is there a schema of our name, and is it ours? Needs nothing of it: this is asked of databases that have none.
CREATE OR REPLACE FUNCTION holdfast.schema_owner()
    RETURNS TABLE (has_schema boolean, has_objects boolean, has_records boolean, server_version integer)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT n.oid IS NOT NULL AS has_schema,
       EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid)
           OR EXISTS (SELECT FROM pg_catalog.pg_proc p WHERE p.pronamespace = n.oid) AS has_objects,
       (SELECT count(*) FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
        WHERE c.relnamespace = n.oid AND c.relname = 'schema_migrations' AND NOT a.attisdropped
          AND a.attname IN ('version', 'name', 'checksum', 'applied_at')) = 4 AS has_records,
       current_setting('server_version_num')::integer AS server_version
FROM (SELECT) AS one
LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = 'holdfast'
$function$;

-- One identity under all policies in use.
CREATE OR REPLACE FUNCTION holdfast.show_rate_limits(key uuid)
    RETURNS TABLE (policy_name text, identity uuid, admitted bigint, last_at timestamptz, refused bigint, free_at timestamptz)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT r.policy, r.key,
       CASE WHEN r.expires_at > (SELECT holdfast.clock())
            THEN coalesce(r.sums[cardinality(r.sums)], r.base) - r.base ELSE 0 END,
       to_timestamp(r.stamps[cardinality(r.stamps)] / 1e6), r.refused, r.expires_at
FROM holdfast.rate_limit_requests r
WHERE r.key = $1
ORDER BY r.policy
LIMIT 1000
$function$;

-- Is a suspect due in one of these queues? Then a quarantine process must be started for it.
CREATE OR REPLACE FUNCTION holdfast.suspects_waiting(queues text[], kinds text[]) RETURNS SETOF boolean
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT EXISTS (
    SELECT FROM unnest($1::text[]) AS q (name)
    CROSS JOIN unnest($2::text[]) AS k (name)
    CROSS JOIN LATERAL (
        SELECT FROM holdfast.jobs j
        WHERE j.status = 'queued' AND j.queue = q.name AND j.kind = k.name AND j.lane = '!'
          AND j.run_at <= (SELECT holdfast.clock())
        LIMIT 1) probe)
$function$;

-- Who is refused most, of those that the pruner has not forgotten.
CREATE OR REPLACE FUNCTION holdfast.top_rate_limits(policy text, "limit" bigint)
    RETURNS TABLE (policy_name text, identity uuid, admitted bigint, last_at timestamptz, refused bigint, free_at timestamptz)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT r.policy, r.key,
       CASE WHEN r.expires_at > (SELECT holdfast.clock())
            THEN coalesce(r.sums[cardinality(r.sums)], r.base) - r.base ELSE 0 END,
       to_timestamp(r.stamps[cardinality(r.stamps)] / 1e6), r.refused, r.expires_at
FROM holdfast.rate_limit_requests r
WHERE r.refused > 0 AND (r.policy = $1::text OR $1::text IS NULL)
ORDER BY r.refused DESC, r.policy, r.key
LIMIT $2
$function$;

-- A service that ends cleanly takes its row with it.
CREATE OR REPLACE FUNCTION holdfast.withdraw_service(id uuid) RETURNS SETOF uuid
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DELETE FROM holdfast.services AS s WHERE s.id = $1 RETURNING s.id
$function$;

-- What the schema consists of, a line each object: what `migrate verify` compares with what this version's files make.
-- The same text on Postgres 15 to 18: not null is told with the column, a function by the hash of its body, whose line ends
-- are what an editor or a browser made of them. Grants are told
-- for the roles that matter and are there.
-- A function, since how Postgres prints an expression depends on the search path, which is pinned here.
CREATE OR REPLACE FUNCTION holdfast.schema_catalog() RETURNS TABLE (kind text, name text, definition text)
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    WITH ours AS (
        SELECT n.nspname || '.' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' AS name, p.*
        FROM pg_catalog.pg_proc p
        JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = 'holdfast' OR (n.nspname = 'public' AND (p.proname ^@ 'holdfast_'
              OR p.proname = 'find_stale_jobs' AND p.prosrc LIKE '%holdfast.find_stale_jobs(%'))
    ), relations AS (
        SELECT n.nspname || '.' || c.relname AS name, c.*
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'holdfast' OR (n.nspname = 'public' AND c.relname = 'stale_jobs_view' AND c.relkind = 'v'
              AND pg_get_viewdef(c.oid) LIKE '%holdfast.find_stale_jobs(%')
    ), roles AS (
        SELECT r.oid, r.rolname AS name FROM pg_catalog.pg_roles r
        WHERE r.rolname IN ('holdfast_app', 'service_role', 'anon', 'authenticated')
        UNION ALL SELECT 0, 'PUBLIC'
    )
    SELECT 'table' AS kind, r.name, concat_ws(', ',
               CASE WHEN r.relrowsecurity THEN 'row level security' END, array_to_string(r.reloptions, ', ')) AS definition
    FROM relations r WHERE r.relkind IN ('r', 'p')
    UNION ALL
    SELECT 'column', r.name || '.' || a.attname, concat_ws(' ',
               format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'NOT NULL' END,
               CASE WHEN l.collname <> 'default' THEN 'COLLATE ' || l.collname END,
               CASE a.attidentity WHEN 'a' THEN 'IDENTITY ALWAYS' WHEN 'd' THEN 'IDENTITY BY DEFAULT' END,
               CASE WHEN a.attgenerated = 's' THEN 'GENERATED' WHEN a.attgenerated <> '' THEN 'VIRTUAL' WHEN d.oid IS NOT NULL THEN 'DEFAULT' END,
               pg_get_expr(d.adbin, d.adrelid))
    FROM relations r
    JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
    LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
    WHERE r.relkind IN ('r', 'p', 'v')
    UNION ALL
    SELECT 'constraint', r.name || '.' || k.conname, pg_get_constraintdef(k.oid)
    FROM relations r JOIN pg_catalog.pg_constraint k ON k.conrelid = r.oid WHERE k.contype <> 'n'
    UNION ALL
    SELECT 'index', r.name, pg_get_indexdef(r.oid) || CASE WHEN i.indisvalid THEN '' ELSE ' INVALID' END
    FROM relations r JOIN pg_catalog.pg_index i ON i.indexrelid = r.oid WHERE r.relkind IN ('i', 'I')
    UNION ALL
    SELECT 'view', r.name, concat_ws(', ', array_to_string(r.reloptions, ', '), md5(pg_get_viewdef(r.oid)))
    FROM relations r WHERE r.relkind = 'v'
    UNION ALL
    SELECT 'function', o.name, concat_ws(', ',
               pg_get_function_result(o.oid), CASE o.provolatile WHEN 'v' THEN 'volatile' WHEN 's' THEN 'stable' ELSE 'immutable' END,
               CASE WHEN o.prosecdef THEN 'security definer' END, array_to_string(o.proconfig, ', '),
               pg_get_expr(o.proargdefaults, 0), md5(replace(o.prosrc, chr(13), '')))
    FROM ours o
    UNION ALL
    SELECT 'policy', r.name || '.' || y.polname, concat_ws(', ',
               y.polcmd, (SELECT string_agg(CASE g WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(g) END, ' ') FROM unnest(y.polroles) AS g),
               pg_get_expr(y.polqual, y.polrelid), pg_get_expr(y.polwithcheck, y.polrelid))
    FROM relations r JOIN pg_catalog.pg_policy y ON y.polrelid = r.oid
    UNION ALL
    SELECT 'grant', g.name || ' on ' || r.name, string_agg(x.privilege_type, ', ' ORDER BY x.privilege_type)
    FROM relations r
    CROSS JOIN LATERAL aclexplode(r.relacl) AS x
    JOIN roles g ON g.oid = x.grantee
    WHERE r.relkind IN ('r', 'p', 'v', 'S')
    GROUP BY g.name, r.name
    UNION ALL
    SELECT 'grant', g.name || ' on ' || o.name, string_agg(x.privilege_type, ', ' ORDER BY x.privilege_type)
    FROM ours o
    CROSS JOIN LATERAL aclexplode(coalesce(o.proacl, acldefault('f', o.proowner))) AS x
    JOIN roles g ON g.oid = x.grantee
    GROUP BY g.name, o.name
    UNION ALL
    SELECT 'grant', g.name || ' on schema holdfast', string_agg(x.privilege_type, ', ' ORDER BY x.privilege_type)
    FROM pg_catalog.pg_namespace n
    CROSS JOIN LATERAL aclexplode(n.nspacl) AS x
    JOIN roles g ON g.oid = x.grantee
    WHERE n.nspname = 'holdfast'
    GROUP BY g.name
    UNION ALL
    SELECT 'role', g.name, '' FROM roles g WHERE g.oid <> 0
$function$;

-- What can be called over HTTPS: the protocol's functions, the monitors', the limiter's, and what health and verify read.
-- PostgREST keeps a list of what there is; where it listens, it makes a new one.
SELECT holdfast.expose_functions(ARRAY[
    'adopt_notifications', 'announce_channels', 'announce_service', 'beat', 'begin_looks', 'begin_sweep',
    'cancel_jobs', 'capture_dead_letters', 'change_redrive', 'check_leases', 'check_rate_limit', 'claim',
    'claim_notifications', 'claim_redrive', 'collect_dead_jobs', 'count_events', 'create_api_key',
    'dead_jobs_expiring', 'dead_letter_groups', 'declare_schedules', 'discard_dead_letters', 'end_look',
    'end_sweep', 'enqueue', 'enqueue_jobs', 'enqueue_many', 'enqueue_once', 'enqueue_one', 'enqueue_plain_jobs',
    'enqueue_request', 'find_stale_jobs', 'health_dead', 'health_jobs', 'health_limits', 'health_monitors',
    'health_queues', 'health_report', 'health_server', 'health_stale', 'health_told', 'health_workers',
    'incident_ack', 'incident_history', 'incident_silence', 'job', 'job_events', 'job_outcomes', 'key_ring',
    'last_sweep', 'letter_groups', 'letter_history', 'list_api_keys', 'list_dead_letter_queues', 'list_incidents',
    'list_jobs', 'list_letters', 'list_queues', 'list_rate_limits', 'list_redrives', 'list_schedules',
    'list_services', 'list_workers', 'live_kinds', 'locked_stale_jobs', 'mark_workers_gone', 'matching_ids',
    'matching_jobs', 'migration_records', 'note_api_key_use', 'note_dead_letters', 'note_job_stats',
    'note_moved_letters', 'oldest_transaction', 'open_incidents', 'pause_channel', 'pause_queues', 'pause_schedule',
    'ping', 'probe_find_stale_jobs', 'probe_rate_limit_requests', 'probe_stale_jobs_view', 'progress', 'prune',
    'prune_bookkeeping', 'prune_letters', 'queues_to_ring', 'rate_limit_beat', 'rate_limit_hits', 'rate_limit_key',
    'rate_limit_leave', 'rate_limit_peek', 'rate_limit_prune', 'rate_limit_refund', 'rate_limit_reset',
    'rate_limit_rules', 'rate_limit_set_rule', 'rate_limit_table', 'record_incidents', 'redrive_dead_letters',
    'redrive_jobs', 'register_worker', 'release_lost_claims', 'remove_schedule', 'rescue_stale_jobs', 'retry_jobs',
    'revoke_api_key', 'ring', 'run_status', 'schema_catalog', 'schema_owner', 'settle', 'settle_notification',
    'settle_redrive_messages', 'show_letter', 'show_rate_limits', 'suspects_waiting', 'take_redrive_messages',
    'tick_schedule', 'top_rate_limits', 'withdraw_service']);
NOTIFY pgrst, 'reload schema';

SELECT holdfast.expose_functions(ARRAY['schema_catalog']);
NOTIFY pgrst, 'reload schema';

SELECT holdfast.secure_schema();
-- end of migration body
    $migration$;
-- The checksum below covers every byte above this line.
    INSERT INTO holdfast.schema_migrations (version, name, checksum)
    VALUES (10, '010_functions_over_https', 'f93e4fde5c5cba7bc5f22e851ee64233fb937f7fe05dddb015b3c4a4230428d8');
END
$holdfast$;
