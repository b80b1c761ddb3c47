-- How many jobs an action on all that match a filter would meet, for somebody who is about to ask for it: counted up to `max_jobs`,
-- over at most `max_looked` of the newest. Answers {jobs, is_more, last_id, groups}. The filter is that of search_jobs, with a status.
CREATE OR REPLACE FUNCTION holdfast.count_matching_jobs(filter jsonb, max_looked integer DEFAULT 20000) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    _found jsonb := holdfast.search_jobs(filter, NULL, max_looked, max_looked);
    _last  uuid;
BEGIN
    SELECT j.id INTO _last FROM holdfast.jobs j ORDER BY j.id DESC LIMIT 1;
    RETURN jsonb_build_object(
        'jobs', jsonb_array_length(_found -> 'jobs'),
        'is_more', _found ->> 'next' IS NOT NULL,
        'last_id', _last,
        'groups', (SELECT coalesce(jsonb_agg(g ORDER BY g.jobs DESC), '[]') FROM (
            SELECT e ->> 'kind' AS kind, e ->> 'queue' AS queue, count(*) AS jobs
            FROM jsonb_array_elements(_found -> 'jobs') e GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 20) g));
END
$function$;
