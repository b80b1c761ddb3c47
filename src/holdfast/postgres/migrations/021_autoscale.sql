-- Holdfast migration 021_autoscale
-- To apply it by hand: paste the whole file into a SQL editor and run it, or: psql -f 021_autoscale.sql
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
        IF EXISTS (SELECT FROM holdfast.schema_migrations WHERE version = 21) THEN
            RETURN;
        END IF;
    END IF;
    EXECUTE $migration$
-- migration body
-- For autoscalers: how many slots each queue could use now, and why. Its columns stay as they are: deployments ask for them.
--
--     SELECT coalesce(sum(wanted), 0) FROM holdfast.autoscale WHERE queue IN ('mail', 'reports')
--
-- wanted: what runs, and, where something is due and the queue is not paused, what waits. Waiting jobs are counted to a bound
-- (health_queues), those for later among them: a queue of which nothing is due wants no more than what runs.
DROP VIEW IF EXISTS holdfast.autoscale;
CREATE VIEW holdfast.autoscale WITH (security_invoker = true) AS
SELECT q.name AS queue, q.paused, q.queued, q.running, q.due_for AS oldest_due_seconds,
       q.running + CASE WHEN q.due_for IS NULL OR q.paused THEN 0 ELSE q.queued END AS wanted
FROM holdfast.health_queues() AS h (report)
CROSS JOIN LATERAL jsonb_to_recordset(h.report -> 'queues')
     AS q (name text, paused boolean, queued bigint, running bigint, due_for double precision);

SELECT holdfast.secure_schema();
-- end of migration body
    $migration$;
-- The checksum below covers every byte above this line.
    INSERT INTO holdfast.schema_migrations (version, name, checksum)
    VALUES (21, '021_autoscale', '93c60dcc6c319bbd5897664e380048680aa77ba18264b8485d311cd3a6eb196c');
END
$holdfast$;
