-- Dead letters by cause, as far as somebody must be told: those with letters that nobody was told of yet, and those whose
-- incident is open. At most 500 groups of the first, the rest of which comes the next time, and 1,000 of the second, in the
-- order in which open incidents are listed: none that is listed may lack its group, which would look as if it were over.
-- Counts go to 10,000 in each.
CREATE OR REPLACE FUNCTION holdfast.dead_letter_groups(max_groups integer DEFAULT 500)
RETURNS TABLE (
    fingerprint text, queue text, source text, kind text, cause text, untold bigint, present bigint, oldest_at timestamptz,
    sample_job_id text)
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    WITH wanted AS (
        (SELECT DISTINCT u.fingerprint FROM holdfast.dead_letters u WHERE u.incident_id IS NULL
         ORDER BY u.fingerprint LIMIT max_groups)
        UNION
        (SELECT i.key FROM holdfast.incidents i WHERE i.status = 'open' AND i.kind = 'dead_letters'
         ORDER BY i.opened_at, i.key LIMIT 1000)
    )
    SELECT w.fingerprint, s.queue, s.source, s.kind, s.cause,
           (SELECT count(*) FROM (SELECT FROM holdfast.dead_letters u
                                  WHERE u.incident_id IS NULL AND u.fingerprint = w.fingerprint LIMIT 10000) c),
           (SELECT count(*) FROM (SELECT FROM holdfast.dead_letters p
                                  WHERE p.gone_at IS NULL AND p.fingerprint = w.fingerprint LIMIT 10000) c),
           (SELECT min(o.sent_at) FROM (SELECT p.sent_at FROM holdfast.dead_letters p
                                        WHERE p.gone_at IS NULL AND p.fingerprint = w.fingerprint LIMIT 1000) o),
           s.job_id
    FROM wanted w
    LEFT JOIN LATERAL (
        SELECT d.queue, d.source, d.kind, d.cause, d.job_id
        FROM holdfast.dead_letters d
        WHERE d.fingerprint = w.fingerprint AND (d.gone_at IS NULL OR d.incident_id IS NULL)
        LIMIT 1) s ON true;
$function$;
