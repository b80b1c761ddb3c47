-- Holdfast migration 002_workers
-- To apply it by hand: paste the whole file into a SQL editor and run it, or: psql -f 002_workers.sql
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
        IF EXISTS (SELECT FROM holdfast.schema_migrations WHERE version = 2) THEN
            RETURN;
        END IF;
    END IF;
    EXECUTE $migration$
-- migration body
-- One row a worker process; a new id at every start, never a host name. `seen_at` is the last beat: not indexed,
-- so that a beat is one HOT update of a row that nobody else writes.
CREATE TABLE IF NOT EXISTS holdfast.workers (
    id            uuid        NOT NULL PRIMARY KEY,
    supervisor_id uuid,
    host          text        NOT NULL,
    pid           integer     NOT NULL,
    parent_pid    integer     NOT NULL DEFAULT 0,
    version       text        NOT NULL DEFAULT '',
    queues        text[]      NOT NULL,
    kinds         text[]      NOT NULL,
    slots         integer     NOT NULL,
    quarantine    boolean     NOT NULL DEFAULT false,
    lost_after    interval    NOT NULL DEFAULT '25 seconds',
    started_at    timestamptz NOT NULL,
    seen_at       timestamptz NOT NULL,
    loop_lag      interval,
    running       integer     NOT NULL DEFAULT 0,
    draining      boolean     NOT NULL DEFAULT false,
    gone_at       timestamptz,
    gone_reason   text,
    gone_is_crash boolean     NOT NULL DEFAULT false,
    CONSTRAINT workers_gone_reason CHECK (gone_reason IN ('stopped', 'crashed', 'lapsed', 'fenced', 'replaced'))
) WITH (fillfactor = 50);

CREATE TABLE IF NOT EXISTS holdfast.queues (
    name       text        COLLATE "C" NOT NULL PRIMARY KEY,
    paused     boolean     NOT NULL DEFAULT false,
    limits     jsonb       NOT NULL DEFAULT '{}',
    rung_at    timestamptz,
    claimed_at timestamptz,
    created_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- One row a monitor, over all processes: who sweeps next is decided by a compare-and-set on `swept_at`.
-- `every` is how often it is meant to sweep, as whoever swept last has it. `resumed_at` and `hold` belong to the brake (see
-- the function mark_workers_gone); `last_result` says in a few numbers what the last sweep came to.
CREATE TABLE IF NOT EXISTS holdfast.monitors (
    name        text        COLLATE "C" NOT NULL PRIMARY KEY,
    every       interval,
    swept_at    timestamptz,
    resumed_at  timestamptz,
    hold        jsonb,
    last_result jsonb
) WITH (fillfactor = 50);

INSERT INTO holdfast.monitors (name) VALUES ('mark_workers_gone'), ('rescue_stale_jobs'), ('prune'), ('count_events')
ON CONFLICT (name) DO NOTHING;
-- end of migration body
    $migration$;
-- The checksum below covers every byte above this line.
    INSERT INTO holdfast.schema_migrations (version, name, checksum)
    VALUES (2, '002_workers', 'a3aea93956698cd1e4812736ddb72e3134fc830a149956699593d5ad7a6f20ba');
END
$holdfast$;
