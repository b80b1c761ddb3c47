-- Write one job: the short form of enqueue_many, for callers in any language.
-- opts: {priority, run_at, delay (seconds), unique_key, group_key, limit_key, traceparent} and the fields of a
-- policy (see enqueue_many).
CREATE OR REPLACE FUNCTION holdfast.enqueue(
    id uuid, queue text, kind text, args jsonb, opts jsonb DEFAULT '{}'
) RETURNS TABLE (job_id uuid, created boolean)
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT e.id, e.created
    FROM holdfast.enqueue_many(
        ARRAY[enqueue.id], ARRAY[enqueue.queue], ARRAY[enqueue.kind], ARRAY[enqueue.args],
        ARRAY[(enqueue.opts ->> 'priority')::smallint],
        ARRAY[(enqueue.opts ->> 'run_at')::timestamptz],
        ARRAY[make_interval(secs => (enqueue.opts ->> 'delay')::double precision)],
        ARRAY[enqueue.opts ->> 'unique_key'],
        ARRAY[enqueue.opts ->> 'group_key'],
        ARRAY[enqueue.opts ->> 'limit_key'],
        NULL,
        ARRAY[enqueue.opts ->> 'traceparent'],
        jsonb_build_object('policies', jsonb_build_array(enqueue.opts))
    ) AS e
$function$;
