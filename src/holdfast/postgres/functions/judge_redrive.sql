-- What became of letters that were sent, as far as it is known: a job succeeded, or is dead (or cancelled) again; a message came back
-- as a new letter. Of messages that do not come back nothing is ever known. One bounded step; returns how many were judged.
CREATE OR REPLACE FUNCTION holdfast.judge_redrive(redrive uuid, max_letters integer DEFAULT 5000) RETURNS integer
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    WITH judged AS (
        UPDATE holdfast.redrive_letters AS l
        SET status = CASE WHEN k.back IS NOT NULL THEN 'returned' ELSE 'succeeded' END,
            detail = CASE WHEN k.back = k.fingerprint THEN 'the same cause' ELSE coalesce(k.back, '') END,
            at = (SELECT holdfast.clock())
        FROM (
            SELECT s.position, d.fingerprint,
                   CASE WHEN j.status IN ('dead', 'cancelled') THEN coalesce(j.fingerprint, j.status) ELSE b.fingerprint END AS back,
                   j.status = 'succeeded' AS is_good
            FROM holdfast.redrive_letters s
            JOIN holdfast.dead_letters d ON d.id = s.letter_id
            -- What somebody else calls a job's id need not be a uuid.
            LEFT JOIN holdfast.jobs j ON j.id = CASE d.source WHEN 'job' THEN d.job_id::uuid END
            LEFT JOIN LATERAL (SELECT a.fingerprint FROM holdfast.dead_letters a WHERE a.earlier_id = d.id LIMIT 1) b
                   ON d.source = 'sqs'
            WHERE s.redrive_id = redrive AND s.status = 'sent'
              AND (j.status IN ('succeeded', 'dead', 'cancelled') OR b.fingerprint IS NOT NULL)
            LIMIT max_letters) k
        WHERE l.redrive_id = redrive AND l.position = k.position AND l.status = 'sent'
        RETURNING 1
    )
    SELECT count(*)::integer FROM judged;
$function$;
