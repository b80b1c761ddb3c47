-- Write one job: the short form of enqueue_many, for callers in any language.
-- opts: {priority, run_at, delay (seconds), unique_key, group_key, limit_key, traceparent} and the fields of a
-- policy (see enqueue_many).
--
-- A plain job, due now, without keys, is written at once: a third of the time. Whatever needs a closer look, or was
-- written already, goes the way of many.
CREATE OR REPLACE FUNCTION holdfast.enqueue(
    id uuid, queue text, kind text, args jsonb, opts jsonb DEFAULT '{}'
) RETURNS TABLE (job_id uuid, created boolean)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    _now      timestamptz;
    _timeout  double precision := CASE WHEN opts ? 'timeout' THEN (opts ->> 'timeout')::double precision ELSE 3600 END;
    _attempts numeric := coalesce((opts ->> 'max_attempts')::numeric, 5);
    _crashes  numeric := coalesce((opts ->> 'max_crashes')::numeric, 3);
BEGIN
    IF opts - ARRAY['timeout', 'max_attempts', 'max_crashes', 'retry', 'traceparent'] = '{}'
        AND (_timeout IS NULL OR (_timeout > 0 AND _timeout <= 31622400))
        AND _attempts BETWEEN 1 AND 1000000 AND _crashes BETWEEN 1 AND 1000000 AND scale(_attempts) + scale(_crashes) = 0
        AND id IS NOT NULL AND length(queue) BETWEEN 1 AND 200 AND length(kind) BETWEEN 1 AND 200
        AND jsonb_typeof(args) = 'object' AND pg_column_size(args) <= 262144 THEN
        _now := holdfast.clock();
        INSERT INTO holdfast.jobs (id, queue, kind, args, run_at, max_attempts, max_crashes, retry_policy, timeout,
            traceparent, created_at)
        VALUES (enqueue.id, enqueue.queue, enqueue.kind, enqueue.args, _now, _attempts, _crashes, opts -> 'retry',
                make_interval(secs => _timeout), opts ->> 'traceparent', _now)
        ON CONFLICT DO NOTHING;
        IF FOUND THEN
            job_id := enqueue.id;
            created := true;
            RETURN NEXT;
            RETURN;
        END IF;
    END IF;
    RETURN QUERY
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
    ) AS e;
END
$function$;
