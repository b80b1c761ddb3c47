-- Add what a worker has counted since it last told: for each minute, queue and kind how many of its runs ended how, how long
-- jobs waited and ran in seconds, and histograms of both. Each worker numbers what it tells, so a repetition after a lost
-- answer adds nothing. Besides the minute there is a row of totals, with 'infinity' for its minute: metrics must only grow.
-- A row that somebody holds locked is waited for half a second: counting must not hold up a worker. False: known already.
CREATE OR REPLACE FUNCTION holdfast.note_job_stats(worker_id uuid, number bigint, counts jsonb) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '500ms'
AS $function$
DECLARE
    _now timestamptz := holdfast.clock();
BEGIN
    IF EXISTS (SELECT FROM holdfast.workers w WHERE w.id = note_job_stats.worker_id AND w.stats_number >= number) THEN
        RETURN false;
    END IF;
    INSERT INTO holdfast.job_stats AS s (minute, queue, kind, succeeded, failed, dead, cancelled, waited, ran, waits, runs, last_at)
    SELECT p.minute, c.queue, c.kind, c.succeeded, c.failed, c.dead, c.cancelled, c.waited, c.ran, c.waits, c.runs, _now
    FROM jsonb_to_recordset(counts) AS c (
        queue text, kind text, succeeded bigint, failed bigint, dead bigint, cancelled bigint,
        waited double precision, ran double precision, waits bigint[], runs bigint[])
    CROSS JOIN (VALUES (date_trunc('minute', _now)), ('infinity'::timestamptz)) AS p (minute)
    ORDER BY p.minute, c.queue, c.kind
    ON CONFLICT (minute, queue, kind) DO UPDATE
    SET succeeded = s.succeeded + EXCLUDED.succeeded,
        failed = s.failed + EXCLUDED.failed,
        dead = s.dead + EXCLUDED.dead,
        cancelled = s.cancelled + EXCLUDED.cancelled,
        waited = s.waited + EXCLUDED.waited,
        ran = s.ran + EXCLUDED.ran,
        waits = ARRAY(SELECT a.n + b.n FROM unnest(s.waits) WITH ORDINALITY AS a (n, i)
                      JOIN unnest(EXCLUDED.waits) WITH ORDINALITY AS b (n, i) USING (i) ORDER BY i),
        runs = ARRAY(SELECT a.n + b.n FROM unnest(s.runs) WITH ORDINALITY AS a (n, i)
                     JOIN unnest(EXCLUDED.runs) WITH ORDINALITY AS b (n, i) USING (i) ORDER BY i),
        last_at = EXCLUDED.last_at;
    UPDATE holdfast.workers AS w SET stats_number = number WHERE w.id = note_job_stats.worker_id;
    RETURN true;
END
$function$;
