-- Give ended jobs another life (dead and cancelled ones), and wake queued ones that wait for a later time.
-- All budgets start anew; the lease grows, so that a zombie of an earlier life stays fenced. A job whose unique key
-- another job has taken meanwhile is skipped. Locks in id order.
-- Verdict: queued | unique_taken | running | succeeded | not_found.
CREATE OR REPLACE FUNCTION holdfast.retry_jobs(ids uuid[], opts jsonb DEFAULT '{}')
RETURNS TABLE (id uuid, verdict text, status text)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $function$
#variable_conflict use_column
DECLARE
    _now timestamptz := holdfast.clock();
    _job record;
    _old text;
BEGIN
    FOR _job IN
        SELECT DISTINCT a.id AS asked, j.id, j.status
        FROM unnest(retry_jobs.ids) AS a (id)
        LEFT JOIN holdfast.jobs j ON j.id = a.id
        ORDER BY a.id
    LOOP
        IF _job.id IS NULL THEN
            RETURN QUERY SELECT _job.asked, 'not_found', NULL::text;
            CONTINUE;
        END IF;
        SELECT j.status INTO _old FROM holdfast.jobs j WHERE j.id = _job.id FOR UPDATE;
        IF _old IN ('running', 'succeeded') THEN
            RETURN QUERY SELECT _job.id, _old, _old;
            CONTINUE;
        END IF;
        BEGIN
            UPDATE holdfast.jobs AS j
            SET status = 'queued', lease = j.lease + 1, run_at = least(j.run_at, _now), worker_id = NULL, settled_as = NULL,
                attempts = 0, crashes = 0, shared_crashes = 0, suspect = false, rescues = 0,
                cancel_requested_at = NULL, finished_at = NULL, fingerprint = NULL, progress = NULL
            WHERE j.id = _job.id AND _old IN ('dead', 'cancelled');
            IF FOUND THEN
                INSERT INTO holdfast.job_events (job_id, at, event, reason, lease, details)
                SELECT j.id, _now, 'redrive', coalesce(opts ->> 'reason', 'retry'), j.lease, jsonb_build_object('was', _old)
                FROM holdfast.jobs j WHERE j.id = _job.id;
            ELSE
                UPDATE holdfast.jobs AS j SET run_at = least(j.run_at, _now) WHERE j.id = _job.id;
            END IF;
            RETURN QUERY SELECT _job.id, 'queued', 'queued';
        EXCEPTION WHEN unique_violation THEN
            RETURN QUERY SELECT _job.id, 'unique_taken', _old;
        END;
    END LOOP;
END
$function$;
