-- How many jobs an action on all that match a filter would meet, for somebody who is about to ask for it. At most `max_looked` jobs in
-- the filter's status are looked at; where there are more, `is_more` says so. Answers {jobs, is_more, last_id, groups}: `last_id` is where
-- the ids stand now, `groups` how many of which kind and queue. The filter is that of search_jobs, with a status.
CREATE OR REPLACE FUNCTION holdfast.count_matching_jobs(filter jsonb, max_looked integer DEFAULT 10000) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $function$
DECLARE
    _status text := filter ->> 'status';
    _answer jsonb;
BEGIN
    WITH looked AS MATERIALIZED (
        (SELECT j.kind, j.queue, j.args, j.error, j.fingerprint, j.unique_key, j.group_key, j.limit_key, j.created_at
         FROM holdfast.jobs j WHERE j.status = 'queued' AND _status = 'queued' LIMIT max_looked)
        UNION ALL
        (SELECT j.kind, j.queue, j.args, j.error, j.fingerprint, j.unique_key, j.group_key, j.limit_key, j.created_at
         FROM holdfast.jobs j WHERE j.status = 'running' AND _status = 'running' LIMIT max_looked)
        UNION ALL
        (SELECT j.kind, j.queue, j.args, j.error, j.fingerprint, j.unique_key, j.group_key, j.limit_key, j.created_at
         FROM holdfast.jobs j
         WHERE j.status = 'dead' AND _status = 'dead'
           AND (filter ->> 'fingerprint' IS NULL OR j.fingerprint = filter ->> 'fingerprint') LIMIT max_looked)
        UNION ALL
        (SELECT j.kind, j.queue, j.args, j.error, j.fingerprint, j.unique_key, j.group_key, j.limit_key, j.created_at
         FROM (SELECT n.* FROM holdfast.jobs n WHERE _status NOT IN ('queued', 'running', 'dead')
               ORDER BY n.id DESC LIMIT max_looked) j
         WHERE j.status = _status)
    ), groups AS (
        SELECT l.kind, l.queue, count(*) AS jobs
        FROM looked l
        WHERE (filter ->> 'queue' IS NULL OR l.queue = filter ->> 'queue')
          AND (filter ->> 'kind' IS NULL OR l.kind = filter ->> 'kind')
          AND (filter ->> 'fingerprint' IS NULL OR l.fingerprint = filter ->> 'fingerprint')
          AND (filter ->> 'error' IS NULL OR position(lower(filter ->> 'error')
               IN lower(concat_ws(': ', l.error ->> 'type', l.error ->> 'message'))) > 0)
          AND (filter ->> 'key' IS NULL OR filter ->> 'key' IN (l.unique_key, l.group_key, l.limit_key))
          AND (filter -> 'args' IS NULL OR l.args @> (filter -> 'args'))
          AND (filter ->> 'created_after' IS NULL OR l.created_at >= (filter ->> 'created_after')::timestamptz)
          AND (filter ->> 'created_before' IS NULL OR l.created_at < (filter ->> 'created_before')::timestamptz)
        GROUP BY l.kind, l.queue
    )
    SELECT jsonb_build_object(
        'jobs', coalesce((SELECT sum(g.jobs) FROM groups g), 0),
        'is_more', (SELECT count(*) FROM looked) >= max_looked
            OR (_status NOT IN ('queued', 'running', 'dead')
                AND EXISTS (SELECT FROM holdfast.jobs j ORDER BY j.id DESC OFFSET max_looked LIMIT 1)),
        'last_id', (SELECT j.id FROM holdfast.jobs j ORDER BY j.id DESC LIMIT 1),
        'groups', (SELECT coalesce(jsonb_agg(g ORDER BY g.jobs DESC, g.kind, g.queue), '[]')
                   FROM (SELECT t.* FROM groups t ORDER BY t.jobs DESC LIMIT 20) g))
    INTO _answer;
    RETURN _answer;
END
$function$;
