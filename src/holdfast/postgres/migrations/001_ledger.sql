-- Holdfast migration 001_ledger
-- To apply it by hand: paste the whole file into a SQL editor and run it, or: psql -f 001_ledger.sql
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
        IF EXISTS (SELECT FROM holdfast.schema_migrations WHERE version = 1) THEN
            RETURN;
        END IF;
    END IF;
    EXECUTE $migration$
-- migration body
CREATE SCHEMA IF NOT EXISTS holdfast;

CREATE TABLE IF NOT EXISTS holdfast.schema_migrations (
    version    integer     NOT NULL PRIMARY KEY,
    name       text        NOT NULL,
    checksum   text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The only clock of the protocol. Tests replace it, so that time can be moved and nobody has to sleep.
CREATE OR REPLACE FUNCTION holdfast.clock() RETURNS timestamptz
LANGUAGE sql VOLATILE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS 'SELECT clock_timestamp()';

-- When this server began to serve; a function of its own for the same reason.
CREATE OR REPLACE FUNCTION holdfast.postgres_started_at() RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS 'SELECT pg_postmaster_start_time()';

-- The ledger: one row a job, and the row is the only truth about it.
--
-- `lane` keeps apart what a claim must be able to skip without reading it row by row: '' for the plain jobs,
-- '!' for suspects (they run in quarantine), one lane for each group, and one for each concurrency limit. A
-- hundred thousand jobs of one busy group at the head of a queue then cost one index probe.
-- Nothing that a beat or a heartbeat changes is indexed, and half of each page stays free: their updates are HOT.
CREATE TABLE IF NOT EXISTS holdfast.jobs (
    id                  uuid        NOT NULL PRIMARY KEY,
    queue               text        COLLATE "C" NOT NULL,
    kind                text        COLLATE "C" NOT NULL,
    args                jsonb       NOT NULL,
    status              text        COLLATE "C" NOT NULL DEFAULT 'queued',
    priority            smallint    NOT NULL DEFAULT 0,
    run_at              timestamptz NOT NULL,
    group_key           text        COLLATE "C",
    unique_key          text        COLLATE "C",
    limit_key           text        COLLATE "C",
    limit_max           integer,
    lane                text        COLLATE "C" NOT NULL GENERATED ALWAYS AS (
        CASE
            WHEN suspect THEN '!'
            WHEN group_key IS NOT NULL THEN 'g' || to_hex(hashtextextended(group_key, 0))
            WHEN limit_key IS NOT NULL THEN 'l' || to_hex(hashtextextended(limit_key, 0))
            ELSE ''
        END) STORED,
    lease               bigint      NOT NULL DEFAULT 0,
    worker_id           uuid,
    attempts            integer     NOT NULL DEFAULT 0,
    max_attempts        integer     NOT NULL DEFAULT 5,
    crashes             integer     NOT NULL DEFAULT 0,
    max_crashes         integer     NOT NULL DEFAULT 3,
    shared_crashes      integer     NOT NULL DEFAULT 0,
    suspect             boolean     NOT NULL DEFAULT false,
    rescues             integer     NOT NULL DEFAULT 0,
    retry_policy        jsonb,
    rescue_policy       text        COLLATE "C" NOT NULL DEFAULT 'requeue',
    timeout             interval,
    silent_after        interval,
    deadline_at         timestamptz,
    heartbeat_at        timestamptz,
    claimed_at          timestamptz,
    finished_at         timestamptz,
    settled_as          text        COLLATE "C",
    cancel_requested_at timestamptz,
    progress            jsonb,
    result              jsonb,
    error               jsonb,
    fingerprint         text        COLLATE "C",
    traceparent         text,
    created_at          timestamptz NOT NULL,
    CONSTRAINT jobs_status CHECK (status IN ('queued', 'running', 'succeeded', 'dead', 'cancelled')),
    CONSTRAINT jobs_priority CHECK (priority BETWEEN -1000 AND 1000),
    CONSTRAINT jobs_rescue_policy CHECK (rescue_policy IN ('requeue', 'dead')),
    CONSTRAINT jobs_settled_as CHECK (settled_as IN ('complete', 'fail', 'release', 'snooze'))
) WITH (fillfactor = 50);

CREATE INDEX IF NOT EXISTS jobs_claim ON holdfast.jobs (queue, kind, lane, priority, run_at, id)
    WHERE status = 'queued';
CREATE INDEX IF NOT EXISTS jobs_running ON holdfast.jobs (worker_id, id)
    WHERE status = 'running';
CREATE INDEX IF NOT EXISTS jobs_finished ON holdfast.jobs (finished_at, id)
    WHERE status IN ('succeeded', 'dead', 'cancelled');
CREATE INDEX IF NOT EXISTS jobs_dead ON holdfast.jobs (fingerprint, id)
    WHERE status = 'dead';
CREATE UNIQUE INDEX IF NOT EXISTS jobs_unique_key ON holdfast.jobs (kind, unique_key)
    WHERE unique_key IS NOT NULL AND status IN ('queued', 'running');
CREATE UNIQUE INDEX IF NOT EXISTS jobs_group_running ON holdfast.jobs (queue, group_key)
    WHERE group_key IS NOT NULL AND status = 'running';

-- What happened to a job besides its happy path, which lives on the row itself.
CREATE TABLE IF NOT EXISTS holdfast.job_events (
    id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id    uuid        NOT NULL,
    at        timestamptz NOT NULL,
    event     text        NOT NULL,
    reason    text,
    lease     bigint      NOT NULL,
    worker_id uuid,
    details   jsonb       NOT NULL DEFAULT '{}',
    CONSTRAINT job_events_event
        CHECK (event IN ('failure', 'crash', 'rescue', 'snooze', 'redrive', 'fenced_late_write'))
);

CREATE INDEX IF NOT EXISTS job_events_job ON holdfast.job_events (job_id, id);
-- end of migration body
    $migration$;
-- The checksum below covers every byte above this line.
    INSERT INTO holdfast.schema_migrations (version, name, checksum)
    VALUES (1, '001_ledger', '395483f2f6bb12ec31265a757db3cf98183b8ead83785f2cc75a54f24e1f6243');
END
$holdfast$;
