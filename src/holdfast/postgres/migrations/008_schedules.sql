-- Holdfast migration 008_schedules
-- To apply it by hand: paste the whole file into a SQL editor and run it, or: psql -f 008_schedules.sql
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
        IF EXISTS (SELECT FROM holdfast.schema_migrations WHERE version = 8) THEN
            RETURN;
        END IF;
    END IF;
    EXECUTE $migration$
-- migration body
-- Periodic jobs, one row each. `next_at` is when it ticks next: whoever advances it from the value that it has seen, in
-- the transaction that writes the job, has the tick; nobody else can have it too.
-- `declared_at`: when a worker whose program declares it, with this definition, last said so. A schedule that nobody
-- declares any more is kept to be seen, and never ticks, for only who declares it advances it.
CREATE TABLE IF NOT EXISTS holdfast.schedules (
    name        text        COLLATE "C" NOT NULL PRIMARY KEY,
    cron        text        NOT NULL,
    time_zone   text        NOT NULL,
    queue       text        COLLATE "C" NOT NULL,
    kind        text        COLLATE "C" NOT NULL,
    args        jsonb       NOT NULL,
    overlap     boolean     NOT NULL DEFAULT false,
    paused      boolean     NOT NULL DEFAULT false,
    next_at     timestamptz NOT NULL,
    last_at     timestamptz,
    last_job_id uuid,
    last_result text,
    declared_at timestamptz NOT NULL,
    created_at  timestamptz NOT NULL,
    CONSTRAINT schedules_last_result CHECK (last_result IN ('enqueued', 'overlapped'))
) WITH (fillfactor = 50);

-- A worker says which schedules its program declares, and learns when each ticks next.
-- schedules: [{name, cron, time_zone, queue, kind, args, overlap, first_at}], first_at being the first tick from now on.
-- A new one begins there; one whose cron or time zone has changed, too.
--
-- While a deployment replaces programs one by one, two definitions of one name meet. A worker that starts brings its own
-- (opts: {takeover: true}); the others find that the row is no longer theirs (`is_ours` false) and leave it alone. Should
-- the last one to start have been an old program, nobody declares its definition once it has ended: after 60 s of that
-- whoever still declares the name takes the row over.
-- `declared_at` is written at most each 15 s, whatever the number of workers.
CREATE OR REPLACE FUNCTION holdfast.declare_schedules(schedules jsonb, opts jsonb DEFAULT '{}')
RETURNS TABLE (name text, next_at timestamptz, is_ours boolean, paused boolean, clock timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now      timestamptz := holdfast.clock();
    _takeover boolean := coalesce((opts ->> 'takeover')::boolean, false);
BEGIN
    INSERT INTO holdfast.schedules AS s
        (name, cron, time_zone, queue, kind, args, overlap, next_at, declared_at, created_at)
    SELECT d.name, d.cron, d.time_zone, d.queue, d.kind, coalesce(d.args, '{}'), coalesce(d.overlap, false), d.first_at,
           _now, _now
    FROM jsonb_to_recordset(declare_schedules.schedules) AS d (
        name text, cron text, time_zone text, queue text, kind text, args jsonb, overlap boolean, first_at timestamptz)
    ORDER BY d.name
    ON CONFLICT (name) DO UPDATE
    SET cron = EXCLUDED.cron,
        time_zone = EXCLUDED.time_zone,
        queue = EXCLUDED.queue,
        kind = EXCLUDED.kind,
        args = EXCLUDED.args,
        overlap = EXCLUDED.overlap,
        next_at = CASE WHEN (s.cron, s.time_zone) = (EXCLUDED.cron, EXCLUDED.time_zone)
                       THEN s.next_at ELSE EXCLUDED.next_at END,
        declared_at = _now
    WHERE CASE
        WHEN (s.cron, s.time_zone, s.queue, s.kind, s.args, s.overlap)
             = (EXCLUDED.cron, EXCLUDED.time_zone, EXCLUDED.queue, EXCLUDED.kind, EXCLUDED.args, EXCLUDED.overlap)
        THEN s.declared_at < _now - interval '15 seconds'
        ELSE _takeover OR s.declared_at < _now - interval '60 seconds' END;

    RETURN QUERY
    SELECT s.name, s.next_at,
           (s.cron, s.time_zone, s.queue, s.kind, s.args, s.overlap)
           = (d.cron, d.time_zone, d.queue, d.kind, coalesce(d.args, '{}'), coalesce(d.overlap, false)),
           s.paused, _now
    FROM jsonb_to_recordset(declare_schedules.schedules) AS d (
        name text, cron text, time_zone text, queue text, kind text, args jsonb, overlap boolean)
    JOIN holdfast.schedules s ON s.name = d.name;
END
$function$;

-- One tick of a schedule, over all processes: the compare-and-set on next_at and the job are one transaction. Whoever
-- comes second finds another next_at and has lost. `next_at` is the first tick after now, not after `seen_at`: so the
-- ticks of an outage become one.
-- Where jobs of a schedule must not overlap, a tick finds that of the tick before still queued or running, and passes.
-- opts: as of enqueue. Verdict: enqueued (job_id is the new one) | overlapped (job_id is the one before) | lost.
CREATE OR REPLACE FUNCTION holdfast.tick_schedule(
    name text, seen_at timestamptz, next_at timestamptz, id uuid, args jsonb, opts jsonb DEFAULT '{}'
) RETURNS TABLE (verdict text, job_id uuid)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now      timestamptz := holdfast.clock();
    _schedule record;
    _job      record;
BEGIN
    UPDATE holdfast.schedules AS s
    SET next_at = tick_schedule.next_at, last_at = tick_schedule.seen_at
    WHERE s.name = tick_schedule.name AND s.next_at = tick_schedule.seen_at AND s.next_at <= _now AND NOT s.paused
    RETURNING s.queue, s.kind, s.overlap, s.last_job_id INTO _schedule;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'lost', NULL::uuid;
        RETURN;
    END IF;

    IF NOT _schedule.overlap THEN
        SELECT j.id AS job_id, false AS created INTO _job
        FROM holdfast.jobs j
        WHERE j.id = _schedule.last_job_id AND j.status IN ('queued', 'running');
    END IF;
    IF _schedule.overlap OR NOT FOUND THEN
        SELECT e.job_id, e.created INTO _job
        FROM holdfast.enqueue(tick_schedule.id, _schedule.queue, _schedule.kind, tick_schedule.args, tick_schedule.opts) AS e;
    END IF;

    UPDATE holdfast.schedules AS s
    SET last_job_id = _job.job_id, last_result = CASE WHEN _job.created THEN 'enqueued' ELSE 'overlapped' END
    WHERE s.name = tick_schedule.name;
    RETURN QUERY SELECT CASE WHEN _job.created THEN 'enqueued' ELSE 'overlapped' END, _job.job_id;
END
$function$;

REVOKE ALL ON SCHEMA holdfast FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA holdfast FROM PUBLIC;
-- end of migration body
    $migration$;
-- The checksum below covers every byte above this line.
    INSERT INTO holdfast.schema_migrations (version, name, checksum)
    VALUES (8, '008_schedules', '2ca1625c08698dbcea0a83a9ba506e13f8cdd82f4986f669b517bfbc23232ce8');
END
$holdfast$;
