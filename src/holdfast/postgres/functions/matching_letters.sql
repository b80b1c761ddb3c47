-- The dead letters that a filter means and that are there: {ids: [...], fingerprint, queue, source: job | sqs, kind, cause,
-- newer: span, older: span, gone: true for those too that are there no longer}, all of which must hold; what is not given does not
-- matter. `ids` may be ids of letters or of jobs.
CREATE OR REPLACE FUNCTION holdfast.matching_letters(filter jsonb) RETURNS SETOF holdfast.dead_letters
LANGUAGE sql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT d.*
    FROM holdfast.dead_letters d
    WHERE (d.gone_at IS NULL OR (filter ->> 'gone')::boolean)
      AND (filter -> 'ids' IS NULL OR d.id::text IN (SELECT jsonb_array_elements_text(filter -> 'ids'))
           OR d.job_id IN (SELECT jsonb_array_elements_text(filter -> 'ids')))
      AND (filter ->> 'fingerprint' IS NULL OR d.fingerprint = filter ->> 'fingerprint')
      AND (filter ->> 'queue' IS NULL OR d.queue = filter ->> 'queue')
      AND (filter ->> 'source' IS NULL OR d.source = filter ->> 'source')
      AND (filter ->> 'kind' IS NULL OR d.kind = filter ->> 'kind')
      AND (filter ->> 'cause' IS NULL OR d.cause = filter ->> 'cause')
      AND (filter ->> 'newer' IS NULL
           OR d.first_seen_at > (SELECT holdfast.clock()) - (filter ->> 'newer')::interval)
      AND (filter ->> 'older' IS NULL
           OR d.first_seen_at <= (SELECT holdfast.clock()) - (filter ->> 'older')::interval);
$function$;
