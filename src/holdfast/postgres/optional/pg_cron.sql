-- Optional: stuck jobs are taken back inside Postgres too, by pg_cron, even when every process of Holdfast is gone.
-- To apply it: CREATE EXTENSION pg_cron (Supabase: Integrations > Cron), then run this file, by psql or in an SQL editor.
-- It may be run any number of times; without the extension, or our schema, it does nothing and says so. Off by default,
-- since a database that only waits for its workers needs none of it. To take it back:
--   SELECT cron.unschedule(jobname) FROM cron.job WHERE jobname LIKE 'holdfast-%';
--
-- The sweep takes its turn like every other process's: nobody sweeps while the workers do, and the brake holds for it too.
-- It runs each 10 s where pg_cron knows seconds (1.5 and newer), else each minute. What stays unseen: a database that is
-- down itself, and every alert, which only processes can send.
DO $holdfast$
DECLARE
    _version text := (SELECT e.extversion FROM pg_catalog.pg_extension e WHERE e.extname = 'pg_cron');
    _often   text;
BEGIN
    IF _version IS NULL THEN
        RAISE NOTICE 'the extension pg_cron is not there: nothing was scheduled';
        RETURN;
    END IF;
    IF to_regprocedure('holdfast.rescue_stale_jobs(interval, integer, jsonb)') IS NULL THEN
        RAISE NOTICE 'the schema of Holdfast is not there: nothing was scheduled; first: holdfast migrate up';
        RETURN;
    END IF;
    _often := CASE WHEN string_to_array(substring(_version FROM '\d+\.\d+'), '.')::integer[] >= ARRAY[1, 5] THEN '10 seconds' ELSE '* * * * *' END;
    PERFORM cron.schedule('holdfast-sweep', _often, $command$
        DO $do$
        BEGIN
            IF EXISTS (SELECT FROM holdfast.begin_sweep('mark_workers_gone', '10 seconds')) THEN
                PERFORM holdfast.mark_workers_gone();
                PERFORM holdfast.rescue_stale_jobs();
            END IF;
        END
        $do$
    $command$);
    -- pg_cron keeps a line for each run, for ever.
    PERFORM cron.schedule('holdfast-forget-runs', '17 3 * * *', $command$
        DELETE FROM cron.job_run_details d USING cron.job j
        WHERE j.jobid = d.jobid AND j.jobname LIKE 'holdfast-%' AND d.end_time < now() - interval '1 day'
    $command$);
END
$holdfast$;
