-- Holdfast migration 005_find_stale_jobs_function
-- To apply it by hand: paste the whole file into a SQL editor and run it, or: psql -f 005_find_stale_jobs_function.sql
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
        IF EXISTS (SELECT FROM holdfast.schema_migrations WHERE version = 5) THEN
            RETURN;
        END IF;
    END IF;
    EXECUTE $migration$
-- migration body
-- Running jobs that somebody must take back, with the reason: the one place that says what "stuck" is.
--   worker_gone      its worker was declared gone (or its row no longer exists)
--   deadline_passed  the worker should have stopped it 30 s ago
--   no_heartbeat     it owes heartbeats and sent none for `silent_after`, or gave no sign of life at all for
--                    `stale_after`
-- One pass over the partial index on running rows, which is as long as there are slots in the fleet. Keyset:
-- (after_worker, after_id), so that a long rescue never walks over the dead entries of what it rescued before.
-- `only_gone` leaves out what silence alone says (see the brake in mark_workers_gone).
CREATE OR REPLACE FUNCTION holdfast.stale_jobs(
    stale_after interval, max_jobs integer, only_gone boolean, after_worker uuid, after_id uuid
) RETURNS TABLE (
    id uuid, queue text, kind text, lease bigint, worker_id uuid, reason text,
    claimed_at timestamptz, heartbeat_at timestamptz, deadline_at timestamptz, worker_seen_at timestamptz)
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
    _now timestamptz := holdfast.clock();
BEGIN
    RETURN QUERY
    SELECT j.id, j.queue, j.kind, j.lease, j.worker_id, r.reason, j.claimed_at, j.heartbeat_at, j.deadline_at, w.seen_at
    FROM holdfast.jobs j
    LEFT JOIN holdfast.workers w ON w.id = j.worker_id
    CROSS JOIN LATERAL (SELECT CASE
        WHEN w.id IS NULL OR w.gone_at IS NOT NULL THEN 'worker_gone'
        WHEN j.deadline_at < _now THEN 'deadline_passed'
        WHEN j.heartbeat_at < _now - least(j.silent_after, stale_jobs.stale_after) THEN 'no_heartbeat'
        END AS reason) r
    WHERE j.status = 'running'
      AND (j.worker_id, j.id) > (stale_jobs.after_worker, stale_jobs.after_id)
      AND r.reason IS NOT NULL
      AND (r.reason = 'worker_gone' OR NOT stale_jobs.only_gone)
    ORDER BY j.worker_id, j.id
    LIMIT stale_jobs.max_jobs;
END
$function$;

-- Which jobs are stuck right now, and why; for people, dashboards and monitors. Changes nothing.
-- `silent_for` is the time since the last sign of life.
CREATE OR REPLACE FUNCTION holdfast.find_stale_jobs(stale_after interval DEFAULT '10 minutes')
RETURNS TABLE (
    id uuid, queue text, kind text, reason text, lease bigint, worker_id uuid, claimed_at timestamptz,
    last_sign_of_life timestamptz, silent_for interval)
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT s.id, s.queue, s.kind, s.reason, s.lease, s.worker_id, s.claimed_at, l.seen, (SELECT holdfast.clock()) - l.seen
    FROM holdfast.stale_jobs(stale_after, 10000, false, '00000000-0000-0000-0000-000000000000',
                             '00000000-0000-0000-0000-000000000000') AS s
    CROSS JOIN LATERAL (SELECT CASE s.reason
        WHEN 'worker_gone' THEN greatest(s.heartbeat_at, s.worker_seen_at) ELSE s.heartbeat_at END AS seen) AS l
$function$;

-- One sweep: find what is stuck (stale_jobs decides that) and take it back (rescue_jobs decides what becomes of it).
-- Rows that moved on between the two are left alone: the lease and the last sign of life must still be what was read.
-- While the brake holds, or when nobody has swept for 15 s (so that the brake cannot know), only jobs of gone workers
-- are taken: silence proves nothing then. Returns at most max_jobs rows; call again, behind
-- the last of them, until none comes back (fewer may only mean that a row was locked).
-- opts: {after_worker, after_id} to go on behind the last row of the call before, dice.
CREATE OR REPLACE FUNCTION holdfast.rescue_stale_jobs(
    stale_after interval DEFAULT '10 minutes', max_jobs integer DEFAULT 1000, opts jsonb DEFAULT '{}'
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
    _now     timestamptz := holdfast.clock();
    _zero    CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    _held    boolean;
    _ids     uuid[];
    _leases  bigint[];
    _reasons text[];
    _seen    timestamptz[];
BEGIN
    SELECT m.swept_at IS NULL OR m.swept_at < _now - interval '15 seconds'
           OR m.resumed_at > _now - interval '25 seconds'
           OR (SELECT holdfast.postgres_started_at()) BETWEEN _now - interval '25 seconds' AND _now
           OR (m.hold IS NOT NULL AND NOT m.hold ? 'ended')
    INTO _held
    FROM holdfast.monitors m WHERE m.name = 'mark_workers_gone';

    SELECT array_agg(s.id), array_agg(s.lease), array_agg(s.reason), array_agg(s.heartbeat_at)
    INTO _ids, _leases, _reasons, _seen
    FROM holdfast.stale_jobs(stale_after, max_jobs, coalesce(_held, true),
                             coalesce((opts ->> 'after_worker')::uuid, _zero),
                             coalesce((opts ->> 'after_id')::uuid, _zero)) AS s;

    RETURN QUERY
    SELECT * FROM holdfast.rescue_jobs(_ids, _leases, _reasons, opts, _seen);
END
$function$;

-- find_stale_jobs() with its default threshold, for people and dashboards: SELECT * FROM holdfast.stale_jobs_view.
DROP VIEW IF EXISTS holdfast.stale_jobs_view;
CREATE VIEW holdfast.stale_jobs_view WITH (security_invoker = true) AS
SELECT s.id, s.queue, s.kind, s.reason, s.silent_for, s.last_sign_of_life, s.claimed_at, s.lease, s.worker_id, w.host, w.pid
FROM holdfast.find_stale_jobs() AS s
LEFT JOIN holdfast.workers w ON w.id = s.worker_id;

REVOKE ALL ON SCHEMA holdfast FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA holdfast FROM PUBLIC;
-- end of migration body
    $migration$;
-- The checksum below covers every byte above this line.
    INSERT INTO holdfast.schema_migrations (version, name, checksum)
    VALUES (5, '005_find_stale_jobs_function', '4675dce1d9149f5090111716c4981181e205d7482fe2a4f5ed3b4747e1df61c2');
END
$holdfast$;
