-- Give jobs of a redrive another life: the next ones that wait, in one transaction with what is written about it, so that each is
-- given one life, whoever dies when. Only whoever holds the redrive may. Returns how many were looked at.
CREATE OR REPLACE FUNCTION holdfast.redrive_jobs(redrive uuid, owner uuid, max_letters integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _now  timestamptz := holdfast.clock();
    _by   text;
    _ids  uuid[];
    _jobs uuid[];
BEGIN
    SELECT r.requested_by INTO _by FROM holdfast.redrives r
    WHERE r.id = redrive AND r.owner = redrive_jobs.owner AND r.finished_at IS NULL
    FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    SELECT array_agg(n.letter_id), array_agg(n.job_id)
    INTO _ids, _jobs
    FROM (SELECT l.letter_id, CASE d.source WHEN 'job' THEN d.job_id::uuid END AS job_id
          FROM holdfast.redrive_letters l
          JOIN holdfast.dead_letters d ON d.id = l.letter_id
          WHERE l.redrive_id = redrive AND l.status = 'waiting' AND d.source = 'job'
          ORDER BY l.position
          LIMIT max_letters) n;
    IF _ids IS NULL THEN
        RETURN 0;
    END IF;
    WITH verdicts AS MATERIALIZED (
        -- A job that somebody retried meanwhile is not given a life again: it has one.
        SELECT v.id, v.verdict
        FROM holdfast.retry_jobs(
            ARRAY(SELECT j.id FROM holdfast.jobs j WHERE j.id = ANY (_jobs) AND j.status = 'dead'),
            jsonb_build_object('reason', 'redrive')) v
    ), written AS (
        UPDATE holdfast.redrive_letters AS l
        SET status = CASE WHEN v.verdict = 'queued' THEN 'sent' ELSE 'skipped' END, at = _now,
            detail = CASE WHEN v.verdict = 'queued' THEN '' ELSE coalesce(v.verdict, 'no longer dead') END
        FROM holdfast.dead_letters d
        LEFT JOIN verdicts v ON v.id = CASE d.source WHEN 'job' THEN d.job_id::uuid END
        WHERE l.redrive_id = redrive AND l.letter_id = ANY (_ids) AND d.id = l.letter_id
        RETURNING l.letter_id, l.status
    )
    UPDATE holdfast.dead_letters AS d
    SET gone_at = CASE WHEN w.status = 'sent' THEN _now ELSE d.gone_at END,
        outcome = CASE WHEN w.status = 'sent' THEN 'redriven' ELSE d.outcome END,
        outcome_at = CASE WHEN w.status = 'sent' THEN _now ELSE d.outcome_at END,
        outcome_by = CASE WHEN w.status = 'sent' THEN _by ELSE d.outcome_by END
    FROM written w
    WHERE d.id = w.letter_id;
    RETURN cardinality(_ids);
END
$function$;
