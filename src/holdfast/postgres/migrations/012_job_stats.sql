-- Holdfast migration 012_job_stats
-- To apply it by hand: paste the whole file into a SQL editor and run it, or: psql -f 012_job_stats.sql
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
        IF EXISTS (SELECT FROM holdfast.schema_migrations WHERE version = 12) THEN
            RETURN;
        END IF;
    END IF;
    EXECUTE $migration$
-- migration body
-- What became of jobs: counts and histograms by minute, queue and kind, told by workers with their beats, so that no health
-- check and no metric counts rows of jobs. The row whose minute is 'infinity' holds the totals of its queue and kind.
CREATE TABLE IF NOT EXISTS holdfast.job_stats (
    minute    timestamptz      NOT NULL,
    queue     text             COLLATE "C" NOT NULL,
    kind      text             COLLATE "C" NOT NULL,
    succeeded bigint           NOT NULL DEFAULT 0,
    failed    bigint           NOT NULL DEFAULT 0,
    dead      bigint           NOT NULL DEFAULT 0,
    cancelled bigint           NOT NULL DEFAULT 0,
    waited    double precision NOT NULL DEFAULT 0,
    ran       double precision NOT NULL DEFAULT 0,
    waits     bigint[]         NOT NULL,
    runs      bigint[]         NOT NULL,
    last_at   timestamptz      NOT NULL,
    PRIMARY KEY (minute, queue, kind)
) WITH (fillfactor = 50);

-- The number of the last counts that a worker told: a repetition is known by it.
ALTER TABLE holdfast.workers ADD COLUMN IF NOT EXISTS stats_number bigint NOT NULL DEFAULT 0;
-- end of migration body
    $migration$;
-- The checksum below covers every byte above this line.
    INSERT INTO holdfast.schema_migrations (version, name, checksum)
    VALUES (12, '012_job_stats', '602258840cb843865fa9dda6138be9ea19ba5dd456b783ce76b55fec6ebb7bc8');
END
$holdfast$;
